"""What attackers guessed, beside the truth: what the measures of each game read. Everything over all targets."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sfumato.errors import UsageError
from sfumato.types import Bools, Floats, Ints


@dataclass(frozen=True, eq=False)
class ClassGuesses:
    """Guesses of classes.

    Args:
        records: float [targets, q, k, *shape], k guesses of each class asked about.
        labels: int64 [targets, q], that class.
        trained: bool [targets, n], the records of the population that each target was trained on. Targets 2i and 2i+1
            are complementary where both are there.
    """

    records: Floats
    labels: Ints
    trained: Bools

    def __post_init__(self) -> None:
        if self.records.ndim < 4:
            raise UsageError(f"Expected `records` [targets, q, k, *shape], got {self.records.shape}.", remedy=_STACK)
        _of_shape("labels", self.labels, self.records.shape[:2], "iu")
        _of_shape("trained", self.trained, (self.targets, np.shape(self.trained)[-1]), "b")
        _finite("records", self.records)
        if self.labels.min(initial=0) < 0:
            raise UsageError("Expected classes from 0, got a negative one.", remedy="Pass the classes asked about.")

    @property
    def targets(self) -> int:
        """Number of models."""
        return len(self.records)

    @property
    def questions(self) -> int:
        """Classes asked about, of each target."""
        return self.records.shape[1]

    @property
    def images(self) -> int:
        """Guesses of each class."""
        return self.records.shape[2]

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one record."""
        return self.records.shape[3:]


@dataclass(frozen=True, eq=False)
class GradientGuesses:
    """Guesses of the records in a batch. All steps of one batch size; b is the largest.

    Args:
        records: float [steps, b, *shape], in any order; NaN beyond the size of a batch.
        truth: float [steps, b, *shape], the records that were in it; NaN beyond its size.
        others: float [steps, c, *shape], records of the same classes that were in no batch; NaN for missing ones.
        labels: int64 [steps, b], recovered classes, in any order; -1 beyond the size of a batch; None where they were
            known from the start.
        true_labels: int64 [steps, b]; -1 beyond the size of a batch.
        other_labels: int64 [steps, c], classes of `others`; None where they are not known: then a control compares with
            all of them.
    """

    records: Floats
    truth: Floats
    others: Floats
    labels: Ints | None
    true_labels: Ints
    other_labels: Ints | None = None

    def __post_init__(self) -> None:
        if self.records.ndim < 3:
            raise UsageError(f"Expected `records` [steps, b, *shape], got {self.records.shape}.", remedy=_STACK)
        _of_shape("truth", self.truth, self.records.shape, "f")
        _of_shape("others", self.others, (self.steps, np.shape(self.others)[1], *self.records.shape[2:]), "f")
        _of_shape("true_labels", self.true_labels, self.records.shape[:2], "iu")
        if self.labels is not None:
            _of_shape("labels", self.labels, self.records.shape[:2], "iu")
        if self.other_labels is not None:
            _of_shape("other_labels", self.other_labels, self.others.shape[:2], "iu")
        if np.isnan(self.records[self.present]).any():
            raise UsageError(
                "Expected a guess for each record of a batch, got NaN.",
                remedy="Fill a guess that failed with the middle of the box.",
            )

    @property
    def steps(self) -> int:
        """Number of updates."""
        return len(self.records)

    @property
    def present(self) -> Bools:
        """bool [steps, b]: the places within the size of each batch."""
        return np.asarray(np.isfinite(self.truth.reshape(*self.truth.shape[:2], -1)).all(axis=-1))


@dataclass(frozen=True, eq=False)
class AttributeGuesses:
    """Guesses of a hidden attribute. All entries are positions in the list of its values.

    Args:
        guessed: int64 [targets, q].
        baseline: int64 [targets, q], what one says who knows the population, but no model.
        truth: int64 [targets, q].
        members: bool [targets, q], whether the target was trained on the record.
        units: int64 [targets, q], the unit of privacy that the record belongs to.
    """

    guessed: Ints
    baseline: Ints
    truth: Ints
    members: Bools
    units: Ints

    def __post_init__(self) -> None:
        _grid("guessed", self.guessed)
        for name in ("baseline", "truth", "units"):
            _of_shape(name, getattr(self, name), self.guessed.shape, "iu")
        _of_shape("members", self.members, self.guessed.shape, "b")


@dataclass(frozen=True, eq=False)
class LabelGuesses:
    """Guesses of planted labels.

    Args:
        guessed: int64 [targets, q], the likeliest planted class.
        planted: int64 [targets, q], drawn uniformly from the wrong classes, whether it was trained on or not.
        members: bool [targets, q], whether the target was trained on the record with its planted label.
        units: int64 [targets, q], the unit of privacy that the record belongs to.
        classes: how many there are, so that chance is 1 / (classes - 1).
    """

    guessed: Ints
    planted: Ints
    members: Bools
    units: Ints
    classes: int

    def __post_init__(self) -> None:
        _grid("guessed", self.guessed)
        for name in ("planted", "units"):
            _of_shape(name, getattr(self, name), self.guessed.shape, "iu")
        _of_shape("members", self.members, self.guessed.shape, "b")
        if self.classes < 2 or max(self.guessed.max(), self.planted.max()) >= self.classes:
            raise UsageError(
                f"Expected at least 2 classes and labels below their number, got {self.classes} classes and a label "
                f"{max(self.guessed.max(), self.planted.max())}.",
                remedy="Pass `population.classes`.",
            )


_STACK = "Stack what was guessed over targets or steps."


def _grid(name: str, given: np.ndarray) -> None:
    if given.ndim != 2 or not given.size or given.dtype.kind not in "iu":
        raise UsageError(f"Expected `{name}` int64 [targets, q], got {given.dtype} {given.shape}.", remedy=_STACK)


def _of_shape(name: str, given: np.ndarray, shape: tuple[int, ...], kinds: str) -> None:
    if given.shape != shape or given.dtype.kind not in kinds:
        kind = {"iu": "whole numbers", "b": "bool", "f": "floats"}[kinds]
        raise UsageError(
            f"Expected `{name}` as {kind} of shape {list(shape)}, got {given.dtype} {list(given.shape)}.",
            remedy=_STACK,
        )


def _finite(name: str, given: Floats) -> None:
    if not np.isfinite(given).all():
        raise UsageError(
            f"Expected finite numbers in `{name}`, got NaN or infinity.", remedy="Look for a diverged attack."
        )
