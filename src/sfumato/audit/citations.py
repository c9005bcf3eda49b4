"""BibTeX of every method that a record used; each entry stands beside its method."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Protocol

from sfumato.attacks.inversion.generators.catalogue import generators
from sfumato.audit.settings import AuditSettings
from sfumato.training.defence import Defence, chain


class Cited(Protocol):
    """A method that comes with its source: a citation key and the entry, each "" for none."""

    reference: ClassVar[str]
    bibtex: ClassVar[str]


def citations(attacks: Sequence[Cited], defences: Sequence[Defence]) -> dict[str, str]:
    """Citation key -> BibTeX entry, sorted by key."""
    parts: list[Cited] = [part for defence in defences for part in chain(defence)]
    found = {method.reference: method.bibtex for method in [*attacks, *parts] if method.reference and method.bibtex}
    return dict(sorted(found.items()))


def methods(settings: AuditSettings) -> list[Cited]:
    """All attacks of both kinds, and the generators that they name."""
    inversions = settings.inversion.attacks if settings.inversion is not None else ()
    return [*settings.attacks, *inversions, *(kind for attack in inversions for kind in _priors(attack))]


def _priors(attack: object) -> list[Cited]:
    """The kinds of generator that an attack may have used: the one that it names; every one where it chose itself."""
    named = getattr(attack, "prior", "")
    if not named:
        return []
    return [kind for name, kind in generators().items() if named in ("auto", name)]
