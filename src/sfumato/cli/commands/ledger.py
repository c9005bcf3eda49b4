"""`sfumato ledger`: what was spent on whose records."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from sfumato.cli.screen import Screen
from sfumato.errors import UsageError
from sfumato.validate import one_of


def ledger(
    action: Annotated[str, typer.Argument(metavar="list|show|verify", help="What to do.")],
    folder: Annotated[str, typer.Option(help="The folder of ledgers.")],
    name: Annotated[str | None, typer.Option(help="The name declared for the people concerned.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print an array of objects.")] = False,
) -> int:
    """List the ledgers of a folder, show the runs of one or all, or verify that no record was changed."""
    actions = {"list": _list, "show": _show, "verify": _verify}
    one_of("action", action, actions)
    place = Path(folder).expanduser()
    if not place.is_dir():
        raise UsageError(f"Expected a folder of ledgers, got {folder!r}.", remedy="Check the path.")
    actions[action](_opened(place, name), Screen("plain", as_json))
    return 0


def _opened(folder: Path, name: str | None) -> list[Any]:
    from sfumato.accounting.ledger import Ledger, declared_names

    names = declared_names(folder) if name is None else (name,)
    return [Ledger.open(folder, one) for one in names]


def _list(ledgers: list[Any], screen: Screen) -> None:
    found = [
        {"name": ledger.name, **ledger.declared._asdict(), "spent": ledger.spent(), "runs": len(ledger.runs())}
        for ledger in ledgers
    ]
    _table(found, screen, lambda row: [*(f"{value:.4g}" if isinstance(value, float) else str(value) for value in row)])


def _show(ledgers: list[Any], screen: Screen) -> None:
    found = [
        {
            "name": ledger.name,
            "run": run.run_id,
            "steps_charged": run.charged,
            "mechanism": run.mechanism.described,
            "state": "closed" if run.closed else "open",
            "charged": "audit only, not charged" if run.audit_only else "yes",
            "data": "changed" if run.data_changed else "as in the first run",
        }
        for ledger in ledgers
        for run in ledger.runs()
    ]
    _table(found, screen, lambda row: list(map(str, row)))
    for ledger in ledgers:
        screen.say(f"{ledger.name}: {ledger.guarantee().statement}")


def _verify(ledgers: list[Any], screen: Screen) -> None:
    found = [{"name": ledger.name, "records": ledger.verify(), "head": ledger.head} for ledger in ledgers]
    _table(found, screen, lambda row: list(map(str, row)))
    screen.say("Every record follows from the one before it.")


def _table(found: list[dict[str, Any]], screen: Screen, shown: Callable[[list[Any]], list[str]]) -> None:
    screen.document(found)
    if found:
        screen.table(list(found[0]), [shown(list(row.values())) for row in found], numbers=False)
    else:
        screen.say("Nothing is recorded here.")
