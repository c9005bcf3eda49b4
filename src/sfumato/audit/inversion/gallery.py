"""What an attacker would see, for a local file: never part of a record, a report or a model card."""

from __future__ import annotations

from dataclasses import dataclass, field

from sfumato.types import Floats


@dataclass(frozen=True, eq=False)
class GalleryRow:
    """One guess beside what it should show.

    Args:
        subject: name of the recipe under test.
        attack: name of the attack, and what it was asked where it plays several games.
        question: what was guessed, e.g. the class or the step, as text.
        target: float32 [*shape], a training record of the class, or the record itself.
        reconstruction: float32 [*shape], the guess.
        nearest: float32 [*shape], the record nearest to the guess among training records of the class, or of the batch.
        control: float32 [*shape], the same among as many records of the class that the model, or the update, never saw;
            of other classes where there are none; NaN for none at all.
    """

    subject: str
    attack: str
    question: str
    target: Floats
    reconstruction: Floats
    nearest: Floats
    control: Floats


@dataclass(frozen=True, eq=False)
class Gallery:
    """Rows in the order of the subjects and attacks. They show the people of the training data."""

    rows: list[GalleryRow] = field(default_factory=list)
