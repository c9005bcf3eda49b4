"""The formal guarantee of a subject in the form the record keeps, with the curve that it permits in the game played."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

import numpy as np

from sfumato.accounting.guarantee import Guarantee, NoGuarantee, guarantee
from sfumato.accounting.history import History
from sfumato.accounting.tradeoff import tpr_bound
from sfumato.audit.record import EpsilonAt, GuaranteeNumbers, GuaranteeSummary, PermittedCurve
from sfumato.canonical import plain
from sfumato.data.membership import COINS, Membership
from sfumato.data.population import Population

GRID = tuple(float(x) for x in np.logspace(-6, 0, 121))
DELTAS = tuple(10.0**-power for power in range(2, 11))


def of_one_training(histories: Iterable[History]) -> Guarantee | NoGuarantee:
    """The guarantee of one of several trainings of a recipe: the weakest of them; none where one has none.

    It is not that of all models together: what is audited is the release of one, the others serve the attacker.
    """
    found = [guarantee(history) for history in _distinct(histories)]
    for one in found:
        if isinstance(one, NoGuarantee):
            return one
    formal = [one for one in found if isinstance(one, Guarantee)]
    if not formal:
        return guarantee(History())
    stated = {(one.delta, one.adjacency, one.unit) for one in formal}
    if len(stated) > 1:
        return NoGuarantee(f"none, because the trainings of this recipe state {len(stated)} different guarantees")
    return max(formal, key=lambda one: (one.epsilon, one.audit_only))


def _distinct(histories: Iterable[History]) -> list[History]:
    """Each history once; how many records were read is no part of a guarantee."""
    rows = {
        json.dumps([{**row, "records": 0} for row in history.plain()], sort_keys=True): history for history in histories
    }
    return list(rows.values())


def summary(
    found: Guarantee | NoGuarantee,
    membership: Membership,
    population: Population,
    *,
    fprs: Sequence[float] = (),
    delta: float | None = None,
) -> GuaranteeSummary:
    """The record's form of a guarantee.

    Args:
        found: for one training.
        membership: the game; it decides how many changes turn a member into a non-member, see `group_size`.
        population: for its unit of privacy.
        fprs: false positive rates at which attacks are measured; the curve holds them exactly.
        delta: at which epsilon is stated too, where lower bounds are measured there.
    """
    if isinstance(found, NoGuarantee):
        return GuaranteeSummary(status="none", statement=found.statement)
    note = _other_unit(found, population)
    stated: set[float] = {*DELTAS, found.delta} | (set() if delta is None else {delta})
    deltas = sorted(stated, reverse=True)
    numbers = GuaranteeNumbers(
        epsilon=found.epsilon,
        delta=found.delta,
        adjacency=found.adjacency.value,
        unit=found.unit,
        accountant=found.accountant,
        audit_only=found.audit_only,
        mechanisms=[plain(mechanism.plain()) for mechanism in found.mechanisms],
        profile=[EpsilonAt(epsilon=epsilon, delta=at) for at in deltas if np.isfinite(epsilon := found.epsilon_at(at))],
        permitted=None if note else permitted(found, group_size(found, membership), fprs),
        note=note,
    )
    return GuaranteeSummary(status="formal", statement=found.statement, numbers=numbers)


def group_size(found: Guarantee, membership: Membership) -> int:
    """How many changes of the guarantee's adjacency the game makes between "member" and "non-member".

    Where every unit has a coin of its own (design "coins"), the training sets with and without the target differ by
    this unit alone: one change, under add-or-remove and zero-out; under replace-one an absent unit counts as one that
    adds nothing, and a bound for any replacement covers that one.

    In all other designs training sets have a fixed size. The target is then not removed but exchanged: a random set
    with it can be paired with a random set without it so that both agree but for the target and one other unit that
    has its place, and a test that is right more often on average over the pairs would be so on one of them. Exchanging
    one unit is one change under replace-one, and a removal and an addition, so two, under the other relations.
    """
    return 1 if membership.design == COINS else found.adjacency.swaps


def permitted(found: Guarantee, group_size: int, fprs: Sequence[float] = ()) -> PermittedCurve:
    """The curve that no attack may lie above, on a logarithmic grid and at `fprs`."""
    rates = sorted({*GRID, *(fpr for fpr in fprs if 0 < fpr <= 1)})
    bound = tpr_bound(found, rates, group_size)
    return PermittedCurve(fpr=rates, tpr=[float(y) for y in bound], group_size=group_size)


def _other_unit(found: Guarantee, population: Population) -> str:
    """Why the guarantee says nothing about the game: it protects records, and the game is played for whole units."""
    protected, several = found.unit.partition(",")[0], len(population) > population.units
    if not several or protected == population.unit.name:
        return ""
    return (
        f"No permitted curve: the guarantee protects one {protected}, and the game is played for one "
        f"{population.unit.name} with all of its records."
    )
