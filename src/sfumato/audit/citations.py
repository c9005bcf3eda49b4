"""BibTeX of every method that a record used; each entry stands beside its method."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sfumato.attacks.inversion.generators.catalogue import generators
from sfumato.attacks.membership.base import MembershipAttack
from sfumato.audit.settings import AuditSettings
from sfumato.training.defence import Defence, chain


class Source(NamedTuple):
    """Where a method comes from: a citation key and the entry, each "" for none."""

    reference: str
    bibtex: str


def citations(attacks: Sequence[MembershipAttack | Source], defences: Sequence[Defence]) -> dict[str, str]:
    """Citation key -> BibTeX entry, sorted by key."""
    parts = [part for defence in defences for part in chain(defence)]
    found = {method.reference: method.bibtex for method in [*attacks, *parts] if method.reference and method.bibtex}
    return dict(sorted(found.items()))


def sources(settings: AuditSettings) -> list[Source]:
    """Of all attacks of both kinds, and of the generators that they may have used."""
    inversions = settings.inversion.attacks if settings.inversion is not None else ()
    priors = [kind for attack in inversions for kind in _priors(attack)]
    return [Source(one.reference, one.bibtex) for one in [*settings.attacks, *inversions, *priors]]


def _priors(attack: object) -> list[Source]:
    """Of the kind of generator that an attack names; of every one where it chose itself."""
    named = getattr(attack, "prior", "").partition(":")[0]
    return [Source(k.reference, k.bibtex) for name, k in generators().items() if named in ("auto", name)]
