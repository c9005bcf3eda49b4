"""Whitening of the input's channels by statistics that are released once with Gaussian noise."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple

import torch
from torch import nn

from sfumato.accounting.mechanisms.base import Mechanism
from sfumato.accounting.mechanisms.gaussian import Gaussian
from sfumato.errors import NotPrivateError, UsageError
from sfumato.models.channel_whitening import ChannelWhitening
from sfumato.models.features.fixed_norm import of_norm
from sfumato.private.noise.source import NoiseSource
from sfumato.private.plan import Plan
from sfumato.training.defence import Defence
from sfumato.training.task import PublicScaling, Task
from sfumato.validate import at_least, in_range, positive

SENSITIVITY = math.sqrt(2)
UNIT = 1 - 1e-6  # the norm of a record in the sums: rounding must not lift it above 1


@dataclass(frozen=True, kw_only=True)
class PrivateWhitening(Defence):
    """Puts a whitening of the channels in front of the network, fitted through one Gaussian mechanism.

    DP-SGD finds a good classifier in few noisy steps only if no direction of the input dwarfs the others. Second
    moments of the channels, released once over all records ("Analyze Gauss"), tell how to even them out; the release
    is composed with the steps of the private update that this defence is wrapped around.

    Sensitivity. Write a record as a [channels, positions], scaled to norm 1 (or 0), and a_p for its column p. It adds
    (a, sum_p a_p a_p^T) to the released sums. The first part has norm at most 1. The second is a sum of matrices of
    Frobenius norm |a_p|^2, so its norm is at most sum_p |a_p|^2 = |a|^2 = 1; of the symmetric matrix only the upper
    triangle is released, which is no longer. Together: at most sqrt(1 + 1) = sqrt(2) when a record is added or
    removed (or set to zero). Replacing one by another moves the sums by twice that at most, which is how the
    accountant reads REPLACE_ONE.

    The number of records is not used: the trace of the second moments counts them, with noise. A record that is not
    finite counts as zeros.

    Args:
        noise_multiplier: standard deviation of the noise over sqrt(2), above 0.
        exponent: channels along a direction of variance v are divided by (v + regularisation)^exponent; 0.5 whitens.
        regularisation: beside the share of all variance that a direction has, above 0.
        keep: directions that are kept, those of largest variance; None for all.
        norm: L2 norm that each record has afterwards, above 0.
    """

    name: ClassVar[str] = "private-whitening"
    family: ClassVar[str] = "formal"
    reference: ClassVar[str] = "dwork2014analyze"
    summary: ClassVar[str] = "Whitens the input's channels by moments released with noise; wrap it around dpsgd."
    bibtex: ClassVar[str] = """@inproceedings{dwork2014analyze,
  author = {Dwork, Cynthia and Talwar, Kunal and Thakurta, Abhradeep and Zhang, Li},
  title = {Analyze {Gauss}: Optimal Bounds for Privacy-Preserving Principal Component Analysis},
  booktitle = {ACM Symposium on Theory of Computing},
  pages = {11--20},
  year = {2014}
}"""

    noise_multiplier: float = 10.0
    exponent: float = 0.5
    regularisation: float = 0.01
    keep: int | None = None
    norm: float = 45.8

    def __post_init__(self) -> None:
        positive("noise_multiplier", self.noise_multiplier)
        in_range("exponent", self.exponent, 0, 1)
        positive("regularisation", self.regularisation)
        positive("norm", self.norm)
        if self.keep is not None:
            at_least("keep", self.keep, 1)

    def configure(self, task: Task) -> Task:
        """No other scaling: records have one norm in front of the layer and behind it."""
        if task.augmentation:
            raise UsageError(
                f"Expected no augmentation behind a fitted layer, got {task.augmentation}.",
                remedy="Leave `augmentation` out; the layer is applied once, before training.",
            )
        return replace(task, standardise=False, scaling=PublicScaling())

    def stages(self, plan: Plan) -> tuple[Mechanism, ...]:
        if plan.max_records_per_unit > 1:
            raise NotPrivateError(
                f"Expected units of one record for {self.name}, got {plan.unit_text}.",
                remedy='Protect single records with `level="example"`, or leave it out.',
            )
        return (Gaussian(noise_multiplier=self.noise_multiplier, steps=1, adjacency=plan.adjacency),)

    def front(self, shape: tuple[int, ...]) -> nn.Module:
        return ChannelWhitening(shape, self.keep or (shape[0] if shape else 1), self.norm)

    def fit_front(self, layer: nn.Module, batches: Iterable[torch.Tensor], plan: Plan, source: NoiseSource) -> None:
        assert isinstance(layer, ChannelWhitening)  # as `front` made it
        sums = sums_over(batches, layer.mean.shape)
        noisy = released(sums, self.noise_multiplier * SENSITIVITY, plan, source)
        found = whitening(noisy, self.exponent, self.regularisation)
        layer.load_state_dict({"mean": found.mean, "matrix": found.matrix[: len(layer.matrix)]})


class Moments(NamedTuple):
    """Sums over records: `first` [channels, positions] and `second` [channels, channels], float64."""

    first: torch.Tensor
    second: torch.Tensor


class Whitening(NamedTuple):
    """What to subtract, [channels, positions], and the map, [directions, channels], of largest variance first."""

    mean: torch.Tensor
    matrix: torch.Tensor


def sums_over(batches: Iterable[torch.Tensor], shape: tuple[int, ...]) -> Moments:
    """The sums of a and of sum_p a_p a_p^T; no record adds more than sqrt(2) to both together.

    Args:
        batches: [b, channels, ...] each.
        shape: channels and positions.
    """
    first, second = torch.zeros(shape, dtype=torch.float64), torch.zeros(shape[0], shape[0], dtype=torch.float64)
    for batch in batches:
        finite = batch.flatten(1).isfinite().all(dim=1)
        rows = torch.where(finite.view(-1, *(1 for _ in batch.shape[1:])), batch, 0.0)
        a = of_norm(_without_overflow(rows), UNIT).reshape(-1, *shape)
        first += a.sum(dim=0, dtype=torch.float64)
        columns = a.transpose(0, 1).reshape(shape[0], -1)
        second += columns @ columns.T
    return Moments(first, second)


def _without_overflow(rows: torch.Tensor) -> torch.Tensor:
    """Rows over their largest entry: the norm of what is left cannot overflow."""
    largest = rows.abs().flatten(1).amax(dim=1).clamp_min(torch.finfo(rows.dtype).tiny)
    return rows / largest.view(-1, *(1 for _ in rows.shape[1:]))


def released(sums: Moments, std: float, plan: Plan, source: NoiseSource) -> Moments:
    """The sums with noise on each entry, drawn once for the two halves of the symmetric matrix."""
    upper = torch.triu_indices(*sums.second.shape)
    vector = torch.cat([sums.first.flatten(), sums.second[upper[0], upper[1]]])
    slack = plan.noise.sensitivity_slack(len(vector), std) / SENSITIVITY
    if not slack < 1:
        raise NotPrivateError(
            f"Expected rounding to take less than the bound of a record, got {slack:.2g} of it for {len(vector)} sums.",
            remedy="Use a finer grid for the noise.",
        )
    vector = plan.noise.add((vector * (1 - slack)).contiguous(), std, source)
    second = torch.zeros_like(sums.second)
    second[upper[0], upper[1]] = vector[sums.first.numel() :]
    return Moments(vector[: sums.first.numel()].reshape(sums.first.shape), second + second.triu(1).T)


def whitening(noisy: Moments, exponent: float, regularisation: float) -> Whitening:
    """What evens the directions out; made of released numbers alone."""
    count = noisy.second.trace().clamp_min(1.0)
    mean = noisy.first / count
    values, vectors = torch.linalg.eigh(noisy.second / count - mean @ mean.T)
    values = values.flip(0).clamp_min(0)
    share = values / values.sum().clamp_min(torch.finfo(values.dtype).tiny)
    matrix = (share + regularisation).pow(-exponent)[:, None] * vectors.flip(1).T
    return Whitening(mean.float(), matrix.float())
