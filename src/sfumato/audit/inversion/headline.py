"""Which measure a person should read first. What a class looks like and what records look like stay apart."""

from __future__ import annotations

from typing import NamedTuple

from sfumato.audit.inverted import InversionResult, Measure

FIRST = {  # game -> measures of a class, measures of records; the first that has a value is read
    "class": (("looks_accuracy", "evaluator_accuracy_1"), ("nearer_to_training", "record_distance")),
    "gradient": ((), ("identified", "mse")),
    "attribute": (("attribute_accuracy",), ("attribute_gain_on_members",)),
    "label": ((), ("planted_label",)),
}
IN_WORDS = {  # of each of these, in a sentence
    "looks_accuracy": "share of guesses that look most like the class",
    "evaluator_accuracy_1": "share of guesses that are right, says the evaluator,",
    "nearer_to_training": "share of guesses nearer to training records",
    "record_distance": "distance to training records",
    "identified": "share of records identified",
    "mse": "mean squared error",
    "attribute_accuracy": "share of hidden attributes guessed",
    "attribute_gain_on_members": "gain on members over others",
    "planted_label": "share of planted labels guessed",
}


class Headline(NamedTuple):
    """The measure to read first of each level; None where the game has none of that level, or none could be measured.

    Attributes:
        class_level: what the model gives away of a class or of the population.
        record_level: what it gives away of the records that it was trained on.
    """

    class_level: Measure | None
    record_level: Measure | None


def inversion_headline(result: InversionResult) -> Headline:
    """What to read first of one attack on one subject."""
    of_class, of_record = FIRST[result.game]
    return Headline(_first(result, of_class), _first(result, of_record))


def _first(result: InversionResult, names: tuple[str, ...]) -> Measure | None:
    found = [measure for name in names if (measure := result.measure(name)) is not None]
    return next((measure for measure in found if measure.attacked.value is not None), None)
