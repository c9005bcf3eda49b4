"""`sfumato probe`: which regions of a network carry its accuracy, and which carry risk."""

from __future__ import annotations

from dataclasses import asdict

import typer

from sfumato.audit.probe import probe_cost
from sfumato.cli import probing
from sfumato.cli.options import ProbeOptions, takes
from sfumato.cli.screen import Screen
from sfumato.cli.writing import output_folder
from sfumato.execution.cost import CostEstimate
from sfumato.execution.progress import duration


@takes(ProbeOptions)
def probe(context: typer.Context, options: ProbeOptions) -> int:
    """Transplant, rewind and freeze every region of a network, and measure what each of them carries.

    Example: sfumato probe digits --defence relaxloss --models 8 --out probe
    """
    screen = Screen.of(options)
    ready = probing.asked(options, screen)
    if options.plan:
        cost = probe_cost(ready.population, ready.recipe.task, ready.recipe.defence, ready.settings, ready.store)
        screen.say(*_lines(cost), "", "Next: the same command without `--plan`.")
        screen.document(asdict(cost))
        return 0
    folder = output_folder(options.out or "probe")
    return probing.finish(probing.carried_out(context, ready, options, screen), folder, screen)


def _lines(cost: CostEstimate) -> list[str]:
    known = cost.seconds_low is not None and cost.seconds_high is not None
    low, high = cost.seconds_low or 0.0, cost.seconds_high or 0.0
    time = f"{duration(low)} to {duration(high)} on this machine" if known else "not known before one model is trained"
    return [
        f"To train: {cost.models_to_train}. Stored and reused: {cost.models_ready}.",
        f"Forward passes: {cost.forward_passes:,} records. Space: {cost.bytes / 1e9:.3f} GB.",
        f"Time: {time}.",
    ]
