"""Does a private session do what its plan says? A canary whose gradient is known looks at every noisy step.

Two worlds differ by one unit, the canary, whose gradient is far above the clip bound (Nasr et al., arXiv 2302.07956:
a white-box audit with a gradient canary). Each trial runs a few steps of a real session and adds up the inner products
of what was released with the canary's clipped gradient. How well these scores tell the worlds apart bounds epsilon from
below; where they tell them apart better than the claim permits, the build is broken.

The audit plays an adversary that the claim allows for: it chooses network, data and, at each step, the sign of the
loss, so that noise which is used twice cancels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import nn

from sfumato.accounting.guarantee import Guarantee, guarantee
from sfumato.accounting.history import History
from sfumato.accounting.tradeoff import tpr_bound
from sfumato.audit.canary_game import Canary, CanaryGame, canary_game, canary_of, records
from sfumato.audit.epsilon.bound import EpsilonBound
from sfumato.audit.epsilon.clopper_pearson import clopper_pearson_bound
from sfumato.audit.epsilon.gaussian_dp import gaussian_dp_bound
from sfumato.audit.epsilon.thresholds import FixedThreshold
from sfumato.audit.statistics.intervals import checked_confidence, clopper_pearson_upper
from sfumato.errors import UsageError
from sfumato.private.plan import Plan
from sfumato.private.session import Loss, Session, make
from sfumato.seeding import derive
from sfumato.types import Floats
from sfumato.validate import at_least

CHOSEN_ON = 0.25  # share of the trials that choose the threshold
WHOLE = "whole gradient"
BOUNDS = "clip bounds"
MakeSession = Callable[..., Session]


@dataclass(frozen=True)
class Observation:
    """One way to look at the steps.

    Args:
        name: "whole gradient", "clip bounds" (where they adapt), or a parameter.
        bound: on epsilon at the claim's delta, with what it assumes.
        false_positives: upper limit of that error rate, at the threshold that a part of the trials chose.
        false_negatives: likewise; both hold together with the observation's confidence.
        permitted_tpr: the highest true-positive rate that the claim permits at `false_positives`.
    """

    name: str
    bound: EpsilonBound
    false_positives: float
    false_negatives: float
    permitted_tpr: float

    @property
    def beyond(self) -> bool:
        """Whether the attacker did better than the claim permits, anywhere within the limits."""
        return 1 - self.false_negatives > self.permitted_tpr


@dataclass(frozen=True)
class MechanismAudit:
    """What the canary saw.

    Args:
        lower: the largest lower bound on epsilon at `delta`.
        claimed: epsilon of the session's own mechanism over `steps` steps.
        delta: of both.
        confidence: of all observations together: a session that does what its plan says is called broken with
            probability 1 - confidence at most.
        steps: of each trial.
        trials: in each world.
        observations: see `Observation`.
        without_noise: parameters of which nothing but zeros was released while the canary was out.
        claim: the sentence that was tested.
    """

    lower: float
    claimed: float
    delta: float
    confidence: float
    steps: int
    trials: int
    observations: tuple[Observation, ...]
    without_noise: tuple[str, ...]
    claim: str

    @property
    def broken(self) -> bool:
        """Whether the session gives away more than it claims."""
        return self.lower > self.claimed or bool(self.without_noise) or any(seen.beyond for seen in self.observations)

    @property
    def tightness(self) -> float:
        """`lower` over `claimed`: near 1, no gap is left between audit and claim. NaN for a claim of 0."""
        return self.lower / self.claimed if self.claimed > 0 else math.nan


def audit_mechanism(
    plan: Plan,
    *,
    game: CanaryGame | None = None,
    trials: int = 200,
    steps: int = 4,
    trials_per_session: int = 1,
    confidence: float = 0.99,
    seed: int | None = None,
    make_session: MakeSession = make,
) -> MechanismAudit:
    """Play two worlds against each other through real sessions, and compare with the claim for as many steps.

    At sample rate 1 the bound on epsilon assumes a Gaussian trade-off curve, and is tight; below 1 it assumes nothing,
    and is loose. Whether a build is broken is always judged by the claim's own trade-off curve. Out of sight: noise
    that repeats across sessions or parameters, predictable keys, and rounding.

    Args:
        plan: sampling, clipping, noise and divisor as in training; its number of steps does not matter here.
        game: by default `canary_game`. A plan of truncated batches needs one with as many units as the plan states.
        trials: in each world.
        steps: of each trial; an even number, for the signs to cancel noise that is used twice.
        trials_per_session: 1 makes the trials independent runs. More are faster; false alarms stay as rare, but the
            bound then relies on independent noise in different steps.
        confidence: in (0, 1), shared among the observations.
        seed: None draws from the operating system, as a release does; a number repeats the audit.
        make_session: `private.make`, or another build with the same arguments.

    Raises:
        UsageError: for too few trials, an odd number of steps, or a session without a guarantee.
        NotPrivateError: what a session refuses.
    """
    _check(trials, steps, trials_per_session, confidence)
    playing = canary_game(opposite=plan.sample_rate == 1) if game is None else game
    play = _Play(plan, playing, canary_of(playing, plan), steps, seed, make_session)
    inside, outside = (play.world(trials, trials_per_session, canary_in=here) for here in (True, False))
    claim = outside.claimed(steps)
    seen = _observations(inside, outside, claim, confidence)
    return MechanismAudit(
        lower=max(one.bound.value for one in seen),
        claimed=claim.epsilon,
        delta=claim.delta,
        confidence=confidence,
        steps=steps,
        trials=trials,
        observations=seen,
        without_noise=tuple(sorted(outside.silent)),
        claim=claim.statement,
    )


def _check(trials: int, steps: int, trials_per_session: int, confidence: float) -> None:
    checked_confidence(confidence)
    at_least("trials", trials, 8)
    at_least("steps", steps, 2)
    at_least("trials_per_session", trials_per_session, 1)
    if steps % 2:
        raise UsageError(f"Expected an even number of steps, got {steps}.", remedy="Use 2, 4, ...")


@dataclass(eq=False)
class _Signed:
    """The game's loss, times the weight of each record, times the sign of the step."""

    loss: Loss
    sign: float = 1.0

    def __call__(self, model: nn.Module, *tensors: torch.Tensor) -> torch.Tensor:
        return self.sign * tensors[-1] * self.loss(model, *tensors[:-1])


