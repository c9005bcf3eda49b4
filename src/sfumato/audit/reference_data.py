"""The privacy of records by what the target used them for: to fit, to validate, or as reference data of a defence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sfumato.audit.findings import finding
from sfumato.audit.game import Game, Played
from sfumato.audit.record import ReferenceRisk
from sfumato.audit.settings import AuditSettings
from sfumato.audit.statistics import Counts, Estimate, summarise, unresolved
from sfumato.data.population import Population
from sfumato.seeding import stream
from sfumato.training.composition import reference_share
from sfumato.training.defence import configured
from sfumato.training.recipe import AnyRecipe, Recipe
from sfumato.training.splitting import ROLES, roles_of
from sfumato.types import Bools, Floats, Strings

FPR = 0.01
NONE = ""  # the role of a unit that is no member
UNKNOWN = (
    "The training function is the user's own: which records it kept aside as reference data is not known, so their "
    "privacy was not measured apart."
)


@dataclass(frozen=True)
class RoleRisk:
    """What one attack found on the members of one role.

    Attributes:
        role: one of `ROLES`.
        units: members in the game with this role, the mean over targets.
        auc: against all non-members.
        tpr: the TPR at an FPR of 1%.
    """

    role: str
    units: float
    auc: Estimate
    tpr: Estimate


def by_role(
    scores: Floats,
    members: Bools,
    in_game: Bools,
    roles: Strings,
    *,
    confidence: float,
    replicates: int,
    rng: np.random.Generator,
) -> list[RoleRisk]:
    """AUC and TPR at 1% FPR with the members of each role, against all non-members.

    Intervals hold for all roles at once (Bonferroni). Roles that no member in the game has are left out.

    Args:
        scores: float64 [targets, units], higher = member; NaN only outside the game.
        members: bool [targets, units].
        in_game: bool [units].
        roles: text [targets, units], one of `ROLES` for members.
        confidence: of all intervals together, in (0, 1).
        replicates: of the bootstrap, at least 2.
        rng: draws clusters.
    """
    inside = members & in_game
    present = [role for role in ROLES if (inside & (roles == role)).any()]
    level = 1 - (1 - confidence) / max(len(present), 1)
    found = []
    for role in present:
        own = inside & (roles == role)
        played = own | (in_game & ~members)
        units = float(own.sum(axis=1).mean())
        if not (played & ~members).any():
            counts, note = Counts(int(own.sum()), 0), "There is no non-member score."
            auc = unresolved("auc", counts, level, note)
            found.append(RoleRisk(role, units, auc, unresolved("tpr_at_fpr", counts, level, note, FPR)))
            continue
        summary = summarise(
            scores, members, played, fprs=(FPR,), priors=(), confidence=level, replicates=replicates, rng=rng
        )
        found.append(RoleRisk(role, units, summary.auc, summary.tpr_at_fpr[0]))
    return found


def roles_of_units(recipe: Recipe, population: Population, members: Bools, seeds: Sequence[int]) -> Strings:
    """What each target used each unit for, text [targets, units]: one of `ROLES`, or `NONE` for non-members.

    Args:
        recipe: of the targets.
        population: all records.
        members: bool [targets, units].
        seeds: of the targets.
    """
    task = configured(recipe.defence, recipe.task)
    found = np.full(members.shape, NONE, dtype="<U10")
    for target, (inside, seed) in enumerate(zip(members, seeds, strict=True)):
        rows = np.flatnonzero(population.rows_of(inside))
        found[target, population.unit_of[rows]] = roles_of(task, recipe.defence, population, rows, seed)
    return found


def reference_risk(
    recipe: AnyRecipe,
    population: Population,
    game: Game,
    played: Played | None,
    seeds: Sequence[int],
    settings: AuditSettings,
) -> list[ReferenceRisk]:
    """What the strongest attack found by role; empty where no part of the defence sets reference data aside.

    Args:
        recipe: of the targets.
        population: all records.
        game: that was played.
        played: the strongest attack, or None where none could run.
        seeds: of the targets of the game, in its order.
        settings: for level, replicates and seed.
    """
    if not reference_share(recipe.defence) or played is None:
        return []
    name = played.attack.name
    if not isinstance(recipe, Recipe):
        return [ReferenceRisk(role="reference", attack=name, units=None, findings=[], note=UNKNOWN)]
    found = by_role(
        played.scores,
        game.members,
        game.in_game,
        roles_of_units(recipe, population, game.members, seeds),
        confidence=settings.confidence,
        replicates=settings.replicates,
        rng=stream(settings.seed, "reference data", name),
    )
    return [
        ReferenceRisk(role=one.role, attack=name, units=one.units, findings=[finding(one.auc), finding(one.tpr)])
        for one in found
    ]
