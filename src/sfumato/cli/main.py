"""The entry point: `sfumato COMMAND ...`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from difflib import get_close_matches
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.main import get_command_from_info
from typer.models import CommandInfo

from sfumato import __version__
from sfumato.cli.failures import Stopped, guarded
from sfumato.cli.invocation import Invocation
from sfumato.errors import UsageError

COMMANDS = {  # imported when asked for: a command that trains nothing need not wait for torch
    "demo": "demo",
    "plan": "plan",
    "train": "train",
    "audit": "audit",
    "compare": "compare",
    "probe": "probe",
    "report": "report",
    "view": "view",
    "list": "list_methods",
    "cite": "cite",
    "account": "account",
    "ledger": "ledger",
    "doctor": "doctor",
}


class Commands(TyperGroup):
    """All commands. Whatever happens in one ends in a message and an exit code: 0, 1, 2, 3 or 130."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        given = list(sys.argv[1:] if args is None else args)
        words = [word for word in given if word != "--debug"]
        call = {"complete_var": complete_var, "windows_expand_args": windows_expand_args, **extra}
        call |= {"args": words, "prog_name": "sfumato", "obj": Invocation(tuple(words))}
        code = guarded(lambda: super(Commands, self).main(standalone_mode=False, **call), debug=len(words) < len(given))
        if standalone_mode:
            sys.exit(code)
        return code

    def invoke(self, ctx: Any) -> Any:
        # typer turns an interrupt into a silent exit; carried over as another exception it keeps its message
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as stopped:
            raise Stopped(str(stopped)) from stopped

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in COMMANDS:
            return None
        function = getattr(import_module(f"sfumato.cli.commands.{cmd_name}"), COMMANDS[cmd_name])
        info = CommandInfo(name=cmd_name, callback=function)
        return get_command_from_info(info, pretty_exceptions_short=True, rich_markup_mode="rich")

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        known = self.list_commands(ctx)
        if args and not args[0].startswith("-") and args[0] not in known:
            near = get_close_matches(args[0], known, n=1, cutoff=0.5)
            hint = f"Did you mean {near[0]!r}?" if near else "See `sfumato --help`."
            raise UsageError(f"Expected a command ({', '.join(known)}), got {args[0]!r}.", remedy=hint)
        return super().resolve_command(ctx, args)


app = typer.Typer(
    cls=Commands,
    name="sfumato",
    help="Train neural networks that keep their training data to themselves, and prove it by attacking them.",
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"sfumato {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def start(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks; may stand anywhere.")] = False,
) -> None:
    """Train neural networks that keep their training data to themselves, and prove it by attacking them."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def run() -> None:
    """The console script."""
    app()


if __name__ == "__main__":
    run()
