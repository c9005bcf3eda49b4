"""Defences at equal accuracy, at full strength scaled to what the configuration says.

    python benchmarks/defences.py --config docs/results/defences.toml --state STATE --until 06:00
    python benchmarks/defences.py --config docs/results/defences.toml --state STATE --page docs/results

The first tunes what the file tunes (see `sfumato.audit.tuning`), and then trains in rounds: 4 models of every
contender, then 8, and so on, so that what is there can be shown at any time. Everything is kept in the state folder;
the same command goes on where it stopped. The second trains nothing: it attacks what is there, judges the claims of
docs/results/defences_claims.toml, and writes the page, its pictures and a JSON file.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch

from defences_claims import Claim, Verdict, claims_from, judged
from defences_page import Told, groups_with_pictures, page
from results_run import (
    Progress,
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
from sfumato.audit.compare import compare
from sfumato.audit.record import AuditRecord
from sfumato.audit.tuned import TuningSummary
from sfumato.audit.tuning import Tuning, tuned, without_guarantee
from sfumato.cli.config import RunConfig, load
from sfumato.cli.contenders import contenders
from sfumato.cli.screen import Screen
from sfumato.cli.strengthening import opened as strengthened
from sfumato.execution.events import Event, OnEvent, Started
from sfumato.execution.executors.base import Executor
from sfumato.execution.executors.inline import Inline
from sfumato.execution.store import Store
from sfumato.report.frontier_picture import lowest_rate, standalone
from sfumato.report.naming import marked
from sfumato.training.defence import chain
from sfumato.training.recipe import AnyRecipe

CLAIMS = Path(__file__).parents[1] / "docs" / "results" / "defences_claims.toml"


class Opened(NamedTuple):
    """The contenders after tuning, and how it was done."""

    bench: Bench
    tuning: list[TuningSummary]


def main() -> int:
    parser = run_parser(__doc__)
    parser.add_argument("--claims", type=Path, default=CLAIMS, help="sentences and numbers, fixed before the run")
    given = parser.parse_args()
    torch.set_num_threads(1)
    config = load(given.config)
    if given.page is not None:
        written(opened(config, given, Inline(threads=1), refuse_training), given)
        return 0
    how = executor(given.workers)
    left = seconds_left(given.minutes, given.until)
    if left is not None and left <= 0:
        say("The time is over. The same command goes on from here.")
        return 3
    return 0 if trained(opened(config, given, how, Progress("tuning")).bench, how, left) else 3


def refuse_training(event: Event) -> None:
    """A page shows what is there."""
    if isinstance(event, Started) and event.training:
        raise SystemExit(f"Expected all trainings of the tuning in the state folder, {event.training} are missing.")


def opened(config: RunConfig, given: argparse.Namespace, how: Executor, on_event: OnEvent) -> Opened:
    """The data, the contenders with what was tuned, and the store.

    The attacks are those for all contenders of the file, also where some are left out.
    """
    asked = replace(config, data=data_of(config, given), audit=settings_of(config, given))
    made = strengthened(asked, Screen("none", True))
    strong, population = made.config, made.population
    store, recipes = Store(given.state), contenders(strong, population)
    wanted = {recipe.name for recipe in chosen(recipes, given.only)}
    tuning = [one for one in strong.tune if any(has(r, one) for r in recipes if r.name in wanted)]
    kept = [r for r in recipes if r.name in wanted or any(has(r, one) for one in tuning)]
    done = tuned(population, kept, strong.audit, store, tuning, executor=how, on_event=on_event)
    ready = [recipe for recipe in done.recipes if recipe.name in wanted]
    return Opened(Bench(population, ready, strong.audit, store), [one for one in done.found if one.subject in wanted])


def has(recipe: AnyRecipe, tuning: Tuning) -> bool:
    """Whether the tuned method is in the recipe."""
    return any(part.name == tuning.method for part in chain(recipe.defence))


def measured(stage: Bench, tuning: Sequence[TuningSummary], title: str, command: str) -> AuditRecord:
    """The record of the models that are there; nothing is trained."""
    run = compare(
        stage.population, stage.recipes, stage.settings, stage.store, executor=Inline(threads=1), command=command,
        title=title,
    )  # fmt: skip
    names = {one.subject for one in tuning}
    subjects = [without_guarantee(one) if one.name in names else one for one in run.record.subjects]
    found = [one for one in tuning if one.subject in {recipe.name for recipe in stage.recipes}]
    return run.record.model_copy(update={"tuning": found, "subjects": subjects})


def written(ready: Opened, given: argparse.Namespace) -> None:
    """The page, the pictures and the JSON file, from the models that are there."""
    stage, short = common_models(ready.bench)
    for name, there in short.items():
        say(f"{name}: {there} models, too few to be shown.")
    title, command = load(given.config).run.title, command_line("defences.py")
    record = measured(stage, ready.tuning, title, command)
    fixed, stem = claims_from(given.claims), given.config.stem
    verdicts = [(claim, judged(claim, record.frontier, fixed, stage.settings.models)) for claim in fixed.claims]
    told = Told(
        stem, head_of(given.config), ready.bench.settings.models, short, command, drawn(record, given.page, stem)
    )
    text = json.dumps(plain(record, verdicts, told), indent=1)
    write_atomic(given.page / f"{stem}.json", f"{text}\n".encode())
    write_atomic(given.page / f"{stem}.md", page(marked(record), fixed, verdicts, told).encode())
    say(f"Wrote {given.page / stem}.md and .json.")


def drawn(record: AuditRecord, folder: Path, stem: str) -> dict[tuple[str, float], str]:
    """The pictures that can be drawn, written; group and rate -> file name."""
    folder.mkdir(parents=True, exist_ok=True)
    found = {}
    for group, fpr in groups_with_pictures(marked(record)):
        picture = standalone(group, fpr, lowest_rate(record))
        if picture is not None:
            name = f"{stem}-{group.group}-{fpr:g}.svg"
            write_atomic(folder / name, picture.encode())
            found[group.group, fpr] = name
    return found


def plain(record: AuditRecord, verdicts: Sequence[tuple[Claim, Verdict]], told: Told) -> dict[str, object]:
    """The JSON file: verdicts, curves and tuning as plain values."""
    return {
        "title": record.title,
        "command": told.command,
        "models": record.design.targets,
        "wanted": told.wanted,
        "short": dict(told.short),
        "claims": [
            {
                "id": claim.id, "claim": claim.claim, "verdict": verdict.word, "reasons": verdict.reasons,
                "pairs": [pair._asdict() | {"difference": pair.difference and pair.difference.model_dump(mode="json")}
                          for pair in verdict.pairs],
            }
            for claim, verdict in verdicts
        ],
        "frontier": record.frontier and record.frontier.model_dump(mode="json"),
        "tuning": [one.model_dump(mode="json") for one in record.tuning],
        "strength": record.strength and record.strength.model_dump(mode="json"),
        "provenance": record.provenance.model_dump(mode="json"),
    }  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
