"""How an audit is run: the numbers that are choices, in one value that can be written down."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sfumato.attacks.membership.base import MembershipAttack
from sfumato.data.membership import Membership
from sfumato.data.population import Population
from sfumato.errors import UsageError
from sfumato.seeding import stream
from sfumato.targets.queries import QuerySet
from sfumato.validate import at_least, in_range, one_of

DESIGNS = ("halves", "coins", "canaries")


@dataclass(frozen=True, kw_only=True)
class AuditSettings:
    """What to try, and how hard.

    Args:
        attacks: instances of membership attacks.
        models: even number of models per recipe; each in turn is the target against the others.
        design: "halves" (exact complementary halves), "coins" (independent coins, for one-run bounds on epsilon) or
            "canaries" (only `canaries` units are in the game, the others always in).
        canaries: number of canary units for that design.
        public: share of the units kept as known non-members for attacks that need them.
        seed: root of all randomness.
        confidence: of every interval.
        fprs: false positive rates at which the TPR is measured.
        replicates: of the bootstrap.
        delta: for lower bounds on epsilon; no default, since only the user can say it. The design "coins" needs it.
        dtype: "float32" or "float64".
    """

    attacks: tuple[MembershipAttack, ...]
    models: int = 16
    design: str = "halves"
    canaries: int = 0
    public: float = 0.1
    seed: int = 0
    confidence: float = 0.95
    fprs: tuple[float, ...] = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5)
    replicates: int = 200
    delta: float | None = None
    dtype: str = "float32"

    def __post_init__(self) -> None:
        one_of("design", self.design, DESIGNS)
        one_of("dtype", self.dtype, ("float32", "float64"))
        at_least("models", self.models, 2)
        at_least("replicates", self.replicates, 2)
        in_range("public", self.public, 0, 0.9)
        in_range("confidence", self.confidence, 0.5, 0.9999)
        for fpr in self.fprs:
            in_range("fprs", fpr, 0, 1)
        if self.models % 2:
            raise UsageError(f"Expected an even number of models, got {self.models}.", remedy="They come in pairs.")
        if self.design == "canaries":
            at_least("canaries", self.canaries, 2)
        self._check_delta()
        self._check_attacks()

    def _check_delta(self) -> None:
        if self.delta is None and self.design == "coins":
            raise UsageError(
                "Expected `delta` beside the design `coins`, got none.",
                remedy="Say at which delta the lower bound on epsilon is wanted, well below 1 / (number of units).",
            )
        if self.delta is not None and not 0 < self.delta < 1:
            raise UsageError(f"Expected `delta` in (0, 1), got {self.delta}.", remedy="A usual value is 1e-5.")

    def _check_attacks(self) -> None:
        names = [attack.name for attack in self.attacks]
        if not names:
            raise UsageError("Expected at least one attack, got none.", remedy="See `sfumato list attacks`.")
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise UsageError(
                f"Expected each attack once, got {twice[0]!r} {names.count(twice[0])} times.",
                remedy="Results are kept by name; run the variants one after the other, the models are reused.",
            )

    @property
    def queries(self) -> tuple[QuerySet, ...]:
        """The distinct query sets of all attacks."""
        return tuple(dict.fromkeys(attack.query_set for attack in self.attacks))

    def membership(self, population: Population) -> Membership:
        """The design for this population; depends on the seed and the number of units only."""
        rng = stream(self.seed, "membership", self.design)
        if self.design == "canaries":
            if self.canaries > population.units:
                raise UsageError(
                    f"Expected at most {population.units} canaries, one per unit, got {self.canaries}.",
                    remedy="Lower `canaries`.",
                )
            order = rng.permutation(population.units)
            public = order[self.canaries : self.canaries + round(self.public * population.units)]
            return Membership.canary_pairs(
                population.units, np.sort(order[: self.canaries]), self.models, rng, public=np.sort(public)
            )
        make = Membership.half_pairs if self.design == "halves" else Membership.coin_pairs
        return make(population.units, self.models, rng, public=self.public)
