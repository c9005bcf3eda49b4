"""BibTeX of every method that a record used; each entry stands beside its method."""

from __future__ import annotations

from collections.abc import Sequence

from sfumato.attacks.membership.base import MembershipAttack
from sfumato.training.defence import Defence, chain


def citations(attacks: Sequence[MembershipAttack], defences: Sequence[Defence]) -> dict[str, str]:
    """Citation key -> BibTeX entry, sorted by key."""
    parts = [part for defence in defences for part in chain(defence)]
    found = {method.reference: method.bibtex for method in [*attacks, *parts] if method.reference and method.bibtex}
    return dict(sorted(found.items()))
