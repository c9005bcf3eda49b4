"""`sfumato report`: a record as HTML, Markdown or model card."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sfumato.audit.record import AuditRecord
from sfumato.cli.screen import Screen
from sfumato.cli.writing import output_folder
from sfumato.report.render import write


def report(
    record: Annotated[str, typer.Argument(help="A record.json, or the folder that holds it.")],
    formats: Annotated[str, typer.Option("--format", help="html, markdown, card; several with commas.")] = "html",
    out: Annotated[str | None, typer.Option(help="Folder; by default beside the record.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the paths as JSON.")] = False,
) -> int:
    """Write a report from a record. Nothing is computed again."""
    place = Path(record).expanduser()
    loaded = AuditRecord.load(place)
    folder = output_folder(out or str(place if place.is_dir() else place.parent))
    files = write(loaded, folder, [word.strip() for word in formats.split(",") if word.strip()])
    screen = Screen("plain", as_json)
    screen.written(files, f"open {next(iter(files.values()))}")
    screen.document({name: str(path) for name, path in files.items()})
    return 0
