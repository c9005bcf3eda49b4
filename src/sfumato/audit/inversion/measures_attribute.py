"""Measures of the attribute game: what a model adds to what the population tells anyway, and for whom."""

from __future__ import annotations

import numpy as np

from sfumato.audit.inversion.estimates import Answers, in_pairs, unmeasured
from sfumato.audit.inversion.guesses import AttributeGuesses
from sfumato.audit.inverted import Measure
from sfumato.audit.measured import Finding
from sfumato.audit.settings import AuditSettings

_BASELINE = "Who knows the population and the other attributes, but no model, on the same records."


def attribute_measures(guesses: AttributeGuesses, settings: AuditSettings) -> list[Measure]:
    """Every measure of guesses of a hidden attribute; units are the clusters."""
    pairs = in_pairs(*guesses.guessed.shape)
    answers = Answers(pairs, guesses.units, "units", settings.confidence)
    return [attribute_accuracy(guesses, answers), attribute_gain_on_members(guesses, answers)]


def attribute_accuracy(guesses: AttributeGuesses, answers: Answers) -> Measure:
    """Share of hidden attributes guessed, of records that the model was trained on; control: the baseline on the same.

    To beat the baseline may take no more than to know the population better than the public records do: that is why it
    counts as no leak of single records. See `attribute_gain_on_members` for those.
    """
    name = "attribute_accuracy"
    if not guesses.members.any():
        return unmeasured(name, "class", "higher", answers, "No record was trained on.")
    attacked, control = (
        np.where(guesses.members, said == guesses.truth, np.nan) for said in (guesses.guessed, guesses.baseline)
    )
    return Measure(
        name=name,
        level="class",
        more="higher",
        attacked=_counted(answers.share(name, attacked), guesses),
        control=_counted(answers.share(f"{name}_control", control), guesses),
        difference=answers.difference(f"{name}_difference", attacked, control, "paired shares"),
        control_is=_BASELINE,
    )


def attribute_gain_on_members(guesses: AttributeGuesses, answers: Answers) -> Measure:
    """Accuracy on records that the model was trained on, less that on others; control: the same for the baseline.

    The difference is a difference in differences: what the model adds for its own records and for no others.
    """
    name, hits = "attribute_gain_on_members", (guesses.guessed == guesses.truth).astype(np.float64)
    base = (guesses.baseline == guesses.truth).astype(np.float64)
    return Measure(
        name=name,
        level="record",
        more="higher",
        attacked=_counted(answers.between(name, hits, guesses.members), guesses),
        control=_counted(answers.between(f"{name}_control", base, guesses.members), guesses),
        difference=_counted(answers.between(f"{name}_difference", hits - base, guesses.members, reach=2.0), guesses),
        control_is=_BASELINE,
    )


def _counted(finding: Finding, guesses: AttributeGuesses) -> Finding:
    counts = {"n_members": int(guesses.members.sum()), "n_nonmembers": int((~guesses.members).sum())}
    return finding.model_copy(update=counts)
