"""Private classes against public ones: the attacker has the public ones, and no model is trained on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from difflib import get_close_matches
from typing import NamedTuple

import numpy as np

from sfumato.data.population import Population
from sfumato.errors import UsageError
from sfumato.types import Bools


class ClassSplit(NamedTuple):
    """A population cut in two by class.

    Attributes:
        private: labels are 0, 1, ... in the old order; class names go with them.
        public: labels and class names as before; they mean nothing to a model of the private classes.
    """

    private: Population
    public: Population


def unit_is_class(population: Population) -> bool:
    """Whether all records of each class belong to one unit, which has no others: to learn a class is to learn it."""
    pairs = np.unique(np.stack([population.label_array, population.unit_of]), axis=1)
    return all(len(np.unique(side)) == pairs.shape[1] for side in pairs)


def split_classes(population: Population, names: Sequence[str]) -> ClassSplit:
    """Take the classes called `names` out of the population.

    Raises:
        UsageError: for a name that is no class, a class without records, fewer than two private classes, or a unit
            with records on both sides: the attacker would then have records of the people who are protected.
    """
    chosen = [_position(population, name) for name in names]
    public = np.isin(population.label_array, chosen)
    _check(population, names, public)
    private = population.take(np.flatnonzero(~public))
    named = [population.class_names[c] for c in sorted(set(chosen))]
    kept = [c for c in range(population.classes) if c not in chosen]
    renumbered = replace(
        private,
        labels=np.searchsorted(kept, private.label_array).astype(np.int64),
        class_names=tuple(population.class_names[c] for c in kept),
        notes=(*private.notes, f"{int(public.sum())} records of public classes ({', '.join(named)}) are set apart."),
    )
    return ClassSplit(renumbered, population.take(np.flatnonzero(public)))


def _position(population: Population, name: str) -> int:
    if name in population.class_names:
        return population.class_names.index(name)
    near = get_close_matches(name, population.class_names, n=1)
    raise UsageError(
        f"Expected a class ({', '.join(population.class_names)}) as public, got {name!r}.",
        remedy=f"Did you mean {near[0]!r}?" if near else "Name classes of the data.",
    )


def _check(population: Population, names: Sequence[str], public: Bools) -> None:
    if not public.any():
        raise UsageError(
            f"Expected public classes with records, got none of {', '.join(names) or 'no class'}.",
            remedy="Name classes that the data have.",
        )
    if len(np.unique(population.label_array[~public])) < 2:
        raise UsageError(
            f"Expected at least two private classes, got {population.classes} classes of which {len(set(names))} are "
            "public.",
            remedy="Leave more classes private.",
        )
    both = np.intersect1d(population.unit_of[public], population.unit_of[~public])
    if len(both):
        raise UsageError(
            f"Expected every unit ({population.unit.name}) in private or in public classes, got {len(both)} in both.",
            remedy="Public records must not belong to the people who are protected: take public records of others "
            "(`public`), or choose the unit for which the split is honest.",
        )
