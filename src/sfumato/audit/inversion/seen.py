"""Guesses of classes as the judge sees them: what every measure of the class game reads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from sfumato.audit.inversion.estimates import Answers, in_pairs
from sfumato.audit.inversion.guesses import ClassGuesses
from sfumato.audit.inversion.judge import Judge
from sfumato.audit.settings import AuditSettings
from sfumato.audit.statistics.crossed import FEWEST_PAIRS
from sfumato.audit.statistics.nearest import nearest
from sfumato.audit.utility import honest
from sfumato.errors import UsageError
from sfumato.seeding import stream
from sfumato.types import Bools, Floats, Ints, Rows


@dataclass(frozen=True, eq=False)
class Seen:
    """Guesses, and what the judge makes of them.

    Args:
        guesses: of T targets, q classes, k each; no class twice for one target.
        judge: with the private records.
        settings: for the level and the seed.
    """

    guesses: ClassGuesses
    judge: Judge
    settings: AuditSettings

    def __post_init__(self) -> None:
        known, asked = self.judge.population.classes, self.guesses.labels
        if asked.max() >= known or any(len(np.unique(row)) < len(row) for row in asked):
            raise UsageError(
                f"Expected distinct classes below {known} for each target, got {asked.tolist()}.",
                remedy="Put all guesses of a class in one row.",
            )
        if self.guesses.trained.shape[1] != len(self.judge.population):
            raise UsageError(
                f"Expected `trained` for each of {len(self.judge.population)} private records, got "
                f"{self.guesses.trained.shape[1]}.",
                remedy="Pass the population that the targets were trained from.",
            )

    @cached_property
    def answers(self) -> Answers:
        """Guesses of a class belong together, and those of a pair of targets."""
        pairs = in_pairs(self.guesses.targets, self.guesses.questions)
        return Answers(pairs, self.guesses.labels, "classes", self.settings.confidence)

    @cached_property
    def draws(self) -> Answers:
        """For what is compared between records in and out of training: which is which was drawn for each class and
        each pair of targets anew, so that few pairs still have many independent draws. It speaks of these classes and
        models. Where there are pairs enough to tell how models differ, the same as `answers`.
        """
        if self.guesses.targets // 2 >= FEWEST_PAIRS:
            return self.answers
        pairs, classes = self.answers.pairs, self.guesses.labels
        cells = pairs * self.judge.population.classes + classes
        return Answers(np.zeros_like(pairs), cells, "draws of a class's training records", self.settings.confidence)

    @cached_property
    def logits(self) -> Floats:
        """float32 [T, q, k, classes]."""
        return self._each(self.judge.logits)

    @cached_property
    def features(self) -> Floats:
        """float32 [T, q, k, D]."""
        return self._each(self.judge.features)

    @cached_property
    def looks(self) -> Floats:
        """float32 [T, q, k, d]."""
        return self._each(self.judge.looks)

    @cached_property
    def nearest_class(self) -> Ints:
        """int64 [T, q, k]: the second opinion."""
        return self._each(self.judge.second_opinion)

    @cached_property
    def nearest_of_equal(self) -> Ints:
        """int64 [T, q, k]: the same among equally many records of each class, drawn at random."""
        labels, rng = self.judge.population.label_array, stream(self.settings.seed, "equal classes")
        order = rng.permutation(np.flatnonzero(self.counted))
        there = np.unique(labels[order])
        fewest = min(int((labels[order] == label).sum()) for label in there)
        rows = np.concatenate([order[labels[order] == label][:fewest] for label in there])
        looks, shape = self.looks, self.guesses.labels.shape
        which = nearest(looks.reshape(-1, looks.shape[-1]), self.judge.record_looks[rows]).which
        return labels[rows[which]].reshape(*shape, -1)

    @cached_property
    def counted(self) -> Bools:
        """bool [n]: private records that are as they came; canaries that were changed are no picture of their class."""
        return honest(self.judge.population)

    def rows_of(self, label: int) -> Rows:
        """The private records of a class that count."""
        return np.flatnonzero((self.judge.population.label_array == label) & self.counted)

    def others(self, target: int, question: int) -> Ints:
        """The other classes that this target was asked about."""
        return np.delete(self.guesses.labels[target], question)

    def _each(self, of: Callable[[Floats], np.ndarray]) -> np.ndarray:
        records = self.guesses.records
        found = of(records.reshape(-1, *self.guesses.shape))
        return found.reshape(*records.shape[:3], *found.shape[1:])
