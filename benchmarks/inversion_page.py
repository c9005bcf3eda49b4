"""docs/results/inversion.md from the records of finished comparisons. Nothing on the page is typed by hand.

    sfumato compare DATA --config docs/results/inversion_NAME.toml --out OUT/NAME        for each configuration
    python benchmarks/inversion_page.py OUT/faces OUT/persons OUT/fashion ... --page docs/results

Each folder is one run: the configuration is named by the command in its record. The page has, for each run, accuracy
and guarantee beside what was found of classes and of records, each with its control; the guarantee's bound beside the
measurement; minutes for each class; and what follows by a fixed rule: a leak counts as found where the whole interval
of the difference from the control is above zero.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path

from results_page import cell, table
from sfumato.atomic import write_atomic
from sfumato.audit.inversion.headline import FIRST, inversion_headline
from sfumato.audit.inversion.measures import NAMES
from sfumato.audit.inverted import InversionResult, Measure
from sfumato.audit.record import AuditRecord, Finding, Subject

INTRODUCTION = """# Model inversion: which epsilon, at which unit, stops which leakage, at what cost in accuracy?

What an attacker rebuilds from a model is of two kinds. *Class-level*: what the members of a class have in common; an
accurate model knows it by its task. *Record-level*: more of the training records than of other records of the same
class; this alone is what a guarantee for a record bounds. Each number stands beside its control, the same measure where
nothing can have leaked. A leak counts as *found* where the whole 95% interval of the difference is above zero; "not
found" is no proof that there is none."""
LEVELS = {"class": "class-level", "record": "record-level"}


def page(records: dict[str, AuditRecord], command: str) -> str:
    """The whole page as Markdown; `records` by the name of each run."""
    lines = [INTRODUCTION, "", "```console", *[commands(record) for record in records.values()], command, "```", ""]
    for name, record in records.items():
        lines += [f"## {record.title}", "", scale(record), "", *notes(name), "", *answers(record), ""]
        lines += ["### Accuracy and guarantee", "", *table([subject_row(subject) for subject in record.subjects]), ""]
        for level in LEVELS:
            rows = [row for subject in record.subjects for row in measure_rows(subject, level)]
            if rows:
                lines += [f"### {LEVELS[level].capitalize()} leakage", "", *table(rows), ""]
        bounds = [row for subject in record.subjects for row in bound_rows(subject)]
        if bounds:
            lines += ["### What the guarantee permits, beside what was measured", "", *table(bounds), ""]
        others = [f"- {subject.name}: {one.attack}: {' '.join(one.reasons)}"
                  for subject in record.subjects for one in subject.not_run]  # fmt: skip
        if others:
            lines += ["### Not run, and why", "", *others, ""]
    lines += ["## Cost", "", COST, "", *table(cost_rows(records.values())), ""]
    lines += ["## What the measures are", "", *[f"- `{name}`: {text}" for name, text in NAMES.items()]]
    return "\n".join(lines).rstrip() + "\n"


COST = (
    "Minutes of one of two cores for each question (a class, a training step, a record), without and with what is "
    "trained for each target first (a generator, students); means over all subjects of a run, as they were measured "
    "when they ran."
)


def commands(record: AuditRecord) -> str:
    """What repeats a run, without the folders of the machine that it ran on."""
    text = record.provenance.command
    for option in ("--store", "--out", "--display"):
        text = re.sub(rf" {option}[= ]\S+", "", text)
    return re.sub(r"(olivetti|location-30):\S+", r"\1:PATH", text)


def scale(record: AuditRecord) -> str:
    """How much data, how many models, who judged, which machine."""
    data, design, where = record.data, record.design, record.provenance
    inverted = record.inversion
    told = (
        f"{data.records:,} records of {data.name} in {data.classes} classes, unit of privacy: {data.unit}. "
        f"{design.targets} models of each network, on halves of the units"
    )
    if inverted is not None:
        targets = max((result.targets for s in record.subjects for result in s.inversions), default=0)
        told += f"; {targets} of each inverted"
        told += f", {inverted.inverted} classes each" if inverted.inverted else ""
        told += f". Public: {inverted.public_records:,} records, {inverted.public}" if inverted.public else ""
        if inverted.evaluator is not None:
            told += f". Guesses are judged by {inverted.evaluator.name}, accuracy {cell(inverted.evaluator.accuracy)}"
    return (
        f"{told}. {where.created[:10]}, sfumato {where.versions['sfumato']}, torch {where.versions['torch']}, seed "
        f"{where.seed}, {where.machine['cores']} cores."
    )


def notes(name: str) -> list[str]:
    """The comment on top of the configuration: what was scaled down, and why."""
    path = Path(__file__).parent.parent / "docs" / "results" / f"inversion_{name}.toml"
    if not path.is_file():
        return []
    head = [line for line in path.read_text().split("\n\n")[0].splitlines() if line.startswith("#")]
    text = "\n".join(line.removeprefix("#").removeprefix(" ") for line in head[1:])
    return [line for line in text.splitlines() if not line.startswith(("- Repeat with", "- Make the features"))]


def answers(record: AuditRecord) -> list[str]:
    """For each subject and level, which attacks found a leak."""
    lines = []
    for subject in record.subjects:
        accuracy = next((f for f in subject.utility if f.name == "accuracy"), None)
        parts = [text for level in LEVELS if (text := found_text(subject, level))]
        if parts:
            lines.append(f"- **{subject.name}** (accuracy {cell(accuracy)}): {'; '.join(parts)}.")
    return lines


