"""The models that quantile regression trains for each target: a network of its size, or boosted trees."""

from __future__ import annotations

import copy
from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.model_selection import KFold
from torch import nn

from sfumato.attacks.fits import Fit
from sfumato.data.records import Records
from sfumato.models.base import ModelFamily
from sfumato.seeding import derive, stream
from sfumato.types import Floats, Ints, Rows

SCALE_FLOOR = 1e-2
BATCH = 64
ASKED_AT_ONCE = 512
PATIENCE = 8
FOLDS = 5


def exceedance_levels(levels: int) -> Floats:
    """Falling shares of non-members above each quantile, log-spaced from 0.99 to 0.01: [levels]."""
    return np.geomspace(0.99, 0.01, levels)


def pinball_loss(predicted: torch.Tensor, scores: torch.Tensor, below: torch.Tensor) -> torch.Tensor:
    """Mean pinball loss: [b, levels], [b] and the shares below each quantile [levels] to a scalar.

    Koenker and Bassett; for u = score - quantile it is max(q u, (q - 1) u).
    """
    u = scores[:, None] - predicted
    return torch.maximum(below * u, (below - 1) * u).mean()


def gaussian_loss(predicted: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
    """Mean negative log-likelihood of N(mu, sigma^2) without its constant; `predicted` [b, 2] is mu and log sigma."""
    location, log_scale = predicted[:, 0], predicted[:, 1].clamp(float(np.log(SCALE_FLOOR)), 10.0)
    return (log_scale + 0.5 * ((scores - location) / log_scale.exp()) ** 2).mean()


@dataclass(frozen=True, eq=False, kw_only=True)
class _QuantileFit(Fit):
    """A regression of the target's scores on records that it was not trained on, evaluated on all records.

    Args:
        records: all n records.
        labels: int [n].
        public: int [k] positions of the known non-members.
        scores: float64 [k] of the target on them.
        exceedance: [levels] for quantiles; empty for the Gaussian head.
        seed: of weights, order, folds.
    """

    records: Records
    labels: Ints
    public: Rows
    scores: Floats
    exceedance: Floats
    seed: int

    def spec(self) -> dict[str, Any]:
        """What determines the result; the records count by their fingerprint."""
        names = ("labels", "public", "scores", "exceedance", "seed")
        return {"records": self.records.fingerprint} | {name: getattr(self, name) for name in names}

    def run(self) -> dict[str, Floats]:
        center, spread = float(self.scores.mean()), float(self.scores.std()) or 1.0
        outputs = self._predict((self.scores - center) / spread)
        if len(self.exceedance):
            return {"quantiles": center + spread * outputs}
        return {
            "location": center + spread * outputs[:, 0],
            "scale": spread * np.maximum(outputs[:, 1], SCALE_FLOOR),
        }

    @abstractmethod
    def _predict(self, scores: Floats) -> Floats:
        """Standardised `scores` [k] to quantiles [n, levels], or location and scale [n, 2], of all records."""


@dataclass(frozen=True, eq=False, kw_only=True)
class BoostedFit(_QuantileFit):
    """Gradient-boosted trees on record and one-hot label.

    The Gaussian head fits the mean, then the absolute residual of held-out folds times sqrt(pi/2).
    """

    def _predict(self, scores: Floats) -> Floats:
        features = self._features()
        seen = features[self.public]
        if len(self.exceedance):
            fits = [_trees("quantile", self.seed, 1 - e).fit(seen, scores) for e in self.exceedance]
            return np.stack([fit.predict(features) for fit in fits], axis=1)
        width = np.abs(scores - _held_out(seen, scores, self.seed)) * np.sqrt(np.pi / 2)
        fits = [_trees("squared_error", self.seed).fit(seen, values) for values in (scores, width)]
        return np.stack([fit.predict(features) for fit in fits], axis=1)

    def _features(self) -> Floats:
        flat = self.records.take(np.arange(len(self.labels))).numpy().reshape(len(self.labels), -1)
        return np.concatenate([flat, np.eye(int(self.labels.max()) + 1)[self.labels]], axis=1)


def _trees(loss: Any, seed: int, quantile: float | None = None) -> HistGradientBoostingRegressor:
    options: dict[str, Any] = {"max_iter": 60, "max_leaf_nodes": 15, "min_samples_leaf": 10, "early_stopping": False}
    return HistGradientBoostingRegressor(
        loss=loss, quantile=quantile, random_state=np.random.RandomState(seed % 2**32), **options
    )


def _held_out(features: Floats, scores: Floats, seed: int) -> Floats:
    predicted = np.empty_like(scores)
    folds = KFold(FOLDS, shuffle=True, random_state=np.random.RandomState(derive(seed, "folds") % 2**32))
    for kept, left in folds.split(features):
        predicted[left] = _trees("squared_error", seed).fit(features[kept], scores[kept]).predict(features[left])
    return predicted


@dataclass(frozen=True, eq=False, kw_only=True)
class NetworkFit(_QuantileFit):
    """A network of the target's kind and size; Adam, a fifth of the records held out, the best state kept.

    Args:
        model: the kind of network.
        epochs: most passes over the records.
    """

    model: ModelFamily
    epochs: int

    def spec(self) -> dict[str, Any]:
        return super().spec() | {"model": self.model, "epochs": self.epochs}

    def _predict(self, scores: Floats) -> Floats:
        with torch.random.fork_rng(devices=[]):  # families draw weights and dropout from torch's global generator
            torch.manual_seed(self.seed)
            network = self.model.build(self.records.shape, len(self.exceedance) or 2)
            self._train(network, torch.from_numpy(scores).float())
        network.eval()
        rows = np.arange(len(self.labels))
        with torch.no_grad():
            parts = [
                network(self.records.take(rows[i : i + ASKED_AT_ONCE])) for i in range(0, len(rows), ASKED_AT_ONCE)
            ]
        outputs = torch.cat(parts).double()
        if len(self.exceedance):
            return outputs.numpy()
        return torch.stack([outputs[:, 0], outputs[:, 1].clamp(max=10.0).exp()], dim=1).numpy()

    def _train(self, network: nn.Module, scores: torch.Tensor) -> None:
        order = stream(self.seed, "held-out").permutation(len(self.public))
        held, kept = order[: len(order) // 5], order[len(order) // 5 :]
        optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, weight_decay=1e-4)
        best, state, waited = float("inf"), copy.deepcopy(network.state_dict()), 0
        for epoch in range(self.epochs):
            self._epoch(network, optimizer, stream(self.seed, "order", epoch).permutation(kept), scores)
            loss = self._held_out_loss(network, held, scores)
            if loss < best:
                best, state, waited = loss, copy.deepcopy(network.state_dict()), 0
            else:
                waited += 1
            if waited >= PATIENCE:
                break
        network.load_state_dict(state)

    def _epoch(self, network: nn.Module, optimizer: torch.optim.Optimizer, rows: Rows, scores: torch.Tensor) -> None:
        network.train()
        for batch in np.array_split(rows, max(1, len(rows) // BATCH)):
            optimizer.zero_grad()
            self._loss(network(self.records.take(self.public[batch])), scores[batch]).backward()
            optimizer.step()

    def _held_out_loss(self, network: nn.Module, rows: Rows, scores: torch.Tensor) -> float:
        network.eval()
        with torch.no_grad():
            return float(self._loss(network(self.records.take(self.public[rows])), scores[rows]))

    def _loss(self, predicted: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        if len(self.exceedance):
            return pinball_loss(predicted, scores, torch.from_numpy(1 - self.exceedance).float())
        return gaussian_loss(predicted, scores)
