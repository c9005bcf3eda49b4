"""A trained model as an attacker may touch it: its weights, its scores or its labels, asked live and counted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from torch import nn

from sfumato.errors import NotApplicable, SfumatoError
from sfumato.sde.streams import set_noise
from sfumato.targets.boundary import Box
from sfumato.targets.guards import behind_guards
from sfumato.training.defence import Defence
from sfumato.training.draws import Draws
from sfumato.training.extras import features_of
from sfumato.training.recipe import ModulePredict
from sfumato.training.trained import Predict
from sfumato.types import Ints
from sfumato.validate import one_of

ACCESSES = ("labels", "scores", "weights")  # each implies those before it
CHUNK = 512  # records a call


class Pass(NamedTuple):
    """One pass through the network: logits [b, classes] and what the last linear layer was given [b, D]."""

    logits: torch.Tensor
    features: torch.Tensor


@dataclass
class Count:
    """How many records were put to the model; shared by an oracle and what it is restricted to."""

    queries: int = 0


@dataclass(frozen=True, eq=False)
class Oracle:
    """One trained model, asked live.

    Whoever has the weights runs the network itself, with noise that it draws turned off, and no guard stands in the
    way. Scores and labels are what a user gets: behind the guards, with fresh noise for each question.

    Args:
        predict: from records [b, *shape] to logits [b, classes], one column per class, in eval mode.
        defence: of the model; its guards stand before scores and labels.
        shape: of one record.
        classes: number of them.
        box: the range of values that records have, as an attacker knows it.
        access: one of `ACCESSES`.
        seed: of what is drawn while it answers.
        state: what fitted guards keep (`Trained.guards`).
        name: content hash of the model, so that what is fitted to it can be named.
        count: of the records that were put to it.
    """

    predict: Predict
    defence: Defence
    shape: tuple[int, ...]
    classes: int
    box: Box
    access: str
    seed: int
    state: Mapping[str, torch.Tensor] = field(default_factory=dict)
    name: str = ""
    count: Count = field(default_factory=Count)

    def __post_init__(self) -> None:
        one_of("access", self.access, ACCESSES)

    def spec(self) -> dict[str, str]:
        """What names it in the key of something that is fitted to it."""
        if not self.name:
            raise SfumatoError("Expected a named model to fit something to, got one without a name.")
        return {"model": self.name, "access": self.access}

    @property
    def queries(self) -> int:
        """Records put to the model so far."""
        return self.count.queries

    def restricted_to(self, access: str) -> Oracle:
        """The same model with no more access than this, and a count of its own.

        Raises:
            NotApplicable: if it is more than there is.
        """
        if not self.grants(access):
            raise NotApplicable(f"needs access to {access}, got {self.access} only")
        return replace(self, access=access, count=Count())

    def grants(self, access: str) -> bool:
        """Whether this much may be touched."""
        one_of("access", access, ACCESSES)
        return ACCESSES.index(access) <= ACCESSES.index(self.access)

    @property
    def network(self) -> nn.Module:
        """The network itself, without the scaling of inputs that comes before it where features are fixed."""
        self._assert_granted("weights")
        inner = getattr(self.predict, "module", self.predict)
        if not isinstance(inner, nn.Module):
            raise NotApplicable("needs the network itself, got a function")
        return inner

    @property
    def differentiable(self) -> bool:
        """Whether a gradient reaches the record: there is a network in reach, and no fixed features before it."""
        own = isinstance(getattr(self.predict, "module", self.predict), nn.Module)
        return self.grants("weights") and own and getattr(self.predict, "features", None) is None

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        """float [b, classes] with a gradient by x [b, *shape]: needs the weights; noise is off, no guard answers."""
        self._assert_granted("weights")
        if not self.differentiable:
            raise NotApplicable("needs gradients by the record, got a model behind fixed features or a function")
        set_noise(self.network, None, "off")
        self.count.queries += len(x)
        return self.predict(x)

    def passed(self, x: torch.Tensor) -> Pass:
        """Logits and penultimate features of one pass, both with a gradient by x [b, *shape]; needs the weights."""
        with features_of(self.network) as taken:
            logits = self.logits(x)
        return Pass(logits, taken.last())

    def scores(self, x: torch.Tensor) -> torch.Tensor:
        """float32 [b, classes]: log-probabilities as a user gets them for x [b, *shape], without a gradient."""
        self._assert_granted("scores")
        return self._answered(x).log_softmax(dim=1)

    def labels(self, x: torch.Tensor) -> Ints:
        """int64 [b]: the class with the largest score, as a user gets it; the first of equal ones."""
        return self._answered(x).argmax(dim=1).numpy()

    def clamped(self, x: torch.Tensor) -> torch.Tensor:
        """x [b, *shape] moved into the box."""
        return x.clamp(self.box.low.to(x), self.box.high.to(x))

    def _answered(self, x: torch.Tensor) -> torch.Tensor:
        parts = [self._chunk(x[first : first + CHUNK]) for first in range(0, len(x), CHUNK)]
        return torch.cat(parts) if parts else torch.empty(0, self.classes)

    def _chunk(self, x: torch.Tensor) -> torch.Tensor:
        named = ("oracle", self.count.queries)
        inner = getattr(self.predict, "module", self.predict)
        if isinstance(inner, nn.Module):
            set_noise(inner, Draws((self.seed,), ("noise", *named)), "fresh")
        self.count.queries += len(x)
        with torch.no_grad():
            guards = behind_guards(
                self.defence, self.predict, self.shape, self.state, Draws((self.seed,), ("guard",)), named
            )
            return guards(self.predict(x.detach())).float()

    def _assert_granted(self, access: str) -> None:
        if not self.grants(access):
            raise NotApplicable(f"needs access to {access}, got {self.access} only")


def image_box(shape: tuple[int, ...]) -> Box:
    """Pixels from 0 to 1, as every picture has them: public knowledge."""
    return Box(torch.zeros(shape), torch.ones(shape), torch.full(shape, 1.0))


def oracle_of(
    predict: Predict,
    defence: Defence,
    shape: tuple[int, ...],
    classes: int,
    box: Box,
    *,
    seed: int,
    name: str,
    state: Mapping[str, torch.Tensor] | None = None,
) -> Oracle:
    """A model with all access that it can grant: weights where there is a network, else scores."""
    inner = getattr(predict, "module", predict)
    access = "weights" if isinstance(inner, nn.Module) else "scores"
    if isinstance(inner, nn.Module) and not isinstance(predict, ModulePredict):
        predict = ModulePredict(inner)
    return Oracle(predict, defence, shape, classes, box, access, seed, state or {}, name)
