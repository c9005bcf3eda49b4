"""CRL against an undefended network with the attacks of its own paper, and then with LiRA and BaVarIA.

    python benchmarks/crl_paper.py --config docs/results/crl_paper.toml --state STATE
    python benchmarks/crl_paper.py --config docs/results/crl_paper.toml --state STATE --page docs/results

The first trains the models of three runs, each with a seed of its own; all attacks are against the same models of a
run. The same command goes on where it stopped. The second trains nothing but what attacks train for themselves, and
writes the page and a JSON file.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from results_page import table
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
from results_state import Bench
from sfumato.atomic import write_atomic
from sfumato.audit.compare import compare
from sfumato.audit.record import AuditRecord, Finding
from sfumato.cli.config import RunConfig, load
from sfumato.cli.contenders import contenders
from sfumato.cli.opening import open_population
from sfumato.execution.executors.inline import Inline
from sfumato.execution.store import Store
from sfumato.report.wording import shown

RUNS = 3
FEWEST = 4  # models of a run below which it is not shown
UTILITY = ("training-accuracy", "accuracy")
LEAKAGE: tuple[tuple[str, float | None, str], ...] = (
    ("balanced_accuracy_crossfitted", None, "attack accuracy"),
    ("auc", None, "AUC"),
    ("tpr_at_fpr", 0.01, "TPR at 1%"),
    ("tpr_at_fpr", 0.001, "TPR at 0.1%"),
)


def main() -> int:
    parser = run_parser(__doc__)
    parser.add_argument("--runs", type=int, default=RUNS, help="seeds, from that of the file on")
    given = parser.parse_args()
    torch.set_num_threads(1)
    config = load(given.config)
    benches = [opened(config, given, run) for run in range(given.runs)]
    if given.page is not None:
        written(benches, config, given)
        return 0
    left, begun = seconds_left(given.minutes, given.until), time.monotonic()
    for bench in benches:
        rest = None if left is None else max(0.0, left - (time.monotonic() - begun))
        say(f"Run with seed {bench.settings.seed}")
        if not trained(bench, executor(given.workers), rest):
            return 3
    return 0


def opened(config: RunConfig, given: argparse.Namespace, run: int) -> Bench:
    """One run: its own sample of the data, its own training sets and seeds."""
    settings = settings_of(config, given)
    settings = replace(settings, seed=settings.seed + run)
    population = open_population(data_of(config, given), settings.seed)
    return Bench(population, chosen(contenders(config, population), given.only), settings, Store(given.state))


def written(benches: Sequence[Bench], config: RunConfig, given: argparse.Namespace) -> None:
    """The page and the JSON file, from the runs that are there."""
    records = [record for bench in benches if (record := measured(bench)) is not None]
    if not records:
        raise SystemExit(f"Expected at least {FEWEST} models of each contender of some run, got none.")
    stem, command = given.config.stem, command_line("crl_paper.py")
    found = {
        "title": config.run.title,
        "command": command,
        "runs": len(records),
        "wanted": given.runs,
        "rows": rows_of(records),
        "provenance": records[0].provenance.model_dump(mode="json"),
    }
    write_atomic(given.page / f"{stem}.json", f"{json.dumps(found, indent=1)}\n".encode())
    write_atomic(given.page / f"{stem}.md", page(found, records, head_of(given.config), stem).encode())
    say(f"Wrote {given.page / stem}.md and .json.")


def measured(bench: Bench) -> AuditRecord | None:
    """The record of one run, of as many models as every contender has; None where there are too few."""
    models = min(bench.ready(recipe) for recipe in bench.recipes) // 2 * 2
    if models < FEWEST:
        say(f"Seed {bench.settings.seed}: {models} models, too few to be shown.")
        return None
    stage = bench.with_models(models)
    run = compare(stage.population, stage.recipes, stage.settings, stage.store, executor=Inline(threads=1))
    return run.record


def rows_of(records: Sequence[AuditRecord]) -> list[dict[str, Any]]:
    """One row for each contender, attack and run; None where it was not resolved."""
    return [
        {
            "contender": subject.name,
            "attack": attack.name,
            "run": run,
            "utility": {f.name: cell(f) for f in subject.utility if f.name in UTILITY},
            "leakage": {head: cell(attack.finding(name, at)) for name, at, head in LEAKAGE},
        }
        for run, record in enumerate(records)
        for subject in record.subjects
        for attack in subject.attacks
    ]


def cell(finding: Finding | None) -> dict[str, float | str | None]:
    """Value, ends, and the words of the report."""
    if finding is None:
        return {"value": None, "low": None, "high": None, "text": "not measured"}
    value = finding.value if finding.resolvable else None
    return {"value": value, "low": finding.low, "high": finding.high, "text": shown(finding).text}


def page(found: dict[str, Any], records: Sequence[AuditRecord], notes: Sequence[str], stem: str) -> str:
    """The whole page as Markdown: the mean and the range over runs first, then every run with its intervals."""
    data, where = records[0].data, records[0].provenance
    rows, attacks = found["rows"], [attack.name for attack in records[0].subjects[0].attacks]
    lines = [
        f"# {found['title']}",
        "",
        "```console",
        f"python benchmarks/crl_paper.py --config docs/results/{stem}.toml --state STATE",
        found["command"],
        "```",
        "",
        f"{found['runs']} of {found['wanted']} runs, {data.records:,} records of {data.name}, "
        f"{' and '.join(str(record.design.targets) for record in records)} models of each contender, each in turn the "
        f"target. {where.created[:10]}, sfumato {where.versions['sfumato']}, torch {where.versions['torch']}.",
        "",
        *(f"- {note}" for note in notes),
        "",
        "## Mean over the runs, with the smallest and the largest",
        "",
        *table([summary(rows, contender, attack) for attack in attacks for contender in names(rows)]),
    ]
    for run in range(found["runs"]):
        own = [row for row in rows if row["run"] == run]
        lines += ["", f"## Run {run + 1}, seed {records[run].provenance.seed}", ""]
        lines += table([whole(row) for row in own])
        lines += [f"- Not tried on {subject.name}: {one.attack}: {'; '.join(one.reasons)}"
                  for subject in records[run].subjects for one in subject.not_run]  # fmt: skip
    return "\n".join(lines) + "\n"


def names(rows: Sequence[dict[str, Any]]) -> list[str]:
    """The contenders in their order."""
    return list(dict.fromkeys(row["contender"] for row in rows))


def summary(rows: Sequence[dict[str, Any]], contender: str, attack: str) -> dict[str, str]:
    """One contender under one attack, over the runs."""
    own = [row for row in rows if (row["contender"], row["attack"]) == (contender, attack)]
    shares = {name: [row["utility"][name]["value"] for row in own] for name in UTILITY}
    leaks = {head: [row["leakage"][head]["value"] for row in own] for _, _, head in LEAKAGE}
    return {"attack": attack, "contender": contender, **{k: over(v) for k, v in {**shares, **leaks}.items()}}


def over(values: Sequence[float | None]) -> str:
    """Mean and range of what was resolved in every run."""
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values):
        return "not resolved"
    return f"{sum(known) / len(known):.4f} ({min(known):.4f} to {max(known):.4f})"


def whole(row: dict[str, Any]) -> dict[str, str]:
    """One row with the report's words."""
    told = {name: row["utility"][name]["text"] for name in UTILITY}
    leaks = {head: row["leakage"][head]["text"] for _, _, head in LEAKAGE}
    return {"contender": row["contender"], "attack": row["attack"], **told, **leaks}


if __name__ == "__main__":
    sys.exit(main())
