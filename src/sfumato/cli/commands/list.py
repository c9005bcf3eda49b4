"""`sfumato list`: what can be named."""

from __future__ import annotations

from typing import Annotated

import typer

from sfumato.cli.catalogue import FAMILIES, entries
from sfumato.cli.screen import Screen


def list_methods(
    family: Annotated[str, typer.Argument(metavar="|".join(FAMILIES), help="What to list.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print an array of objects.")] = False,
) -> int:
    """List attacks, defences, models, recipes or ways to clip gradients."""
    screen, found = Screen("plain", as_json), entries(family)
    screen.document([{key: value for key, value in entry._asdict().items() if key != "bibtex"} for entry in found])
    screen.table(
        ["name", "reference", "summary"], [[e.name, e.reference or "-", e.summary] for e in found], numbers=False
    )
    return 0
