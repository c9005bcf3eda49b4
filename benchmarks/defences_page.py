"""The page of `defences.py`, from the record of what was measured. No number and no outcome in it is typed by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from defences_claims import Claim, Fixed, Pair, Verdict
from results_page import strongest_row, table
from sfumato.audit.curves import GroupFrontier
from sfumato.audit.record import AuditRecord
from sfumato.report.render import markdown_environment, rendered
from sfumato.report.sections.frontier import FrontierSection
from sfumato.report.wording import rate_label, shown

FPRS = (0.01, 0.001)


class Told(NamedTuple):
    """What the page is made of besides the record.

    Args:
        stem: of the configuration file and of the page.
        notes: from the head of the configuration file.
        wanted: models of each contender at the end of the run.
        short: contender -> models, for those with too few to be shown.
        command: that made the page.
        pictures: group and rate -> file name.
    """

    stem: str
    notes: Sequence[str]
    wanted: int
    short: Mapping[str, int]
    command: str
    pictures: Mapping[tuple[str, float], str]


def page(record: AuditRecord, fixed: Fixed, verdicts: Sequence[tuple[Claim, Verdict]], told: Told) -> str:
    """The whole page as Markdown."""
    parts = [
        top(record, told),
        scale(record, told),
        *([answers(verdicts, fixed)] if verdicts else []),
        pictures(told),
        ["## Curves", "", curves(record)],
        ["## Each contender under its strongest attack", "", *table([strongest_row(one) for one in record.subjects])],
        rebuilt(record),
        settings(record),
    ]
    return "\n\n".join("\n".join(lines) for lines in parts if lines) + "\n"


def top(record: AuditRecord, told: Told) -> list[str]:
    """What this is, and how it is repeated."""
    return [
        f"# {record.title}",
        "",
        "```console",
        f"python benchmarks/defences.py --config docs/results/{told.stem}.toml --state STATE",
        told.command,
        "```",
        "",
        f"The first command trains, and the second made this page and [{told.stem}.json]({told.stem}.json). `sfumato "
        f"compare --config docs/results/{told.stem}.toml --store STATE` finds the same models and writes the usual "
        "report.",
    ]


def scale(record: AuditRecord, told: Told) -> list[str]:
    """How much data, how many models, what was scaled, what is missing."""
    data, design, where = record.data, record.design, record.provenance
    kinds = {} if record.strength is None else record.strength.canaries
    lines = [
        "## Scale",
        "",
        f"{data.records:,} records of {data.name}: {data.game_units:,} units in the game "
        f"({', '.join(f'{count} {kind}' for kind, count in kinds.items())}), {data.public_units:,} in no training set. "
        f"{design.targets} of {told.wanted} models of each contender, each in turn the target with "
        f"{design.references_per_target} references; every contender has the same training sets and seeds. "
        f"{where.created[:10]}, sfumato {where.versions['sfumato']}, torch {where.versions['torch']}, seed "
        f"{where.seed}, {where.machine['cores']} cores. Intervals are at 95%.",
        "",
        *(f"- {note}" for note in told.notes),
        *([] if record.strength is None else [f"- {text}" for text in (*record.strength.scaled,
                                                                       *record.strength.missing)]),
    ]  # fmt: skip
    if design.targets < told.wanted:
        lines.append(f"- A partial run: {design.targets} of {told.wanted} models. The rest may change it.")
    return lines + [f"- Not run yet: {name} ({count} models)." for name, count in told.short.items()]


def answers(verdicts: Sequence[tuple[Claim, Verdict]], fixed: Fixed) -> list[str]:
    """The claims, what would confirm each, and what came of them."""
    lines = [
        "## The plain answers",
        "",
        "What would confirm or refute each claim was written down in [defences_claims.toml](defences_claims.toml) "
        f"before the models were trained. Risk: TPR at {rate_label(fixed.fpr)} false positives, group {fixed.group!r}.",
        "",
        *table([{"claim": f"{claim.id}: {claim.claim}", "verdict": verdict.word} for claim, verdict in verdicts]),
    ]
    for claim, verdict in verdicts:
        lines += ["", f"### {claim.id}: {claim.claim}", "", f"- Would confirm it: {claim.confirms}"]
        lines += [f"- Would refute it: {claim.refutes}"]
        lines += [f"- **Verdict: {verdict.word}.** {' '.join(verdict.reasons)}".rstrip()]
        if verdict.pairs:
            lines += ["", *table([pair_row(pair) for pair in verdict.pairs])]
    return lines


def pair_row(pair: Pair) -> dict[str, str]:
    """One pair of methods at equal accuracy."""
    difference = pair.note if pair.difference is None else shown(pair.difference, pair.difference.name).text
    return {
        "subject": pair.subject,
        "baseline": pair.baseline,
        "at an accuracy of": "none in common" if pair.accuracy is None else rate_label(round(pair.accuracy, 4)),
        "difference in TPR": difference,
        "by itself": pair.word,
    }


def pictures(told: Told) -> list[str]:
    """The frontier plots."""
    if not told.pictures:
        return []
    titles = {"all": "all canaries", "worst": "the kind of canaries that leaks most"}
    lines = ["## The frontier"]
    for (group, fpr), name in told.pictures.items():
        lines += ["", f"![TPR at {rate_label(fpr)} by accuracy, {titles.get(group, group)}]({name})"]
    return lines


def curves(record: AuditRecord) -> str:
    """The report's own section, as Markdown."""
    (_, body), = rendered(record, [FrontierSection()], markdown_environment())  # fmt: skip
    lines: list[str] = []
    for line in (line.rstrip() for line in str(body).splitlines()):
        joined = line.startswith("|") and len(lines) > 1 and not lines[-1] and lines[-2].startswith("|")
        if joined:
            lines.pop()
        if line or (lines and lines[-1]):
            lines.append(line)
    return "\n".join(lines).strip()


def rebuilt(record: AuditRecord) -> list[str]:
    """What of the published method is not known, for those that are reconstructions."""
    known = {one.defence.name: one.defence.reconstruction for one in record.subjects if one.defence.reconstruction}
    return ["## Reconstructions", "", *(f"- {name}: {text}" for name, text in known.items())] if known else []


def settings(record: AuditRecord) -> list[str]:
    """Guarantees and settings, as they ran."""
    rows = [
        f"- `{one.name}`: {one.guarantee.statement}. `{one.defence.name}({_fields(one.defence.settings)})`"
        for one in record.subjects
    ]
    return ["## Guarantees and settings", "", *rows]


def _fields(values: Mapping[str, object]) -> str:
    return ", ".join(f"{name}={value}" for name, value in values.items())


def groups_with_pictures(record: AuditRecord) -> list[tuple[GroupFrontier, float]]:
    """What is drawn."""
    return [] if record.frontier is None else [(group, fpr) for group in record.frontier.groups for fpr in FPRS]
