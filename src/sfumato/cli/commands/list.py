"""`sfumato list`: what can be named."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from sfumato.cli.catalogue import FAMILIES, Entry, entries
from sfumato.cli.screen import Screen


def list_methods(
    family: Annotated[str, typer.Argument(metavar="|".join(FAMILIES), help="What to list.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print an array of objects.")] = False,
) -> int:
    """List attacks, defences, models, recipes or ways to clip gradients."""
    screen, found = Screen("plain", as_json), entries(family)
    screen.document([_document(entry) for entry in found])
    rows = [[e.name, e.family, e.reference or "-", _summary(e)] for e in found]
    columns = ["name", "family", "reference", "summary"]
    if len({e.family for e in found}) == 1:
        columns, rows = [columns[0], *columns[2:]], [[row[0], *row[2:]] for row in rows]
    screen.table(columns, rows, numbers=False)
    return 0


def _document(entry: Entry) -> dict[str, Any]:
    own = {key: value for key, value in entry._asdict().items() if key not in ("bibtex", "details")}
    return {**own, **entry.details}


def _summary(entry: Entry) -> str:
    """With the word reconstruction before what is one: nobody may take it for the published method."""
    return f"(reconstruction) {entry.summary}" if entry.details.get("reconstruction") else entry.summary
