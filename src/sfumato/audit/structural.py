"""Does noise inside a network make its released weights private? A test that looks at where the weights can go.

The claim under test is that a network which answers at random (a neural SDE, residual perturbation, dropout) is a
differentially private learner, because its gradients are random. The noise reaches the weights only through these
gradients, and that leaves events that are certain in one world and impossible in the other, whatever the noise. The
argument is derived here, not taken from a paper:

- "empty": without any record in the batch, nothing moves; with the canary, something does.
- "isolated": weights of a feature that is 0 in every other record get no gradient without the canary, and almost surely
  one with it. Momentum, Adam and weight decay keep that: where the weights go without a gradient is one known place.
- "sign": on one record, the gradient of the last bias is softmax minus one-hot, so that the sign of its movement is
  the label.

Each is a set that has probability 1 with the canary and 0 without it: delta is 1, for every epsilon. (In floating point
a gradient may round to nothing now and then, where noise has driven a softmax to 0 or 1.) Clipped gradients with noise
added to them, as in DP-SGD, leave no such set: every weight has noise of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from sfumato.audit.epsilon.bound import EpsilonBound
from sfumato.audit.epsilon.clopper_pearson import clopper_pearson_bound, clopper_pearson_ceiling
from sfumato.audit.epsilon.thresholds import FixedThreshold
from sfumato.errors import UsageError
from sfumato.seeding import derive
from sfumato.types import Bools, Floats
from sfumato.validate import at_least, in_range

CASES = ("empty", "isolated", "sign")
TESTS = 2  # at most so many sets are judged: "empty" or "isolated", and "sign"
FEWEST, MOST = 32, 1_000_000  # draws of a world, by default
CLEAR = 0.5  # how much more often a sign must come up with the canary in the pilot draws for it to be judged
Tensors = tuple[torch.Tensor, ...]
Train = Callable[[nn.Module, Tensors], Mapping[str, torch.Tensor]]


@dataclass(frozen=True, eq=False)
class TwoWorlds:
    """What is trained, on data sets that differ by one unit.

    Args:
        model: makes the network; it is called with the same random numbers each time, so that the start is known.
        train: network and tensors [records, ...] to what is released: parameters by their names after one step, or
            after many. All its randomness must come from torch's global generator of the CPU, so that each draw
            has its own.
        without: tensors [records, ...] of the world without the canary; possibly no records.
        with_canary: of the world with it.
    """

    model: Callable[[], nn.Module]
    train: Train
    without: Tensors
    with_canary: Tensors


@dataclass(frozen=True)
class Separation:
    """A set of weights, chosen on pilot draws, and how often fresh draws fell into it.

    Args:
        case: one of `CASES`.
        where: a coordinate, e.g. "stem.weight[3, 5]", or "all parameters".
        event: what happens there, in words.
        with_canary: draws of that world in which it happened.
        without: draws of the other world.
        draws: of each world.
        bound: on epsilon, from these counts.
    """

    case: str
    where: str
    event: str
    with_canary: int
    without: int
    draws: int
    bound: EpsilonBound

    @property
    def complete(self) -> bool:
        """Whether the two worlds never overlapped: seen from these draws, delta is 1."""
        return self.with_canary == self.draws and self.without == 0

    @property
    def sentence(self) -> str:
        """What was counted, and what follows."""
        read = "delta = 1 as far as these draws show" if self.complete else "the worlds overlap"
        return (
            f"{self.where} {self.event} in {self.with_canary} of {self.draws} draws with the canary and in "
            f"{self.without} of {self.draws} without it ({read}): epsilon is at least {self.bound.value:.3g} at delta "
            f"{self.bound.delta:g}"
        )


@dataclass(frozen=True)
class StructuralTest:
    """What the draws say about the claim.

    Args:
        epsilon: claimed, at `delta`.
        delta: of the claim.
        confidence: a training that keeps its claim is called refuted with probability 1 - confidence at most.
        coordinates: how many there are.
        separations: what told the worlds apart in the pilot draws, judged on fresh ones; empty where nothing did.
    """

    epsilon: float
    delta: float
    confidence: float
    coordinates: int
    separations: tuple[Separation, ...]

    @property
    def refuted(self) -> bool:
        """Whether the claim is false, at `confidence`."""
        return any(found.bound.value > self.epsilon for found in self.separations)

    @property
    def statement(self) -> str:
        """The finding in one sentence."""
        claim = f"epsilon {self.epsilon:.3g} at delta {self.delta:g}"
        if not self.refuted:
            return f"Not refuted: {claim}. None of {self.coordinates} coordinates gives the canary away by its support."
        worst = max(self.separations, key=lambda found: (found.bound.value, found.complete))
        head = "delta = 1, claim refuted" if worst.complete else "Claim refuted"
        return f"{head}: {claim} was claimed; {worst.sentence} (confidence {self.confidence:g})."


def structural_test(
    worlds: TwoWorlds,
    *,
    epsilon: float,
    delta: float,
    draws: int | None = None,
    pilot: int = 32,
    confidence: float = 0.999,
    seed: int = 0,
) -> StructuralTest:
    """Look for a set of weights that the canary alone can reach, and count how often fresh trainings end there.

    A set is chosen on pilot draws and judged on others, with Clopper-Pearson limits shared among the sets, so a claim
    that holds is refuted with probability 1 - confidence at most. "Not refuted" is no proof of privacy.

    Args:
        worlds: network, training and the two data sets. Keep it tiny: it is trained 2 * (draws + pilot) times.
        epsilon: that is claimed for one such training.
        delta: that is claimed with it, in [0, 1).
        draws: in each world; by default twice the fewest with which the claim could be refuted, and at least 32.
        pilot: draws in each world that choose what to look at.
        confidence: in (0, 1).
        seed: of all draws.

    Raises:
        UsageError: for a claim so weak that so few draws cannot refute it, or a training that does not release
            parameters of the network, or not finite ones.
    """
    in_range("epsilon", epsilon, 0, math.inf)
    at_least("pilot", pilot, 2)
    level = 1 - (1 - confidence) / TESTS
    count = _draws(epsilon, delta, level) if draws is None else draws
    _check_reach(epsilon, delta, level, count)
    play = _Play(worlds, seed)
    sets = _chosen(play, pilot)
    inside, outside = (np.array([[s.holds(x) for s in sets] for x in play.draws(w, "judged", count)]) for w in (1, 0))
    return StructuralTest(
        epsilon=epsilon,
        delta=delta,
        confidence=confidence,
        coordinates=len(play.start),
        separations=tuple(
            _judged(s, inside[:, index], outside[:, index], delta, level) for index, s in enumerate(sets)
        ),
    )


def column_shift(before: Floats, after: Floats, column: int) -> Floats:
    """||W_T[:, j] - W_0[:, j]||: how far the weights of input j moved; the score of an isolated-feature canary.

    Whoever has the weights, and knows where they began, sees 0 without the canary (up to weight decay).

    Args:
        before: [..., out, in] weights of the first layer, before the training.
        after: [..., out, in], after it.
        column: j, the isolated feature.

    Returns:
        float64 [...].
    """
    moved = np.asarray(after, dtype=np.float64)[..., column] - np.asarray(before, dtype=np.float64)[..., column]
    return np.linalg.norm(moved, axis=-1)


def parameters_of(model: nn.Module) -> dict[str, torch.Tensor]:
    """Copies of the parameters by name: what a training releases."""
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


class _Set(NamedTuple):
    """A set of weight vectors that may tell the worlds apart."""

    case: str
    where: str
    event: str
    holds: Callable[[Floats], bool]


class _Play:
    """Draws of both worlds, as flat vectors of parameters; float64 holds every smaller type exactly."""

    def __init__(self, worlds: TwoWorlds, seed: int) -> None:
        self.worlds, self.seed = worlds, seed
        started = parameters_of(self._model())
        self.names = [
            f"{name}[{', '.join(map(str, index))}]"
            for name, value in started.items()
            for index in np.ndindex(value.shape)
        ]
        self.shapes = {name: value.shape for name, value in started.items()}
        self.start = self._flat(started)

    def draws(self, world: int, stage: str, count: int) -> Iterator[Floats]:
        """float64 [coordinates], `count` times: what a training on world 0 (without) or 1 (with) released."""
        records = self.worlds.with_canary if world else self.worlds.without
        for index in range(count):
            with torch.random.fork_rng(devices=[]):
                model = self._model()
                torch.default_generator.manual_seed(derive(self.seed, "structural", stage, world, index))
                yield self._flat(self.worlds.train(model, records))

    def _model(self) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)  # not `torch.manual_seed`, which looks at every device each time
            return self.worlds.model()

    def _flat(self, released: Mapping[str, torch.Tensor]) -> Floats:
        if {name: value.shape for name, value in released.items()} != self.shapes:
            raise UsageError(
                f"Expected the parameters {', '.join(self.shapes)} from `train`, got {', '.join(released) or 'none'}.",
                remedy="Return `parameters_of(model)`.",
            )
        flat = np.concatenate([released[name].detach().double().cpu().numpy().ravel() for name in self.shapes])
        if not np.isfinite(flat).all():
            raise UsageError("Expected finite parameters from `train`, got NaN or infinity.", remedy="Lower its rate.")
        return flat


def _chosen(play: _Play, pilot: int) -> list[_Set]:
    """What the pilot draws suggest, at most `TESTS` sets."""
    inside, outside = (np.stack(list(play.draws(world, "pilot", pilot))) for world in (1, 0))
    rest = outside[0]
    constant = (outside == rest).all(axis=0)
    return [*_left(play, rest, constant, inside), *_signed(play, constant, inside, outside)]


def _left(play: _Play, rest: Floats, constant: Bools, inside: Floats) -> Iterator[_Set]:
    """Leaving the one place where weights are without the canary: any of them, or the one that does most often."""
    if constant.all():
        yield _Set("empty", "something among all parameters", "moves", lambda x: bool((x != rest).any()))
        return
    moved = np.where(constant, (inside != rest).mean(axis=0), 0.0)
    best = int(np.lexsort((np.abs(inside - rest).mean(axis=0), moved))[-1])
    if moved[best] > 0:
        yield _Set(
            "isolated",
            play.names[best],
            "leaves the place where it always is without the canary",
            lambda x: bool(x[best] != rest[best]),
        )


def _signed(play: _Play, constant: Bools, inside: Floats, outside: Floats) -> Iterator[_Set]:
    """The direction of movement that comes up most often with the canary and least often without it, where clear."""
    start = play.start
    gaps = [
        np.where(constant, 0.0, (way * (inside - start) > 0).mean(axis=0) - (way * (outside - start) > 0).mean(axis=0))
        for way in (1, -1)
    ]
    if np.max(gaps) < CLEAR:
        return
    best = int(np.flatnonzero(np.max(gaps, axis=0) == np.max(gaps))[-1])  # of equals the last: nearest to the label
    way, word = (-1, "goes down") if gaps[1][best] > gaps[0][best] else (1, "goes up")
    yield _Set("sign", play.names[best], word, lambda x: bool(way * (x[best] - start[best]) > 0))


def _judged(chosen: _Set, inside: Bools, outside: Bools, delta: float, level: float) -> Separation:
    """Each draw is a training of its own, and the set was fixed before any of them."""
    bound = clopper_pearson_bound(
        inside.astype(np.float64),
        outside.astype(np.float64),
        FixedThreshold(0.5),
        independent_trials=True,
        delta=delta,
        confidence=level,
    )
    return Separation(
        chosen.case, chosen.where, chosen.event, int(inside.sum()), int(outside.sum()), len(inside), bound
    )


def _draws(epsilon: float, delta: float, level: float) -> int:
    """Twice the fewest with which a perfect separation refutes the claim: rounding may leave it nearly perfect."""
    enough = FEWEST // 2
    while enough < MOST // 2 and clopper_pearson_ceiling(enough, enough, delta=delta, confidence=level) <= epsilon:
        enough = math.ceil(enough * 1.1)
    return 2 * enough


def _check_reach(epsilon: float, delta: float, level: float, draws: int) -> None:
    at_least("draws", draws, 2)
    ceiling = clopper_pearson_ceiling(draws, draws, delta=delta, confidence=level)
    if ceiling <= epsilon:
        raise UsageError(
            f"Expected a claim that {draws} draws can refute (epsilon below {ceiling:.3g}), got {epsilon:.3g}.",
            remedy="Raise `draws`, test fewer steps, or test a stronger claim that is implied.",
        )
