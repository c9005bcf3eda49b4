"""The attribute game: what is the hidden attribute of a record of which all else is known?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from sfumato.attacks.inversion.base import InversionAttack
from sfumato.attacks.inversion.evidence import AttributeEvidence
from sfumato.attacks.inversion.population_baseline import PopulationFit
from sfumato.audit.inversion.caching import Timed
from sfumato.audit.inversion.estimates import Answers, in_pairs
from sfumato.audit.inversion.guesses import AttributeGuesses
from sfumato.audit.inversion.measures import attribute_measures
from sfumato.audit.inversion.scene import Answered, Outcome, Scene, answered, result_of
from sfumato.audit.inverted import InversionResult
from sfumato.audit.record import NotRun
from sfumato.errors import NotApplicable, UsageError
from sfumato.seeding import stream
from sfumato.types import Bools, Floats, Ints, Rows

COLUMNS = 5  # drawn where none are named
NEARLY = 0.8  # share of the commonest value from which on a column counts as nearly constant
FEWEST = 20  # public records from which anything is known of a population
TABLES_ONLY = "needs records of a table, got records of shape {}"
SET_ASIDE = (
    "The attacker's records of the population are the known non-members ({count}), which no model was trained on."
)
LEFT_OVER = (
    "The attacker's records of the population ({count} for each model) are others that the model was not trained on; "
    "none of them is asked about."
)


class Values(NamedTuple):
    """What a hidden attribute can be.

    Attributes:
        values: float32 [v], rising.
        bounds: float64 [v - 1], rising; a number on a bound belongs to the value below it.
    """

    values: Floats
    bounds: Floats

    def of(self, column: Floats) -> Ints:
        """int64 [n]: which of the values each number counts as."""
        return np.searchsorted(self.bounds, column, side="left").astype(np.int64)


class Players(NamedTuple):
    """Records of one target: int64 positions [q] of those asked about, and [p] of those the attacker has with all their
    attributes: never one that the target was trained on.
    """

    asked: Rows
    public: Rows


class ColumnAsked(NamedTuple):
    """One hidden column.

    Attributes:
        variant: which one, in words.
        players: for each target.
        evidence: for each target.
        truth: for each target int64 [q], which value each record has.
    """

    variant: str
    players: list[Players]
    evidence: list[AttributeEvidence]
    truth: list[Ints]


class _Drawn(NamedTuple):
    """Members and others in the game of one target, in random order."""

    members: Rows
    others: Rows


def play_attribute(scene: Scene, attack: InversionAttack[AttributeEvidence]) -> Outcome:
    """Hide one column after the other; members and others in equal numbers."""
    if len(scene.population.records.shape) != 1:
        reason = TABLES_ONLY.format(scene.population.records.shape)
        return Outcome(refused=NotRun(attack=attack.method, reasons=[reason]))
    results: list[InversionResult] = []
    reasons: list[str] = []
    try:
        for one in columns_asked(scene, attack, reasons):
            done = answered(scene, attack, one.evidence, one.variant)
            if isinstance(done, NotRun):
                reasons += done.reasons
                break
            results.append(_result(scene, attack, one, done))
    except NotApplicable as error:
        reasons.append(str(error))
    told = list(dict.fromkeys(reasons))
    return Outcome(results, NotRun(attack=attack.method, reasons=told) if told else None)


def columns_asked(
    scene: Scene, attack: InversionAttack[AttributeEvidence], reasons: list[str]
) -> Iterator[ColumnAsked]:
    """What the attack may see of each hidden column; oracles are only named.

    Args:
        scene: the subject.
        attack: for the access that it declares.
        reasons: gets those why a column is left out; the others are played.

    Raises:
        NotApplicable: if there are too few records, or no column to hide.
    """
    players = players_of(scene)
    for column in columns_hidden(scene):
        try:
            yield _asked(scene, attack, players, column)
        except NotApplicable as error:
            reasons.append(str(error))


def columns_hidden(scene: Scene) -> list[int]:
    """The columns that are hidden in turn: those named, else up to `COLUMNS` at random. Constant ones are not drawn,
    and nearly constant ones (`NEARLY`) only if there is nothing else: nobody has anything to gain there.

    Raises:
        UsageError: for a column that is not there.
        NotApplicable: if no column differs between records.
    """
    width = scene.population.records.shape[0]
    if wrong := [column for column in scene.inversion.attributes if not 0 <= column < width]:
        raise UsageError(
            f"Expected columns to hide from 0 to {width - 1}, got {wrong[0]}.", remedy="Count columns from 0."
        )
    if scene.inversion.attributes:
        return list(scene.inversion.attributes)
    records = scene.population.tensor(np.arange(len(scene.population))).numpy()
    commonest = np.array([np.unique(column, return_counts=True)[1].max() for column in records.T]) / len(records)
    varied = np.flatnonzero(commonest <= NEARLY)
    varied = varied if len(varied) else np.flatnonzero(commonest < 1)
    if not len(varied):
        raise NotApplicable("needs a column whose values differ, got none")
    return sorted(stream(scene.settings.seed, "inversion", "columns").permutation(varied)[:COLUMNS].tolist())


def players_of(scene: Scene) -> list[Players]:
    """For each target as many members as others, and the attacker's records of the population.

    Raises:
        NotApplicable: if there are too few of either.
    """
    drawn = [_drawn(scene, t) for t in range(len(scene.targets))]
    count = min([scene.inversion.records, *(min(len(one.members), len(one.others)) for one in drawn)])
    if count < 1:
        raise NotApplicable("needs members and others to hide an attribute of, got too few records in the game")
    asked = [np.sort(np.concatenate([one.members[:count], one.others[:count]])) for one in drawn]
    return [Players(rows, _known(scene, rows, inside)) for rows, inside in zip(asked, scene.trained, strict=True)]


def values_of(column: Floats, bins: int, name: str = "the attribute") -> Values:
    """At most `bins` values: the numbers themselves where they are so few, else the medians of intervals of equal
    frequency.

    Args:
        column: float [n], what the attacker knows of the population.
        bins: most values, at least 2.
        name: of the column, for the reason.

    Raises:
        NotApplicable: if all numbers are the same.
    """
    known = np.asarray(column, dtype=np.float64)
    distinct = np.unique(known)
    if len(distinct) < 2:
        raise NotApplicable(f"needs an attribute that differs between public records, got one value only in {name}")
    if len(distinct) <= bins:
        return Values(distinct.astype(np.float32), (distinct[1:] + distinct[:-1]) / 2)
    cuts = np.unique(np.quantile(known, np.arange(1, bins) / bins, method="inverted_cdf"))
    bounds = cuts[cuts < distinct[-1]]
    place = np.searchsorted(bounds, known, side="left")
    middles = [np.median(known[place == v]) for v in range(len(bounds) + 1)]
    return Values(np.array(middles, dtype=np.float32), bounds)


def _asked(
    scene: Scene, attack: InversionAttack[AttributeEvidence], players: list[Players], column: int
) -> ColumnAsked:
    evidence, truth = [], []
    for t, (target, one) in enumerate(zip(scene.targets, players, strict=True)):
        public = scene.population.take(one.public)
        known = public.tensor(np.arange(len(public))).numpy()[:, column]
        values = values_of(known, scene.inversion.bins, f"column {column}")
        records = scene.population.tensor(one.asked).numpy().astype(np.float32)
        truth.append(values.of(records[:, column]))
        records[:, column] = np.nan
        evidence.append(
            AttributeEvidence(
                oracle=target.named(attack.threat_model.access, scene.known.box),
                records=records,
                labels=scene.population.label_array[one.asked],
                column=column,
                values=values.values,
                public=public,
                public_values=values.of(known),
                seed=scene.seed(attack, t, column),
            )
        )
    return ColumnAsked(f"column {column}", players, evidence, truth)


def _result(
    scene: Scene, attack: InversionAttack[AttributeEvidence], one: ColumnAsked, done: Answered
) -> InversionResult:
    best = [guesses.records[:, 0].reshape(-1) for guesses in done.guesses]
    found = AttributeGuesses(
        guessed=np.stack([_position(asked.values, row) for asked, row in zip(one.evidence, best, strict=True)]),
        baseline=np.stack([_baseline(scene, asked) for asked in one.evidence]),
        truth=np.stack(one.truth),
        members=np.stack([scene.trained[t][players.asked] for t, players in enumerate(one.players)]),
        units=np.stack([scene.population.unit_of[players.asked] for players in one.players]),
    )
    measures = attribute_measures(found, scene.settings)
    bounds = scene.bounds("attribute", success_without(found, scene.settings.confidence), "attribute_accuracy")
    told = [_told(scene, one.players)]
    return result_of(scene, attack, done, measures, variant=one.variant, knowledge=told, bounds=bounds)


def success_without(found: AttributeGuesses, confidence: float) -> float | None:
    """How often the attack is right on records that the model never saw, or the baseline on members, if more.

    The upper end of the interval. A model that never saw a record tells something of it, too, because it knows the
    population: only what goes beyond that is bounded by a guarantee. None where there is no interval.
    """
    answers = Answers(in_pairs(*found.guessed.shape), found.units, "units", confidence)
    hits = np.where(found.members, np.nan, found.guessed == found.truth)
    known = np.where(found.members, found.baseline == found.truth, np.nan)
    if not np.isfinite(hits).any() or not np.isfinite(known).any():
        return None
    high = answers.share("success_without", hits).high
    return None if high is None else max(high, float(np.nanmean(known)))


def _baseline(scene: Scene, evidence: AttributeEvidence) -> Ints:
    """int64 [q]: what one says who knows the population, and no model; it is stored like a part of an attack."""
    return scene.run_fit(Timed(PopulationFit(evidence=evidence)))["probabilities"].argmax(axis=1).astype(np.int64)


def _position(values: Floats, guessed: Floats) -> Ints:
    """int64 [q]: which of the values each guess is nearest to."""
    return np.abs(guessed[:, None] - values[None]).argmin(axis=1).astype(np.int64)


def _drawn(scene: Scene, target: int) -> _Drawn:
    """Half of the others are spared where the attacker's own records come from among them."""
    inside, rng = scene.trained[target], stream(scene.settings.seed, "inversion", "asked", target)
    members = rng.permutation(np.flatnonzero(inside & scene.in_game))
    others = rng.permutation(np.flatnonzero(~inside & scene.in_game))
    return _Drawn(members, others if _enough_set_aside(scene) else others[: len(others) // 2])


def _known(scene: Scene, asked: Rows, inside: Bools) -> Rows:
    """The attacker's records of the population, for one target; whole units, none of which is asked about."""
    if _enough_set_aside(scene):
        return np.flatnonzero(scene.set_aside)
    own = np.isin(scene.population.unit_of, scene.population.unit_of[asked])
    left = np.flatnonzero(~inside & ~own)
    if len(left) < FEWEST:
        raise NotApplicable(
            f"needs {FEWEST} records of the population that the model was not trained on, got {len(left)}"
        )
    return left


def _enough_set_aside(scene: Scene) -> bool:
    return int(scene.set_aside.sum()) >= FEWEST


def _told(scene: Scene, players: list[Players]) -> str:
    count = min(len(one.public) for one in players)
    return (SET_ASIDE if _enough_set_aside(scene) else LEFT_OVER).format(count=count)
