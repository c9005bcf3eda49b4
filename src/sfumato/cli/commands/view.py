"""`sfumato view`: the reports of a folder in the browser, served to this machine only."""

from __future__ import annotations

import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from sfumato.cli.screen import Screen
from sfumato.report.view import serve


def view(
    folder: Annotated[str, typer.Argument(help="A folder with a record, or with several such folders.")] = ".",
    port: Annotated[int, typer.Option(help="0 takes a free one.")] = 0,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open it in the browser.")] = True,
) -> int:
    """Serve the reports of a folder to this machine only, until Ctrl-C."""

    def announce(url: str) -> None:
        Screen("plain", False).say(f"Serving {folder} at {url}", "Ctrl-C ends it.")
        if browser:
            webbrowser.open(url)

    serve(Path(folder).expanduser(), port=port, announce=announce)
    return 0
