"""Public records that are private ones as well: then an attacker is handed what the attack should find."""

from __future__ import annotations

import hashlib

import numpy as np

from sfumato.audit.record import Notice
from sfumato.data.population import Population

CHUNK = 4096  # records


def shared_records(population: Population, public: Population) -> int:
    """How many public records are equal to a private one, value by value."""
    private = _digests(population)
    return sum(digest in private for digest in _listed(public))


def overlap_notices(population: Population, public: Population | None) -> list[Notice]:
    """A critical notice where public records are private ones; nothing where none are, or there are no public ones."""
    count = 0 if public is None else shared_records(population, public)
    if public is None or not count:
        return []
    text = (
        f"{count} of the {len(public)} public records are equal to private ones: attackers that learn from public "
        "records were handed training records, so that what they rebuilt proves no leakage."
    )
    remedy = "Take public records from elsewhere, or public classes of the data. Rows of a coarse table may be equal "
    return [Notice(severity="critical", text=text, remedy=f"{remedy}by chance.")]


def _digests(population: Population) -> set[bytes]:
    return set(_listed(population))


def _listed(population: Population) -> list[bytes]:
    found = []
    for first in range(0, len(population), CHUNK):
        rows = np.arange(first, min(first + CHUNK, len(population)))
        found += [hashlib.sha256(one.tobytes()).digest() for one in population.tensor(rows).float().numpy() + 0.0]
    return found
