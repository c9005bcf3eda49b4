"""How often is a record rebuilt that is one of known candidates? The attack that meets the bound, on a real session.

The prior-aware attack of Hayes, Mahloujifar and Balle (2023, arXiv 2302.07225), for a game in which it is as strong as
it gets: the attacker knows all other records, and that the missing one is one of `candidates`, all equally likely. It
sees every noisy gradient, adds up the inner products of what was released with each candidate's clipped gradient, and
takes the candidate with the largest sum. The candidates' gradients are orthogonal and far above the clip bound, so each
uses up all that clipping leaves, and none helps to tell two others apart.

No attack may succeed more often than the bound of `accounting.reconstruction` at the prior 1 / candidates; without
sampling this one comes near it. Where it succeeds more often, the build is broken. As in `audit.mechanism`, the sign of
the loss changes from step to step, so that noise which is used twice cancels.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import nn

from sfumato.accounting.guarantee import Guarantee, guarantee
from sfumato.accounting.history import History
from sfumato.accounting.reconstruction import rero_bound
from sfumato.audit.canary_game import CanaryGame, canary_of
from sfumato.audit.statistics.intervals import checked_confidence, clopper_pearson
from sfumato.errors import UsageError
from sfumato.private.plan import Plan
from sfumato.private.session import Session, make
from sfumato.seeding import derive, stream
from sfumato.types import Ints
from sfumato.validate import at_least

MakeSession = Callable[..., Session]
OTHERS = 8  # other records, where the plan does not say how many units there are


@dataclass(frozen=True)
class ReconstructionAudit:
    """How often the attacker found the record.

    Args:
        success: share of the trials.
        low: lower end of its exact interval (Clopper-Pearson) at `confidence`.
        high: upper end.
        permitted: highest success that the claim permits.
        prior: success of guessing, 1 / candidates.
        candidates: see there.
        trials: see there.
        steps: of each trial.
        confidence: a session that does what its plan says is called broken with probability 1 - confidence at most.
        claim: the guarantee that was tested, in a sentence.
    """

    success: float
    low: float
    high: float
    permitted: float
    prior: float
    candidates: int
    trials: int
    steps: int
    confidence: float
    claim: str

    @property
    def broken(self) -> bool:
        """Whether the session gives away more than it claims."""
        return self.low > self.permitted

    @property
    def statement(self) -> str:
        """What was found, in a sentence."""
        found = (
            f"A record that was one of {self.candidates} candidates was found in {self.success:.2%} of {self.trials} "
            f"trials ({self.confidence:.0%} interval {self.low:.2%} to {self.high:.2%}); guessing finds "
            f"{self.prior:.2%}, and the claim permits {self.permitted:.2%}"
        )
        return f"{found}: more than it permits, so it is false." if self.broken else f"{found}."


def audit_reconstruction(
    plan: Plan,
    *,
    candidates: int = 256,
    trials: int = 200,
    steps: int = 2,
    trials_per_session: int = 1,
    confidence: float = 0.99,
    seed: int | None = None,
    make_session: MakeSession = make,
) -> ReconstructionAudit:
    """Let the prior-aware attack play against real sessions, and compare with the bound for as many steps.

    Args:
        plan: sampling, clipping, noise and divisor as in training; its number of steps does not matter here.
        candidates: records that the missing one may be.
        trials: the record is drawn anew for each.
        steps: of each trial.
        trials_per_session: 1 makes the trials independent runs. More are faster, and rely on independent noise in
            different steps.
        confidence: in (0, 1).
        seed: None draws from the operating system, as a release does; a number repeats the audit.
        make_session: `private.make`, or another build with the same arguments.

    Raises:
        UsageError: for too few trials or candidates, or a session without a guarantee.
        NotPrivateError: what a session refuses.
    """
    checked_confidence(confidence)
    at_least("candidates", candidates, 2)
    at_least("trials", trials, 8)
    at_least("steps", steps, 1)
    at_least("trials_per_session", trials_per_session, 1)
    play = _Play(plan, candidates, steps, make_session, _weight(plan))
    root = int(np.random.SeedSequence().generate_state(1)[0]) if seed is None else seed
    secrets = stream(root, "reconstruction", "secrets").integers(candidates, size=trials)
    found = 0
    for first in range(0, trials, trials_per_session):
        audit_seed = None if seed is None else derive(seed, "reconstruction", first)
        found += play.found(secrets[first : first + trials_per_session], audit_seed)
    claim, interval = play.claim(), clopper_pearson(found, trials, confidence)
    return ReconstructionAudit(
        success=found / trials,
        low=float(interval.low),
        high=float(interval.high),
        permitted=float(rero_bound(claim, [1 / candidates])[0]),
        prior=1 / candidates,
        candidates=candidates,
        trials=trials,
        steps=steps,
        confidence=confidence,
        claim=claim.statement,
    )


@dataclass(eq=False)
class _Signed:
    """The score of the linear model, times the weight of each record, times the sign of the step."""

    sign: float = 1.0

    def __call__(self, model: nn.Module, x: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        return self.sign * weights * model(x)[:, 0]


@dataclass(eq=False)
class _Records:
    """All records, the secret one last, and the weights of their losses: all gradients are as long."""

    others: int
    candidates: int
    weight: float
    secret: int = 0

    def __len__(self) -> int:
        return self.others + 1

    def __call__(self, positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        inputs = torch.where(positions == self.others, self.secret, self.candidates)
        x = nn.functional.one_hot(inputs, self.candidates + 1).float()
        return x, torch.full((len(positions),), self.weight)


@dataclass(eq=False)
class _Play:
    """The game: a linear model with an input for each candidate, and one for all other records."""

    plan: Plan
    candidates: int
    steps: int
    make_session: MakeSession
    weight: float
    sessions: list[Session] = field(default_factory=list[Session])

    def found(self, secrets: Ints, audit_seed: int | None) -> int:
        """Trials in one session: in how many of them the attacker names the secret candidate."""
        loss, plan = _Signed(), replace(self.plan, steps=self.steps * len(secrets))
        others = OTHERS if plan.units is None else plan.units - 1
        data = _Records(others, self.candidates, self.weight, int(secrets[0]))
        session = self.make_session(self._model(), plan=plan, data=data, loss=loss, audit_seed=audit_seed)
        self.sessions, guesses = [session], []
        scores = torch.zeros(self.candidates, dtype=torch.float64)
        for step in session.steps():
            trial, place = divmod(step, self.steps)
            data.secret, loss.sign = int(secrets[trial]), 1.0 - 2.0 * (place % 2)
            bound = math.hypot(*session.state.max_grad_norms)
            session.backward()
            scores += loss.sign * self._products(session) / bound
            if place + 1 == self.steps:
                guesses.append(int(scores.argmax()))
                scores.zero_()
        return int((np.array(guesses) == secrets).sum())

    def _products(self, session: Session) -> torch.Tensor:
        """Inner products with the candidates' clipped gradients over their length: one entry of the release each."""
        (parameter,) = session.engine.parameters.values()
        if parameter.grad is None:
            return torch.zeros(self.candidates, dtype=torch.float64)
        return parameter.grad[0, : self.candidates].double()

    def claim(self) -> Guarantee:
        """What the session states for the steps of a trial."""
        session = self.sessions[0]
        own = session.history.events[0]
        stated = session.plan.mechanism(audit_only=session.source.audit_only, steps=self.steps)
        found = guarantee(History((replace(own, mechanism=stated),)))
        if not isinstance(found, Guarantee):
            raise UsageError(
                f"Expected a plan with a guarantee to audit, got: {found.statement}.", remedy="Raise the noise."
            )
        return found

    def _model(self) -> nn.Linear:
        layer = nn.Linear(self.candidates + 1, 1, bias=False)
        with torch.no_grad():
            layer.weight.zero_()
        return layer


def _weight(plan: Plan) -> float:
    """Of each loss, so that gradients are far above the clip bound."""
    game = CanaryGame(_one_input, lambda model, x: model(x)[:, 0], (torch.ones(1, 1),), (torch.ones(1, 1),))
    return canary_of(game, plan).weight


def _one_input() -> nn.Linear:
    return nn.Linear(1, 1, bias=False)
