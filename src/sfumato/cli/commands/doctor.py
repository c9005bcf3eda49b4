"""`sfumato doctor`: what private training would refuse in a network, where, and how to fix it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from sfumato.cli.contenders import file_and_function
from sfumato.cli.screen import Screen
from sfumato.errors import UsageError

Option = typer.Option
MIB = 1 << 20


def doctor(
    model: Annotated[str, typer.Argument(metavar="FILE.py:FUNCTION", help="Your network: f(shape, outputs).")],
    shape: Annotated[str, Option(help="Of one record: 3,32,32.")] = "3,32,32",
    classes: Annotated[int, Option(help="Outputs of the network.")] = 10,
    batch: Annotated[int, Option(help="Made-up examples to run it on.")] = 16,
    fix: Annotated[bool, Option("--fix", help="Write a Python file with the layers replaced.")] = False,
    out: Annotated[str | None, Option(help="That file; by default FILE_private.py beside yours.")] = None,
    as_json: Annotated[bool, Option("--json", help="Print one JSON document.")] = False,
) -> int:
    """Explain what private training (DP-SGD) would refuse in your network; exit code 1 if anything."""
    from sfumato.private.doctor import examine

    path, function = file_and_function(model, "make")
    screen = Screen("plain", as_json)
    written = _fixed_file(Path(path), function, out) if fix else None
    size = _shape(shape)
    found = examine(_network(written or Path(path), function, size, classes), *_made_up(batch, size, classes))
    before = examine(_network(Path(path), function, size, classes), *_made_up(batch, size, classes)) if fix else found
    screen.document(_document(found, written))
    if written is not None:
        screen.table(
            ["replaced", "before", "now"], [[*change] for change in map(_change, before.changes)], numbers=False
        )
        screen.written({"network": written}, f"name it in place of yours: --model {written}:{function}")
    _show(screen, found)
    return 1 if found.refused else 0


def _network(path: Path, function: str, shape: tuple[int, ...], classes: int) -> Any:
    from sfumato.models.user_file import FileModel

    return FileModel(path=str(path), function=function).build(shape, classes)


def _made_up(batch: int, shape: tuple[int, ...], classes: int) -> tuple[Any, Any]:
    """Normal records and labels from one seed, and the loss of each."""
    import torch

    random = torch.Generator().manual_seed(0)
    x = torch.randn(batch, *shape, generator=random)
    y = torch.randint(classes, (batch,), generator=random)
    return (x, y), lambda net, x, y: torch.nn.functional.cross_entropy(net(x), y, reduction="none")


def _shape(text: str) -> tuple[int, ...]:
    try:
        found = tuple(int(part) for part in text.split(","))
    except ValueError:
        found = ()
    if not found or min(found) < 1:
        raise UsageError(f"Expected the shape of one record such as 3,32,32, got {text!r}.")
    return found


FIXED = '''"""`{function}` of {name}, with the layers replaced that private training refuses. Written by sfumato."""

from {module} import {function} as original

from sfumato.private.doctor import fixed


def {function}(shape, outputs):
    return fixed(original(shape, outputs))
'''


def _fixed_file(path: Path, function: str, out: str | None) -> Path:
    from sfumato.atomic import write_atomic

    place = Path(out) if out else path.with_name(f"{path.stem}_private.py")
    if place.parent.resolve() != path.parent.resolve() or not path.stem.isidentifier():
        raise UsageError(
            f"Expected a file beside {path}, whose name can be imported, got {place}.",
            remedy="The new file imports yours; let it stand in the same folder.",
        )
    if place.exists() and "Written by sfumato." not in place.read_text(encoding="utf-8", errors="replace"):
        raise UsageError(f"Expected a new file, got {place}, which exists.", remedy="Name another one with `--out`.")
    write_atomic(place, FIXED.format(function=function, name=path.name, module=path.stem).encode())
    return place


def _show(screen: Screen, found: Any) -> None:
    rows = [[f.severity.value, f.place, f.message, f.remedy] for f in found.findings]
    if rows:
        screen.table(["", "where", "what", "what to do"], rows, "Findings", numbers=False)
    uses = [
        [
            use.name,
            "x".join(map(str, use.shape)),
            ", ".join(use.operations),
            ", ".join(use.ways) or "-",
            _mib(use.kept_bytes),
        ]
        for use in found.parameters
    ]
    if uses:
        title = "How each norm is obtained" + (" (after the repairs)" if found.changes else "")
        screen.table(
            ["parameter", "shape", "operation", "way", f"kept for {found.rows} examples"], uses, title, numbers=False
        )
        screen.say(f"Gradients kept per example, for {found.rows} examples at once: {_mib(found.kept_bytes)}.")
    screen.say(found.verdict)


def _change(change: Any) -> tuple[str, str, str]:
    return change.place, change.before, change.after


def _mib(size: int) -> str:
    return f"{size / MIB:.2f} MiB" if size else "-"


def _document(found: Any, written: Path | None) -> dict[str, Any]:
    return {
        "refused": found.refused,
        "verdict": found.verdict,
        "findings": [asdict(finding) for finding in found.findings],
        "parameters": [asdict(use) for use in found.parameters],
        "changes": [change._asdict() for change in found.changes],
        "kept_bytes": found.kept_bytes,
        "rows": found.rows,
        "written": str(written) if written else None,
    }
