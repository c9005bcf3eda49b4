"""How an audit is run: the numbers that are choices, in one value that can be written down."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from sfumato.attacks.catalogue import attacks
from sfumato.attacks.membership.base import MembershipAttack
from sfumato.audit.inversion.settings import InversionSettings
from sfumato.data.canaries import GROUP, NONE, twins
from sfumato.data.membership import Membership
from sfumato.data.population import Population
from sfumato.errors import UsageError
from sfumato.seeding import stream
from sfumato.targets.queries import QuerySet
from sfumato.types import Rows
from sfumato.validate import at_least, in_range, one_of

DESIGNS = ("halves", "coins", "canaries")
STRENGTHS = ("usual", "full")


@dataclass(frozen=True, kw_only=True)
class AuditSettings:
    """What to try, and how hard.

    Args:
        attacks: instances of membership attacks; may be empty where `inversion` is given.
        models: even number of models per recipe; each in turn is the target against the others.
        design: "halves" (exact complementary halves), "coins" (independent coins, for one-run bounds on epsilon) or
            "canaries" (only `canaries` units are in the game, the others always in).
        canaries: number of canary units for that design; 0 for the canaries that the data designate.
        public: share of the units kept as known non-members for attacks that need them.
        seed: root of all randomness.
        confidence: of every interval.
        fprs: false positive rates at which the TPR is measured.
        replicates: of the bootstrap.
        delta: for lower bounds on epsilon; no default, since only the user can say it. The design "coins" needs it.
        dtype: "float32" or "float64".
        draws: how many answers are asked of each record, rising, where models answer at random; see `audit.queries`.
        draws_attacks: names among `attacks` that are tried with each of `draws`; empty for all that read one signal
            and train nothing.
        strength: "usual", or "full" for a run that must keep to the protocol of `audit.strength`.
        inversion: what is inverted and how; None for no inversion.
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
    draws: tuple[int, ...] = (1, 4, 16)
    draws_attacks: tuple[str, ...] = ()
    strength: str = "usual"
    inversion: InversionSettings | None = None

    def __post_init__(self) -> None:
        one_of("design", self.design, DESIGNS)
        one_of("strength", self.strength, STRENGTHS)
        one_of("dtype", self.dtype, ("float32", "float64"))
        at_least("models", self.models, 2)
        at_least("replicates", self.replicates, 2)
        in_range("public", self.public, 0, 0.9)
        in_range("confidence", self.confidence, 0.5, 0.9999)
        for fpr in self.fprs:
            in_range("fprs", fpr, 0, 1)
        if self.models % 2:
            raise UsageError(f"Expected an even number of models, got {self.models}.", remedy="They come in pairs.")
        if self.design == "canaries" and self.canaries:
            at_least("canaries", self.canaries, 2)
        self._check_delta()
        self._check_attacks()
        self._check_draws()

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
        if not names and self.inversion is None:
            raise UsageError("Expected at least one attack, got none.", remedy="See `sfumato list attacks`.")
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise UsageError(
                f"Expected each attack once, got {twice[0]!r} {names.count(twice[0])} times.",
                remedy="Results are kept by name; give the variants names of their own, with called=lira-hinge, say.",
            )
        borrowed = {attack.called for attack in self.attacks if attack.called not in ("", attack.method)}
        if borrowed and (taken := sorted(borrowed & set(attacks()))):
            raise UsageError(
                f"Expected `called` to be no other method's name, got {taken[0]!r}.",
                remedy="Results would pass for those of the other method; choose another name.",
            )

    def _check_draws(self) -> None:
        rising = all(low < high for low, high in pairwise(self.draws))
        if not self.draws or min(self.draws) < 1 or not rising or any(isinstance(k, bool) for k in self.draws):
            raise UsageError(
                f"Expected `draws` as rising whole numbers from 1 on, got {self.draws}.", remedy="Use 1, 4, 16, say."
            )
        for name in self.draws_attacks:
            one_of("draws_attacks", name, [attack.name for attack in self.attacks])

    @property
    def queries(self) -> tuple[QuerySet, ...]:
        """The distinct query sets of all attacks."""
        return tuple(dict.fromkeys(attack.query_set for attack in self.attacks))

    def membership(self, population: Population) -> Membership:
        """The design for this population; depends on the seed and the number of units only."""
        rng = stream(self.seed, "membership", self.design)
        if self.design == "canaries":
            return self._canaries(population, rng)
        make = Membership.half_pairs if self.design == "halves" else Membership.coin_pairs
        return make(population.units, self.models, rng, public=self.public)

    def _canaries(self, population: Population, rng: np.random.Generator) -> Membership:
        """Designated canaries where the population has them, else units drawn at random; public ones from the rest."""
        canaries, order = designated(population), rng.permutation(population.units)
        if len(canaries):
            self._check_designated(len(canaries))
        else:
            self._check_drawn(population.units)
            canaries = np.sort(order[: self.canaries])
        rest = order[~np.isin(order, [*canaries, *twins(population)])]
        public = np.sort(rest[: round(self.public * population.units)])
        return Membership.canary_pairs(population.units, canaries, self.models, rng, public=public)

    def _check_designated(self, count: int) -> None:
        if self.canaries not in (0, count):
            raise UsageError(
                f"Expected `canaries` to be 0 or {count}, the number of canaries in the data, got {self.canaries}.",
                remedy="Leave it out, or change the number of canaries in the data.",
            )

    def _check_drawn(self, units: int) -> None:
        if not 2 <= self.canaries <= units:
            raise UsageError(
                f"Expected between 2 and {units} canaries, one per unit, got {self.canaries}.",
                remedy="Change `canaries`, or designate canaries in the data.",
            )


def designated(population: Population) -> Rows:
    """int64 [k], rising: the units that the group `canary` of the data names as canaries of some kind; often none."""
    kinds = population.groups.get(GROUP)
    if kinds is None:
        return np.empty(0, dtype=np.int64)
    return np.unique(population.unit_of[np.asarray(kinds).astype(str) != NONE])
