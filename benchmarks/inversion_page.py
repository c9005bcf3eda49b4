"""docs/results/inversion.md from the records of finished comparisons. Nothing on the page is typed by hand.

    sfumato compare DATA --config docs/results/inversion_NAME.toml --out OUT/NAME        for each configuration
    python benchmarks/inversion_page.py OUT/faces OUT/persons OUT/fashion ... --page docs/results

Each folder is one run; its configuration is the one that the command in its record names. The page has, for each run, a
table of networks with unit, epsilon, accuracy and what was found, then every measure with its control, what the
guarantee permits beside the measurement, and what the record warns of; at the end minutes for each class. What counts
as found follows by a fixed rule: the whole interval of the difference from the control is above zero.
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

RESULTS = Path(__file__).parent.parent / "docs" / "results"
INTRODUCTION = """# Model inversion: which epsilon, at which unit, stops which leakage, at what cost in accuracy?

What an attacker rebuilds from a model is of two kinds. *Class-level*: what the members of a class have in common; an
accurate model knows it by its task. *Record-level*: more of the training records than of other records of the same
class; this alone is what a guarantee for a record bounds. Each number stands beside its control, the same measure where
nothing can have leaked. A leak counts as *found* where the whole 95% interval of the difference is above zero; "not
found" is no proof that there is none. Each row has the level for itself: about one row in forty says "found" where
nothing leaked, so believe several rows that agree. With fewer than four complementary pairs of models an interval
speaks of the models of the run, and of no others."""
LEVELS = {"class": "class-level", "record": "record-level"}
FIRST_MADE = "- Make first: "
UNMEASURED = "not measured: "
DESCRIBING = ("disputed_successes", "knowledge_accuracy", "fid", "precision", "recall", "density", "coverage")


def page(records: dict[str, AuditRecord], command: str) -> str:
    """The whole page as Markdown; `records` by the name of each run."""
    asked = list(dict.fromkeys(line for record in records.values() for line in commands(record)))
    lines = [INTRODUCTION, "", "```console", *asked, command, "```", ""]
    for record in records.values():
        lines += [f"## {record.title}", "", scale(record), "", *notes(record), "", *warnings(record)]
        lines += ["### The answer", "", *noted(answer_rows(record)), *answers(record), ""]
        for level in LEVELS:
            rows = [row for subject in record.subjects for row in measure_rows(subject, level)]
            if rows:
                lines += [f"### {LEVELS[level].capitalize()} leakage", "", *noted(rows)]
        described = [row for subject in record.subjects for row in describing_rows(subject)]
        if described:
            lines += ["### What only describes the guesses", "", *table(described), ""]
        bounds = [row for subject in record.subjects for row in bound_rows(subject)]
        if bounds:
            lines += ["### What the guarantee permits, beside what was measured", "", *noted(bounds)]
        others = [f"- {subject.name}: {one.attack}: {' '.join(one.reasons)}"
                  for subject in record.subjects for one in subject.not_run]  # fmt: skip
        if others:
            lines += ["### Not run, and why", "", *others, ""]
    lines += ["## Cost", "", COST, "", *table(cost_rows(records.values())), ""]
    lines += ["## What the measures are", "", *[f"- `{name}`: {text}" for name, text in NAMES.items()]]
    return "\n".join(lines).rstrip() + "\n"


def noted(rows: list[dict[str, str]]) -> list[str]:
    """The table, and below it what its cells would repeat: why nothing was measured, and all of the column `note`."""
    reasons = {row.get("attacked", "") for row in rows}
    if len(reasons) == 1 and (only := reasons.pop()).startswith(UNMEASURED):
        return [f"Not measured, for any network: {only.removeprefix(UNMEASURED)}", ""]
    marks: dict[str, str] = {}

    def short(column: str, text: str) -> str:
        head, colon, reason = text.partition(": ") if text.startswith(UNMEASURED) else ("", "", text)
        if not (colon or column == "note"):
            return text
        mark = marks.setdefault(reason, f"({len(marks) + 1})")
        return f"{head} {mark}".strip()

    told = table([{column: short(column, text) for column, text in row.items()} for row in rows])
    return [*told, "", *[f"- {mark} {reason}" for reason, mark in marks.items()], *[""] * bool(marks)]


COST = (
    "Minutes for each question (a class, a training step, a record) with the threads of the run, means over all its "
    "subjects. What is trained first (a generator, students) comes on top: a generator that depends on public records "
    "alone is trained once for a run, everything else once for each model that is attacked; the same generator is "
    "listed with each attack that uses it."
)


def commands(record: AuditRecord) -> list[str]:
    """What repeats a run, without the folders of the machine that it ran on; first what it needs."""
    text = record.provenance.command
    for option in ("--store", "--out", "--display"):
        text = re.sub(rf" {option}[= ]\S+", "", text)
    made = [line.removeprefix(FIRST_MADE) for line in comment(record) if line.startswith(FIRST_MADE)]
    return [*made, re.sub(r"(olivetti|location-30):\S+", r"\1:PATH", text)]


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
        f"{where.seed}, {where.machine['cores']} cores, {where.machine.get('threads', 'all')} threads."
    )


def comment(record: AuditRecord) -> list[str]:
    """The lines on top of the run's configuration, without the mark."""
    named = re.search(r"--config[= ]\S*?(inversion_\w+\.toml)", record.provenance.command)
    if named is None or not (RESULTS / named[1]).is_file():
        raise SystemExit(f"Expected a run of a configuration in docs/results, got {record.provenance.command!r}.")
    top = (RESULTS / named[1]).read_text().split("\n\n")[0].splitlines()
    return [line.removeprefix("#").removeprefix(" ") for line in top]


