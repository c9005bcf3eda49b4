"""Residual networks, neural ODEs, neural SDEs and DP-SGD side by side: three claims about their privacy, tested.

    python benchmarks/neural_sde.py --config docs/results/neural_sde.toml --state STATE --minutes 300
    python benchmarks/neural_sde.py --config docs/results/neural_sde.toml --state STATE --page docs/results

The first trains, in rounds: 4 models of every contender, then 8, and so on, so that what is there can be shown at any
time. Finished models and their answers are kept in the state folder; the same command goes on where it stopped. The
second trains nothing: it attacks what is there, tests the claims of docs/results/neural_sde_claims.toml, and writes
neural_sde.md and neural_sde.json. Nothing on the page is typed by hand.

`sfumato compare --config docs/results/neural_sde.toml --store STATE` finds the same models in the same folder.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path

import torch

from neural_sde_measure import measured
from neural_sde_page import page
from results_run import (
    chosen,
    command_line,
    data_of,
    executor,
    head_of,
    run_parser,
    say,
    seconds_left,
    settings_of,
    trained,
)
from results_state import Bench, common_models
from sfumato.atomic import write_atomic
from sfumato.cli.config import RunConfig, load
from sfumato.cli.contenders import contenders
from sfumato.cli.opening import open_population
from sfumato.execution.store import Store

CLAIMS = Path(__file__).parents[1] / "docs" / "results" / "neural_sde_claims.toml"


def main() -> int:
    given = arguments()
    torch.set_num_threads(1)
    config = load(given.config)
    bench = opened(config, given)
    if given.page is not None:
        written(bench, config.run.title or given.config.stem, given)
        return 0
    left = seconds_left(given.minutes, given.until)
    return 0 if trained(bench, executor(given.workers), left) else 3


def arguments() -> argparse.Namespace:
    parser = run_parser(__doc__)
    parser.add_argument("--draws", type=int, nargs="+", help="numbers of draws in place of the file's")
    parser.add_argument("--claims", type=Path, default=CLAIMS, help="estimands, fixed before the run")
    return parser.parse_args()


def opened(config: RunConfig, given: argparse.Namespace) -> Bench:
    """The data, the contenders, and the store."""
    settings = settings_of(config, given)
    if given.draws is not None:
        settings = replace(settings, draws=tuple(given.draws))
    population = open_population(data_of(config, given), settings.seed)
    recipes = chosen(contenders(config, population), given.only)
    return Bench(population, recipes, settings, Store(given.state))


def written(bench: Bench, heading: str, given: argparse.Namespace) -> None:
    """The page and the JSON file, from the models that are there."""
    stage, short = common_models(bench)
    for name, there in short.items():
        say(f"{name}: {there} models, too few to be shown.")
    found = measured(stage, [recipe.name for recipe in bench.recipes], given.claims, say) | {
        "heading": heading,
        "wanted": bench.settings.models,
        "short": short,
        "notes": head_of(given.config),
        "command": command_line("neural_sde.py"),
    }
    stem = given.config.stem
    write_atomic(given.page / f"{stem}.json", (json.dumps(found, indent=1) + "\n").encode())
    write_atomic(given.page / f"{stem}.md", page(found, stem).encode())
    say(f"Wrote {given.page / stem}.md and .json.")


if __name__ == "__main__":
    sys.exit(main())
