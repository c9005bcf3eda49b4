"""A page of docs/results from a saved record: the command, the scale, and one table. Nothing is typed by hand.

python benchmarks/results_page.py RECORD --title "..." --note "what was scaled" > docs/results/NAME.md
"""

from __future__ import annotations

import argparse
from pathlib import Path

from sfumato.audit.record import AuditRecord, Finding, Subject
from sfumato.report.wording import shown

RATES = (0.1, 0.01, 0.001)


def page(record: AuditRecord, title: str, notes: list[str]) -> str:
    """The whole page as Markdown."""
    lines = [
        f"# {title}",
        "",
        "```console",
        record.provenance.command,
        "```",
        "",
        scale(record),
        "",
        *[f"- {note}" for note in notes],
        "",
        "## Each recipe under its strongest attack",
        "",
        *table([strongest_row(subject) for subject in record.subjects]),
        "",
        "## All attacks",
        "",
        *table([row for subject in record.subjects for row in attack_rows(subject)]),
        "",
        "## Against the first recipe, paired over targets",
        "",
        *table([difference_row(c) for c in record.comparisons if c.at in (None, 0.01)]),
        "",
        f"> {record.verdict.sentence}",
    ]
    return "\n".join(lines) + "\n"


def scale(record: AuditRecord) -> str:
    """How much data, how many models, which machine."""
    data, design, where = record.data, record.design, record.provenance
    return (
        f"{data.records:,} records of {data.name}, unit of privacy: {data.unit}; {data.game_units:,} units in the "
        f"game, {data.public_units:,} kept as known non-members. {design.targets} models per recipe, each in turn the "
        f"target, with {design.references_per_target} references. {design.trained} models trained and {design.reused} "
        f"reused in {where.seconds / 60:.0f} minutes on {where.machine['cores']} cores, {where.created[:10]}, sfumato "
        f"{where.versions['sfumato']}, torch {where.versions['torch']}, seed {where.seed}. Intervals are at 95%. "
        "Accuracy is on records outside each training set."
    )


def strongest_row(subject: Subject) -> dict[str, str]:
    """Utility beside leakage beside guarantee."""
    used = {f.name: f for f in subject.utility}
    best = subject.attack(subject.strongest)
    row = {"recipe": subject.name}
    row |= {name: cell(used.get(name)) for name in ("accuracy", "training-accuracy", "calibration-error")}
    row |= {"strongest attack": subject.strongest}
    row |= {"AUC": cell(best.finding("auc") if best else None)}
    row |= {f"TPR at FPR {fpr:g}": cell(best.finding("tpr_at_fpr", fpr) if best else None) for fpr in RATES}
    return row | {"formal guarantee": subject.guarantee.statement, "training s": f"{subject.training_seconds:.0f}"}


def attack_rows(subject: Subject) -> list[dict[str, str]]:
    """One row for each attack."""
    return [
        {"recipe": subject.name, "attack": a.name, "AUC": cell(a.finding("auc"))}
        | {f"TPR at FPR {fpr:g}": cell(a.finding("tpr_at_fpr", fpr)) for fpr in RATES}
        for a in subject.attacks
    ]


def difference_row(comparison) -> dict[str, str]:
    """One paired difference."""
    point = "" if comparison.at is None else f" at {comparison.at:g}"
    d = comparison.difference
    return {
        "recipe": comparison.subject,
        "against": comparison.baseline,
        "attack": comparison.attack or "-",
        "number": comparison.finding + point,
        "difference": f"{d.value:+.4f} [{d.low:+.4f}, {d.high:+.4f}]",
    }


def cell(finding: Finding | None) -> str:
    """Value and interval, in the report's own words."""
    if finding is None:
        return "not measured"
    words = shown(finding)
    return f"{words.value} ({words.interval})" if finding.resolvable and finding.low is not None else words.value


def table(rows: list[dict[str, str]]) -> list[str]:
    """Markdown rows."""
    if not rows:
        return ["(one recipe: nothing to compare)"]
    head = list(rows[0])
    return [
        "| " + " | ".join(head) + " |",
        "|" + "---|" * len(head),
        *("| " + " | ".join(row[name] for name in head) + " |" for row in rows),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("record", type=Path)
    parser.add_argument("--title", required=True)
    parser.add_argument("--note", action="append", default=[], help="a line below the scale; repeatable")
    args = parser.parse_args()
    print(page(AuditRecord.load(args.record), args.title, args.note), end="")


if __name__ == "__main__":
    main()
