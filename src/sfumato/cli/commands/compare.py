"""`sfumato compare`: several recipes side by side, utility beside leakage."""

from __future__ import annotations

import typer

from sfumato.cli.configuring import configured
from sfumato.cli.options import RunOptions, takes
from sfumato.cli.running import carried_out


@takes(RunOptions)
def compare(context: typer.Context, options: RunOptions) -> int:
    """Train several recipes on your data again and again, attack them, and put them side by side.

    Example: sfumato compare patients.csv --label diagnosis --unit patient --models 16
    """
    return carried_out(context, options, configured(options, compared=True), "compare")
