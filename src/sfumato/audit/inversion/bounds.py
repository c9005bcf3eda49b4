"""What a guarantee permits of an inversion game, and whether the game is one that it speaks about at all.

A guarantee is about one unit. It bounds how often an attacker may find out something of that unit that it could not
have known without it (`accounting.reconstruction`). How a class looks that many units share is nothing of that kind.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sfumato.accounting.guarantee import Guarantee, NoGuarantee
from sfumato.accounting.mechanisms.base import Mechanism, NoisySum
from sfumato.accounting.mechanisms.gaussian import Gaussian
from sfumato.accounting.reconstruction import rero_bound
from sfumato.audit.inverted import ReconstructionBound
from sfumato.data.classes import unit_is_class
from sfumato.data.population import Population
from sfumato.validate import one_of

GAMES = ("class", "gradient", "attribute", "label")
RATES = (  # measures that are rates of success; the others are distances, or differences
    "looks_accuracy", "evaluator_accuracy_1", "evaluator_accuracy_5", "identified", "labels_recovered",
    "attribute_accuracy", "planted_label",
)  # fmt: skip
METHOD = (
    "reconstruction robustness by the trade-off curve of the composed privacy loss, at a false-positive rate of the "
    "prior (Balle et al. 2022; Hayes et al. 2023)"
)

TOO_FEW = (
    "There are too few others to tell the true one from: a guess without the model may be right each time, so that no "
    "success is above what is permitted."
)


class _Game(NamedTuple):
    """What was released in a game, to how many units its question refers, and what to say; no group: it is none of
    those that a guarantee speaks about."""

    mechanisms: tuple[Mechanism, ...]
    group: int | None
    note: str


class _Group(NamedTuple):
    """How many of the guarantee's units a question is about, and what to say of it."""

    size: int
    told: str


def bounds_for(
    game: str,
    guarantee: Guarantee | NoGuarantee,
    population: Population,
    prior: float,
    measured: str,
    level: str = "record",
) -> list[ReconstructionBound]:
    """The bound beside a measure, or why there is nothing to compare; nothing at all without a guarantee.

    Args:
        game: "class", "gradient" (the first step of a training, from fresh weights, of a batch that is known to have
            been drawn), "attribute" or "label".
        guarantee: of the model.
        population: that it was trained on.
        prior: success without the unit (kappa), in (0, 1]: 1 / (classes - 1) for planted labels; one over how many
            records the true one is told from, times the guesses it may be assigned to, for batches; of the same attack
            on records that the model never saw, for attributes.
        measured: name of the measure.
        level: what a batch is made of, "record" or "unit".

    Raises:
        UsageError: for an unknown game, or a prior outside (0, 1].
    """
    one_of("game", game, GAMES)
    if not isinstance(guarantee, Guarantee):
        return []
    played = _of_game(game, guarantee, population, level)
    if measured not in RATES:
        played = played._replace(group=None, note="The bound is on rates of success; this is none.")
    elif prior == 1:
        played = played._replace(group=None, note=TOO_FEW)
    permitted = 1.0 if played.group is None else float(rero_bound(played.mechanisms, [prior], played.group)[0])
    return [
        ReconstructionBound(
            prior=prior,
            permitted=permitted,
            measured=measured,
            unit=guarantee.unit,
            method=METHOD,
            applies=played.group is not None,
            note=played.note,
        )
    ]


def _of_game(game: str, guarantee: Guarantee, population: Population, level: str) -> _Game:
    if game == "class":
        return _class_game(guarantee, population)
    if game == "gradient":
        return _gradient_game(guarantee, population, level)
    if game == "attribute":
        return _attribute_game(guarantee, population)
    return _Game(guarantee.mechanisms, 1, "The planted label was drawn at random: the prior is exact.")


def _attribute_game(guarantee: Guarantee, population: Population) -> _Game:
    """The prior is measured on other models' records: that exchanges one unit for another."""
    group, told = _changed(guarantee, population)
    note = (
        "The prior is how often the same attack is right on records that the model never saw (upper end of the "
        "interval), or who knows the population alone, where that is more: a model tells something of the population, "
        f"too, and no guarantee forbids it. One unit takes the place of another.{told}"
    )
    return _Game(guarantee.mechanisms, group * guarantee.adjacency.swaps, note)


def _changed(guarantee: Guarantee, population: Population) -> _Group:
    """How many of the guarantee's units change with one of the population, and what to say of it."""
    most = int(np.bincount(population.unit_of).max())
    if most == 1 or _protects_units(guarantee, population):
        return _Group(1, "")
    told = (
        f" The guarantee is about single records, and other records of the same {population.unit.name} tell of this "
        f"one: the bound is that of a group of {most}, as many as a unit has at most."
    )
    return _Group(most, told)


def _class_game(guarantee: Guarantee, population: Population) -> _Game:
    whole = _protects_units(guarantee, population)
    unit, records = population.unit.name, int(np.bincount(population.label_array).max())
    if unit_is_class(population):
        blind = (
            f"The prior takes a guess without the {unit} for a blind one; whoever knows all others may do better, so "
            "that a measurement above the bound would prove nothing."
        )
        if whole:
            note = f"Each class is one {unit}, and the guarantee is about all of it. {blind}"
            return _Game(guarantee.mechanisms, 1, note)
        note = (
            f"Each class is one {unit}, but the guarantee is about single records: the bound is that of a group of "
            f"{records}, as many as a class has at most. {blind}"
        )
        return _Game(guarantee.mechanisms, records, note)
    pairs = np.unique(np.stack([population.label_array, population.unit_of]), axis=1)
    most = int(np.bincount(pairs[0]).max()) if whole else records
    note = (
        f"How a class looks is shared by up to {most} units ({guarantee.unit.split(',')[0]}), and the guarantee is "
        "about one of them at a time: it does not bound what an attacker learns of the class."
    )
    return _Game(guarantee.mechanisms, None, note)


def _gradient_game(guarantee: Guarantee, population: Population, level: str) -> _Game:
    """One step on a batch that is known: sampling hides nothing, and what was fitted before it is there, too."""
    if not guarantee.mechanisms or not isinstance(guarantee.mechanisms[-1], NoisySum):
        return _Game((), None, "The guarantee is not one of private steps, so a single step has none of its own.")
    last = guarantee.mechanisms[-1]
    step = Gaussian(noise_multiplier=last.noise_multiplier, steps=1, adjacency=last.adjacency)
    note = (
        "For one step whose batch is known to have been drawn: sampling hides nothing then, and a single step may give "
        "away more of its batch than the guarantee of the whole training says of a unit that may never be drawn."
    )
    group, told = _changed(guarantee, population) if level == "unit" else _Group(1, "")
    return _Game((*guarantee.mechanisms[:-1], step), group, note + told)


def _protects_units(guarantee: Guarantee, population: Population) -> bool:
    """Whether the guarantee is about the population's units with all their records."""
    name = population.unit.name
    single = len(population) == population.units
    return single or guarantee.unit == name or guarantee.unit.startswith(f"{name}, at most ")
