"""Probing before a comparison: on records set apart for it, to fill in the regions that a defence protects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sfumato.audit.probing.settings import ProbeSettings
from sfumato.audit.settings import AuditSettings, designated
from sfumato.canonical import content_hash
from sfumato.data.canaries import twins
from sfumato.data.population import Population
from sfumato.defences.pptp_reconstruction import PPTPReconstruction
from sfumato.errors import UsageError
from sfumato.seeding import stream
from sfumato.training.defence import Defence, chain
from sfumato.training.recipe import AnyRecipe, Recipe
from sfumato.training.task import Task
from sfumato.validate import at_least, in_range, positive

FEWEST = 16  # units on either side


@dataclass(frozen=True, kw_only=True)
class ProbeFirst:
    """Asks for a probe before the comparison.

    Args:
        share: of the units that are no canaries; they are in no training set of the comparison and never attacked.
        models: of each variant, even.
        epochs: in which a rewound region is tuned.
    """

    share: float
    models: int = 8
    epochs: int = 4

    def __post_init__(self) -> None:
        positive("share", self.share)
        in_range("share", self.share, 0, 0.9)
        at_least("epochs", self.epochs, 1)
        self.settings(AuditSettings(attacks=ProbeSettings().audit.attacks))

    def settings(self, audit: AuditSettings) -> ProbeSettings:
        """How to probe, with the seed and the intervals of the comparison; only what ranks the regions is trained."""
        return ProbeSettings(
            operations=("transplant", "rewind-private"),
            epochs=self.epochs,
            models=self.models,
            seed=audit.seed,
            confidence=audit.confidence,
            replicates=audit.replicates,
            dtype=audit.dtype,
        )


class Apart(NamedTuple):
    """Disjoint parts of a population, by unit."""

    probed: Population
    compared: Population


class Question(NamedTuple):
    """One probe to make: what is trained, and behind what. Recipes with the same question share its map."""

    task: Task
    defence: Defence

    @property
    def key(self) -> str:
        """A short name."""
        return content_hash([self.task, self.defence])[:8]


def set_apart(population: Population, share: float, seed: int) -> Apart:
    """Split off a share of the units at random; designated canaries and the records they are near copies of stay.

    Raises:
        UsageError: if either part would be too small.
    """
    kept = np.concatenate([designated(population), twins(population)])
    ordinary = np.setdiff1d(np.arange(population.units), kept)
    chosen = np.sort(stream(seed, "probe", "units").permutation(ordinary)[: round(share * len(ordinary))])
    rest = np.setdiff1d(np.arange(population.units), chosen)
    if min(len(chosen), len(rest)) < FEWEST:
        raise UsageError(
            f"Expected at least {FEWEST} units to probe and as many to compare on, got {len(chosen)} and {len(rest)}.",
            remedy="Use more records, or another share.",
        )
    return Apart(population.take_units(chosen), population.take_units(rest))


def questions(recipes: Sequence[AnyRecipe]) -> dict[str, Question]:
    """Name of each recipe whose regions are still open -> what must be probed for it.

    Raises:
        UsageError: if there is none, or one without a privacy objective.
    """
    found = {recipe.name: _question(recipe) for recipe in recipes if isinstance(recipe, Recipe) and is_open(recipe)}
    if not found:
        raise UsageError(
            f"Expected a {PPTPReconstruction.name} without regions to probe for, got "
            f"{', '.join(recipe.name for recipe in recipes)}.",
            remedy=f'Add one, for instance --defences "{PPTPReconstruction.name}+relaxloss", or leave the probe out.',
        )
    return found


def with_map(recipe: Recipe, path: Path) -> Recipe:
    """The recipe with this map in its open part."""
    return replace(recipe, defence=_filled(recipe.defence, str(path)))


def is_open(recipe: AnyRecipe) -> bool:
    """Whether a probe must say first which regions it protects."""
    return any(_open(part) for part in chain(recipe.defence))


def _open(part: Defence) -> bool:
    return isinstance(part, PPTPReconstruction) and not part.regions and not part.map


def _question(recipe: Recipe) -> Question:
    others = [part for part in chain(recipe.defence) if not _open(part)]
    if not others:
        raise UsageError(
            f"Expected a defence around or inside {recipe.name} to probe with, got none.",
            remedy=f'For instance "{PPTPReconstruction.name}+relaxloss".',
        )
    made: Defence | None = None
    for part in reversed(others):
        made = replace(part, inner=made)
    assert made is not None
    return Question(recipe.task, made)


def _filled(part: Defence, path: str) -> Defence:
    inner = None if part.inner is None else _filled(part.inner, path)
    if isinstance(part, PPTPReconstruction) and _open(part):
        return replace(part, map=path, inner=inner)
    return replace(part, inner=inner)
