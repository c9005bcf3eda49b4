"""`sfumato demo`: a real comparison on bundled data, from nothing to a report in a minute or two."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from sfumato.cli.configuring import configured
from sfumato.cli.options import Option, RunOptions, ShownOptions, takes
from sfumato.cli.running import carried_out
from sfumato.cli.screen import Screen

DATA = "digits"
DEFENCES = "undefended,label-smoothing,early-stopping,mixup"


@dataclass(frozen=True, kw_only=True)
class DemoOptions(ShownOptions):
    """The demo's own choices are fixed, but for these."""

    models: Annotated[int, Option(help="Models per recipe.")] = 16
    seed: Annotated[int, Option(help="Root of all randomness.")] = 0
    out: Annotated[str, Option(help="Folder to write into.")] = "demo"
    store: Annotated[str | None, Option(help="Folder of finished models; a second run reuses them.")] = None
    executor: Annotated[str, Option(help="auto, inline, stacked or processes.")] = "auto"


@takes(DemoOptions)
def demo(context: typer.Context, options: DemoOptions) -> int:
    """Train networks on handwritten digits in four ways, attack them, and write a report."""
    run = RunOptions(
        data=DATA,
        defences=DEFENCES,
        models=options.models,
        seed=options.seed,
        out=options.out,
        store=options.store,
        executor=options.executor,
        display=options.display,
        as_json=options.as_json,
        title="Four ways to train on handwritten digits, attacked",
    )
    Screen.of(run).say(
        f"Training {options.models} networks on halves of 1,797 handwritten digits in each of four ways, and attacking "
        "each of them: which recipe gives its training records away, and what does it cost in accuracy?"
    )
    return carried_out(context, run, configured(run, compared=True), options.out)