@dataclass(eq=False)
class _World:
    """What was seen of one world: scores by observation [trials], parameters that were never but zero, last session."""

    scores: dict[str, list[float]] = field(default_factory=dict[str, list[float]])
    silent: set[str] = field(default_factory=set[str])
    sessions: list[Session] = field(default_factory=list[Session])

    def add(self, session: Session) -> None:
        """Look at a session that is about to start."""
        if not self.sessions:
            self.silent = set(session.engine.parameters)
        self.sessions = [session]

    def see(self, step: int, steps: int, scores: Iterator[tuple[str, float]]) -> None:
        """Add a step to its trial."""
        for name, score in scores:
            found = self.scores.setdefault(name, [])
            if step % steps == 0:
                found.append(0.0)
            found[-1] += score
        self.silent -= {name for name, p in self.sessions[0].engine.parameters.items() if _any(p.grad)}

    def claimed(self, steps: int) -> Guarantee:
        """What the session states for so many of its steps."""
        session = self.sessions[0]
        own = session.history.events[0]
        stated = session.plan.mechanism(audit_only=session.source.audit_only, steps=steps)
        found = guarantee(History((replace(own, mechanism=stated),)))
        if not isinstance(found, Guarantee):
            raise UsageError(
                f"Expected a plan with a guarantee to audit, got: {found.statement}.", remedy="Raise the noise."
            )
        return found


def _any(gradient: torch.Tensor | None) -> bool:
    return gradient is not None and bool(gradient.any())


