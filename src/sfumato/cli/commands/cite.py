"""`sfumato cite`: BibTeX of what a record used, or of one method."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sfumato.audit.record import AuditRecord
from sfumato.cli.catalogue import FAMILIES, Entry, entries
from sfumato.cli.screen import Screen
from sfumato.errors import UsageError
from sfumato.validate import one_of


def cite(
    what: Annotated[str, typer.Argument(metavar="RECORD|METHOD", help="A record.json, its folder, or a name.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print an object: key to BibTeX.")] = False,
) -> int:
    """Print the BibTeX entries of a record, or of one attack, defence, model or recipe."""
    place = Path(what).expanduser()
    known = [entry for family in FAMILIES for entry in entries(family)]
    # A recipe and its network may share a name, and only the network carries the entry.
    methods = {entry.name: entry for entry in sorted(known, key=lambda entry: bool(entry.bibtex))}
    found = AuditRecord.load(place).citations if place.exists() and what not in methods else _of(what, methods)
    screen = Screen("plain", as_json)
    screen.document(found)
    screen.say(*found.values())
    return 0


def _of(name: str, methods: dict[str, Entry]) -> dict[str, str]:
    one_of("record or method", name, methods)
    entry = methods[name]
    bibtex = entry.bibtex or next(
        (m.bibtex for m in methods.values() if m.bibtex and m.reference == entry.reference), ""
    )
    if not bibtex:
        raise UsageError(f"Expected a method with a paper, got {name!r}.", remedy="It has none to cite.")
    return {entry.reference: bibtex}