def found_text(subject: Subject, level: str) -> str:
    """What was found at one level, in a clause; "" where nothing was tried."""
    tried = [(result, measure) for result in subject.inversions if (measure := first(result, level)) is not None]
    if not tried:
        return ""
    leaks = [label(result) for result, measure in tried if leaked(measure)]
    if not leaks:
        return f"{LEVELS[level]} leakage not found by {len(tried)} attacks"
    return f"{LEVELS[level]} leakage found by {', '.join(leaks)} ({len(leaks)} of {len(tried)})"


def first(result: InversionResult, level: str) -> Measure | None:
    """The measure that is fixed for a game and a level."""
    both = inversion_headline(result)
    return both.class_level if level == "class" else both.record_level


def leaked(measure: Measure) -> bool:
    """The rule: the whole interval of the difference is above zero."""
    difference = measure.difference
    return difference is not None and difference.low is not None and difference.low > 0


def label(result: InversionResult) -> str:
    """The attack and what it was asked."""
    named = f"{result.name} (reconstruction)" if result.reconstruction else result.name
    return f"{named}, {result.variant}" if result.variant else named


def subject_row(subject: Subject) -> dict[str, str]:
    """Utility beside guarantee."""
    used = {f.name: f for f in subject.utility}
    row = {"network": subject.name}
    row |= {name: cell(used.get(name)) for name in ("accuracy", "training-accuracy")}
    return row | {"formal guarantee": subject.guarantee.statement, "training s": f"{subject.training_seconds:.0f}"}


def measure_rows(subject: Subject, level: str) -> list[dict[str, str]]:
    """One row for each measure that a person reads first or second."""
    named = {name for game in FIRST.values() for name in game[level == "record"]}
    return [
        {
            "network": subject.name,
            "attack": label(result),
            "measure": f"`{measure.name}`",
            "attacked": cell(measure.attacked),
            "control": cell(measure.control),
            "leaks more by": difference_cell(measure.difference),
        }
        for result in subject.inversions
        for measure in result.measures
        if measure.level == level and measure.name in named
    ]


def difference_cell(found: Finding | None) -> str:
    """Signed, with its interval."""
    if found is None or found.value is None or found.low is None or found.high is None:
        return "not resolvable"
    return f"{found.value:+.3f} [{found.low:+.3f}, {found.high:+.3f}]"


def bound_rows(subject: Subject) -> list[dict[str, str]]:
    """Permitted success beside measured success."""
    rows = []
    for result in subject.inversions:
        for bound in result.bounds:
            measure = result.measure(bound.measured)
            rows.append(
                {
                    "network": subject.name,
                    "attack": label(result),
                    "prior": f"{bound.prior:.4g}" if bound.applies else "-",
                    "permitted": f"{bound.permitted:.4g}" if bound.applies else "does not apply",
                    "measured": cell(measure.attacked) if measure and bound.applies else "-",
                    "unit": bound.unit,
                    "note": bound.note or bound.method,
                }
            )
    return rows


def cost_rows(records) -> list[dict[str, str]]:
    """Minutes for each question by run and attack."""
    rows = []
    for record in records:
        results = [result for subject in record.subjects for result in subject.inversions]
        for name in dict.fromkeys((result.name, result.variant) for result in results):
            mine = [result for result in results if (result.name, result.variant) == name]
            alone = sum(result.seconds for result in mine) / len(mine) / 60
            each = [result.fit_seconds * result.targets / max(result.questions, 1) for result in mine]
            rows.append(
                {
                    "run": record.title,
                    "attack": label(mine[0]),
                    "minutes each": f"{alone:.3f}",
                    "with what is trained first": f"{alone + sum(each) / len(each) / 60:.3f}",
                    "queries each": f"{sum(result.queries for result in mine) / len(mine):,.0f}",
                }
            )
    return rows


def summary(records: dict[str, AuditRecord]) -> list[dict]:
    """The same for machines: run, network, attack, level, measure, difference, found."""
    return [
        {
            "run": name,
            "network": subject.name,
            "attack": result.name,
            "variant": result.variant,
            "level": level,
            "measure": measure.name,
            "attacked": measure.attacked.value,
            "control": None if measure.control is None else measure.control.value,
            "difference": None if measure.difference is None else measure.difference.value,
            "low": None if measure.difference is None else measure.difference.low,
            "high": None if measure.difference is None else measure.difference.high,
            "found": leaked(measure),
        }
        for name, record in records.items()
        for subject in record.subjects
        for result in subject.inversions
        for level in LEVELS
        if (measure := first(result, level)) is not None
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", help="folders that `sfumato compare --out` wrote")
    parser.add_argument("--page", type=Path, required=True, metavar="FOLDER")
    given = parser.parse_args()
    records = {folder.name: AuditRecord.load(folder) for folder in given.runs}
    names = " ".join(f"OUT/{name}" for name in records)
    command = f"python benchmarks/inversion_page.py {names} --page docs/results"
    write_atomic(given.page / "inversion.md", page(records, command).encode())
    write_atomic(given.page / "inversion.json", (json.dumps(summary(records), indent=1) + "\n").encode())
    print(f"Wrote {given.page / 'inversion.md'} and .json.")


if __name__ == "__main__":
    main()