@dataclass(frozen=True, eq=False)
class _Play:
    """What both worlds share."""

    plan: Plan
    game: CanaryGame
    canary: Canary
    steps: int
    seed: int | None
    make_session: MakeSession

    def world(self, trials: int, per_session: int, *, canary_in: bool) -> _World:
        """All trials of one world."""
        world = _World()
        for first in range(0, trials, per_session):
            audit_seed = None if self.seed is None else derive(self.seed, "mechanism", int(canary_in), first)
            self._run(world, min(per_session, trials - first), audit_seed, canary_in=canary_in)
        return world

    def _run(self, world: _World, trials: int, audit_seed: int | None, *, canary_in: bool) -> None:
        plan, loss = replace(self.plan, steps=self.steps * trials), _Signed(self.game.loss)
        data = records(self.game, self.canary.weight, plan.adjacency, canary_in=canary_in)
        session = self.make_session(
            self.game.made(), plan=plan, data=data.tensors, loss=loss, unit_of=data.unit_of, audit_seed=audit_seed
        )
        world.add(session)
        first = session.state.max_grad_norms
        for step in session.steps():
            loss.sign = 1.0 - 2.0 * (step % 2)
            before = session.state.max_grad_norms
            session.backward()
            scale = loss.sign * plan.expected_batch_size * math.hypot(*first) / math.hypot(*before)
            world.see(step, self.steps, self._scores(session, scale, before))

    def _scores(self, session: Session, scale: float, before: tuple[float, ...]) -> Iterator[tuple[str, float]]:
        """Inner products in multiples of what the canary alone would give, and how far the clip bounds moved."""
        products, squares = {}, {name: float(part.square().sum()) for name, part in self.canary.clipped.items()}
        for name, part in self.canary.clipped.items():
            gradient = session.engine.parameters[name].grad
            products[name] = 0.0 if gradient is None else scale * float((gradient.double() * part).sum())
            if len(squares) > 1:
                yield name, products[name] / squares[name]
        yield WHOLE, sum(products.values()) / sum(squares.values())
        if session.state.max_grad_norms != before:
            yield BOUNDS, math.log(math.hypot(*session.state.max_grad_norms) / math.hypot(*before))


def _observations(inside: _World, outside: _World, claim: Guarantee, confidence: float) -> tuple[Observation, ...]:
    names = [name for name in inside.scores if name in outside.scores]
    alpha = (1 - confidence) / len(names)
    return tuple(
        _observed(name, np.array(inside.scores[name]), np.array(outside.scores[name]), claim, alpha) for name in names
    )


def _observed(name: str, inside: Floats, outside: Floats, claim: Guarantee, alpha: float) -> Observation:
    """One threshold, chosen on other trials; all that is said follows from the same two limits, each at alpha / 2."""
    pilot, ran = math.ceil(CHOSEN_ON * len(inside)), claim.mechanisms[0]
    sample_rate = getattr(ran, "sample_rate", 1.0)
    threshold = _threshold(inside[:pilot], outside[:pilot], sample_rate * ran.steps)
    bound = (gaussian_dp_bound if sample_rate == 1 else clopper_pearson_bound)(
        inside[pilot:],
        outside[pilot:],
        FixedThreshold(threshold),
        independent_trials=True,
        delta=claim.delta,
        confidence=1 - alpha,
    )
    detail = bound.detail
    caught = float(clopper_pearson_upper(detail["false_positives"], detail["nonmembers"], alpha / 2))
    missed = float(clopper_pearson_upper(detail["false_negatives"], detail["members"], alpha / 2))
    return Observation(name, bound, caught, missed, float(tpr_bound(claim, [caught])[0]))


def _threshold(inside: Floats, outside: Floats, expected: float) -> float:
    """Half way from nothing to what the canary is expected to give in its trial, and at least to one participation."""
    return float(np.mean(outside) + np.mean(inside - outside) * max(1.0, 1 / expected) / 2)
