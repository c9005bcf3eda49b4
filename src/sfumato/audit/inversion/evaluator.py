"""Which network judges guesses of classes, and on which records it is tried."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from sfumato.data.population import Population
from sfumato.errors import UnsupportedModel, UsageError
from sfumato.models.base import ModelFamily
from sfumato.models.build import build_seeded
from sfumato.seeding import stream
from sfumato.training.defence import configured
from sfumato.training.features import input_shape
from sfumato.training.presets.base import Preset, presets
from sfumato.training.recipe import AnyRecipe, Recipe
from sfumato.types import Bools
from sfumato.validate import one_of

# Unlike the default network of each kind first; the last takes pictures that are too small for the others.
CANDIDATES = {
    "image": ("image-resnet8", "image-cnn", "residual-net", "table-mlp"),
    "table": ("residual-net", "table-mlp"),
}
SHARE = 0.1  # of the records that the evaluator is tried on


class HeldOut(NamedTuple):
    """The records that the evaluator is tried on, bool [n], and whether they are whole units."""

    rows: Bools
    by_unit: bool


def architectures(recipes: Sequence[AnyRecipe]) -> dict[type[ModelFamily], str]:
    """The kinds of network that the recipes train, as far as they are known, each with the name of such a recipe."""
    known = [recipe for recipe in recipes if isinstance(recipe, Recipe)]
    return {type(configured(recipe.defence, recipe.task).model): recipe.name for recipe in known}


def evaluator_preset(population: Population, recipes: Sequence[AnyRecipe], name: str = "") -> Preset:
    """The preset of the evaluation model.

    Args:
        population: for the kind and shape of its records.
        recipes: of the targets; the network is none of theirs.
        name: of a preset; "" for the first that differs from all recipes and takes such records.

    Raises:
        UsageError: if the named one, or every known one, has the architecture of a target.
    """
    taken, known = architectures(recipes), presets()
    if name:
        one_of("evaluator", name, known)
        return _checked(known[name](), taken)
    for candidate in CANDIDATES.get(population.kind, CANDIDATES["table"]):
        preset = known[candidate]()
        if type(preset.model()) not in taken and _takes(preset, population):
            return preset
    raise UsageError(
        f"Expected an evaluator of another architecture than every target, got {len(taken)} kinds of targets that "
        f"leave none of {', '.join(CANDIDATES[population.kind])}.",
        remedy="Name another preset as `evaluator` (see `sfumato list recipes`), or compare fewer architectures.",
    )


def held_out(population: Population, rng: np.random.Generator) -> HeldOut:
    """About a tenth of the records of each class, in whole units where that leaves each class records to learn from.

    Where it does not, as with one person a class, single records are held out: their units are known to the evaluator.
    """
    rows = _units_out(population, rng)
    if rows.any():
        return HeldOut(rows, True)
    order = rng.permutation(len(population))
    labels = population.label_array
    for label in np.unique(labels):
        own = order[labels[order] == label]
        if len(own) > 1:
            rows[own[: _quota(len(own))]] = True
    return HeldOut(rows, False)


def _units_out(population: Population, rng: np.random.Generator) -> Bools:
    """Units in random order, each taken if none of its classes gives more than its quota."""
    labels, unit_of, classes = population.label_array, population.unit_of, population.classes
    sizes = np.bincount(labels, minlength=classes)
    left = np.array([_quota(size) if size > 1 else 0 for size in sizes])
    by_unit = np.argsort(unit_of, kind="stable")
    ends = np.cumsum(np.bincount(unit_of, minlength=population.units))
    rows = np.zeros(len(population), dtype=bool)
    for unit in rng.permutation(population.units):
        own = by_unit[ends[unit - 1] if unit else 0 : ends[unit]]
        taken = np.bincount(labels[own], minlength=classes)
        if (taken <= left).all():
            left -= taken
            rows[own] = True
        if not left.any():
            break
    return rows


def _quota(size: int) -> int:
    return max(1, round(SHARE * size))


def _checked(preset: Preset, taken: dict[type[ModelFamily], str]) -> Preset:
    family = type(preset.model())
    if family in taken:
        raise UsageError(
            f"Expected an evaluator of another architecture than the targets, got {preset.name!r}, whose network "
            f"({family.name}) is that of the recipe {taken[family]!r}.",
            remedy="It would take over what fools the target. Name another preset, or leave `evaluator` empty.",
        )
    return preset


def _takes(preset: Preset, population: Population) -> bool:
    shape = input_shape(preset.features(), population.records.shape)
    try:
        build_seeded(preset.model(), shape, population.classes, seed=0)
    except UnsupportedModel:
        return False
    return population.kind in preset.kinds


def evaluator_rng(seed: int) -> np.random.Generator:
    """What decides which records are held out."""
    return stream(seed, "evaluator", "held out")