def notes(record: AuditRecord) -> list[str]:
    """What was scaled down, and why."""
    return [line for line in comment(record)[1:] if not line.startswith(("- Repeat with", FIRST_MADE))]


def warnings(record: AuditRecord) -> list[str]:
    """What the record warns of: critical notices, and alarms."""
    told = [f"> {notice.text} {notice.remedy}".rstrip() for notice in record.notices if notice.severity == "critical"]
    return [part for line in told for part in (line, "")]


def answer_rows(record: AuditRecord) -> list[dict[str, str]]:
    """For each network: unit, epsilon, accuracy, and how many attacks found which leak."""
    found = []
    for subject in record.subjects:
        numbers, used = subject.guarantee.numbers, {f.name: f for f in subject.utility}
        row = {
            "network": subject.name,
            "unit": "-" if numbers is None else numbers.unit,
            "epsilon": "no guarantee" if numbers is None else f"{numbers.epsilon:.3g}",
        }
        row |= {name: cell(used.get(name)) for name in ("accuracy", "training-accuracy")}
        for level in LEVELS:
            tried = [measure for result in subject.inversions if (measure := first(result, level)) is not None]
            row[LEVELS[level]] = f"found by {sum(map(leaked, tried))} of {len(tried)}" if tried else "-"
        found.append(row)
    return found


def answers(record: AuditRecord) -> list[str]:
    """For each subject and level, which attacks found a leak."""
    lines = []
    for subject in record.subjects:
        parts = [text for level in LEVELS if (text := found_text(subject, level))]
        if parts:
            lines.append(f"- **{subject.name}**: {'; '.join(parts)}.")
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


def describing_rows(subject: Subject) -> list[dict[str, str]]:
    """One row for each attack on classes: what its guesses are like, and how many successes are disputed."""
    return [
        {"network": subject.name, "attack": label(result)}
        | {f"`{name}`": with_control(result.measure(name)) for name in DESCRIBING}
        for result in subject.inversions
        if result.game == "class"
    ]


def with_control(measure: Measure | None) -> str:
    """A number, and the same where nothing can have leaked."""
    if measure is None or measure.attacked.value is None:
        return "-"
    control = measure.control
    beside = "" if control is None or control.value is None else f" ({control.value:.3g})"
    return f"{measure.attacked.value:.3g}{beside}"


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
    """Minutes for each question, and for what is trained first, by run and attack."""
    rows = []
    for record in records:
        results = [result for subject in record.subjects for result in subject.inversions]
        for name in dict.fromkeys((result.name, result.variant) for result in results):
            mine = [result for result in results if (result.name, result.variant) == name]
            alone = sum(result.seconds for result in mine) / len(mine) / 60
            fitted = sum(result.fit_seconds for result in mine) / len(mine) / 60
            rows.append(
                {
                    "run": record.title,
                    "attack": label(mine[0]),
                    "minutes each": f"{alone:.2g}",
                    "minutes for what is trained first": f"{fitted:.2g}" if fitted else "-",
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
