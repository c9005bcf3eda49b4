"""What a command prints on success: results on stdout, progress on stderr, one JSON document where a machine reads."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from sfumato.cli.failures import clean
from sfumato.cli.options import DISPLAYS, ShownOptions
from sfumato.validate import one_of

NARROWEST = 120  # columns for a table that goes into a file or a pipe


@dataclass(frozen=True)
class Screen:
    """Where and how to print.

    Args:
        display: "rich", "plain", "json" or "none": for progress.
        machine: whether stdout belongs to one JSON document.
    """

    display: str
    machine: bool

    @classmethod
    def of(cls, options: ShownOptions) -> Screen:
        """The screen that the options ask for; "auto" is rich on a terminal and plain elsewhere."""
        one_of("display", options.display, DISPLAYS)
        terminal = sys.stderr.isatty()
        display = ("rich" if terminal else "plain") if options.display == "auto" else options.display
        return cls(display, options.as_json)

    def say(self, *lines: str) -> None:
        """Lines for a person; nowhere where a machine reads."""
        if not self.machine:
            console = _console()
            for line in lines:
                console.print(Text(clean(line)), soft_wrap=True)

    def note(self, line: str) -> None:
        """A remark on the way, on stderr, unless progress is turned off or is JSON."""
        if self.display in ("rich", "plain"):
            Console(stderr=True, highlight=False, soft_wrap=True).print(Text(clean(line)))

    def table(
        self, columns: Sequence[str], rows: Sequence[Sequence[str]], title: str = "", *, numbers: bool = True
    ) -> None:
        """A table for a person; `numbers`: all columns but the first stand to the right."""
        if self.machine:
            return
        table = Table(title=Text(clean(title)) if title else None, title_justify="left")
        for number, column in enumerate(columns):
            table.add_column(Text(column), overflow="fold", justify="right" if number and numbers else "left")
        for row in rows:
            table.add_row(*(Text(clean(cell)) for cell in row))
        _console().print(table)

    def document(self, value: Any) -> None:
        """The JSON document, if a machine reads."""
        if self.machine:
            sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=1, allow_nan=False) + "\n")

    def written(self, files: Mapping[str, Path], *next_steps: str) -> None:
        """Where the files are, and what to do next."""
        width = max((len(name) for name in files), default=0)
        self.say("", *(f"  {name:<{width}}  {path}" for name, path in files.items()))
        self.say("", *(f"Next: {step}" for step in next_steps))


def _console() -> Console:
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = max(console.width, NARROWEST)
    return console
