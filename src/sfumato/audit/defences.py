"""What a defence asks for beyond outputs and labels, in words for lists and reports."""

from __future__ import annotations

from sfumato.training.defence import Defence, ReferenceDefence


def needs_of(part: Defence) -> list[str]:
    """What one part of a chain needs; empty for a plain loss, transform or regulariser."""
    kind, found = type(part), []
    if isinstance(part, ReferenceDefence):
        found.append(f"reference data: {part.reference_fraction:.0%} of the units of each training set")
    if part.needs_features:
        found.append("features: what the last linear layer is given")
    if kind.extra is not Defence.extra:
        found.append("parameters of its own, with an optimiser")
    if kind.course is not Defence.course:
        found.append("a course of its own in place of one training")
    if kind.fit_guard is not Defence.fit_guard:
        found.append("a guard that is fitted after the training")
    return found
