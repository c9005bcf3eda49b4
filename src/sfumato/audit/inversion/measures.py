"""How much inversion found, each measure beside the same where nothing can have leaked.

What a class looks like and what single training records look like are different leaks, with different remedies: each
measure says which of the two it shows. Guesses of a class are compared with the class; only where they are nearer to
the records that the model was trained on than to other records of the class is it records that leaked.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from sfumato.audit.inversion.measures_attribute import attribute_measures
from sfumato.audit.inversion.measures_class import class_measures
from sfumato.audit.inversion.measures_gradient import gradient_measures
from sfumato.audit.inversion.measures_label import label_measures

__all__ = ["NAMES", "attribute_measures", "class_measures", "gradient_measures", "label_measures"]

NAMES: Mapping[str, str] = MappingProxyType(
    {
        "looks_accuracy": "Share of guesses that look most like a record of the class, of equally many of each.",
        "evaluator_accuracy_1": "Share of guesses that a network unlike the target takes for the class.",
        "evaluator_accuracy_5": "Share of guesses for which that network has the class among its five best.",
        "disputed_successes": "Share of those successes that look most like a record of another class.",
        "class_distance": "Squared distance to the nearest record of the class, in features of that network.",
        "record_distance": "Squared distance in looks to the nearest record of the class that was trained on.",
        "nearer_to_training": "Share of guesses nearer to a record that was trained on than to others of the class.",
        "fid": "Frechet distance between guesses and records of the classes, in features of that network.",
        "precision": "Share of guesses as near to a record of the class as its neighbours are.",
        "recall": "Share of records of the class as near to a guess as its neighbouring guesses are.",
        "density": "How many records of the class have the guess among their neighbours, against a real one's number.",
        "coverage": "Share of records of the class that have a guess among their neighbours.",
        "knowledge_accuracy": "Accuracy on real records of a network that was trained on the guesses alone.",
        "mse": "Mean squared error of the records of a batch, each against the guess assigned to it.",
        "psnr": "The same in decibels; the range of a pixel is 1.",
        "identified": "Share of records whose guess is nearer to them than to any other record of their class.",
        "labels_recovered": "Share of the classes of a batch that were found from its update.",
        "attribute_accuracy": "Share of hidden attributes of training records that were guessed.",
        "attribute_gain_on_members": "Accuracy on hidden attributes of training records less that on other records.",
        "planted_label": "Share of planted labels that were found, among records trained with them.",
    }
)
