"""The measure of the label game: how many labels that were drawn at random are found again."""

from __future__ import annotations

import numpy as np

from sfumato.audit.inversion.estimates import Answers, in_pairs, unmeasured
from sfumato.audit.inversion.guesses import LabelGuesses
from sfumato.audit.inverted import Measure
from sfumato.audit.settings import AuditSettings
from sfumato.types import Bools


def label_measures(guesses: LabelGuesses, settings: AuditSettings) -> list[Measure]:
    """`planted_label` alone; units are the clusters."""
    pairs = in_pairs(*guesses.guessed.shape)
    return [planted_label(guesses, Answers(pairs, guesses.units, "units", settings.confidence))]


def planted_label(guesses: LabelGuesses, answers: Answers) -> Measure:
    """Share of planted labels found, of records trained with them.

    Control: of records whose label was drawn, and that the model never saw. A planted label has nothing to do with the
    record, so nothing but training with it can tell: chance is 1 / (classes - 1).
    """
    name, prior = "planted_label", 1 / (guesses.classes - 1)
    hits = (guesses.guessed == guesses.planted).astype(np.float64)
    inside = guesses.members
    if not inside.any():
        return unmeasured(name, "record", "higher", answers, "No record was trained with a planted label.")
    attacked = answers.share(name, _only(hits, inside), at=prior)
    counts = {"n_members": int(inside.sum()), "n_nonmembers": int((~inside).sum())}
    if inside.all():
        what = "Every record was trained on: compare with chance, 1 / (classes - 1)."
        return Measure(
            name=name, level="record", more="higher", attacked=attacked.model_copy(update=counts), control_is=what
        )
    control = answers.share(f"{name}_control", _only(hits, ~inside), at=prior)
    difference = answers.between(f"{name}_difference", hits, inside)
    return Measure(
        name=name,
        level="record",
        more="higher",
        attacked=attacked.model_copy(update=counts),
        control=control.model_copy(update=counts),
        difference=difference.model_copy(update=counts),
        control_is="The same for records that were drawn a label, too, and that the model never saw.",
    )


def _only(hits: np.ndarray, rows: Bools) -> np.ndarray:
    return np.where(rows, hits, np.nan)
