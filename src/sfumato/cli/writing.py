"""The folder of a run: record, report, Markdown, model card, and the local list of worst-hit units."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sfumato.attacks.catalogue import inversions
from sfumato.audit.checks import Check, exit_code, load_checks, run_checks
from sfumato.audit.compare import Run
from sfumato.audit.inversion.wording import strongest_inversions
from sfumato.audit.record import AuditRecord, Finding, Subject
from sfumato.audit.verdict import describe, headline, strongest_row, verdict, with_control, worst_kind
from sfumato.audit.worst import write_worst_units
from sfumato.cli.screen import Screen
from sfumato.errors import UsageError
from sfumato.report.gallery import write_gallery
from sfumato.report.naming import marked
from sfumato.report.render import write
from sfumato.report.wording import rate_label, shown

FORMATS = ("html", "markdown", "card")


def output_folder(text: str) -> Path:
    """The folder to write into, made if need be, before anything long begins.

    Raises:
        UsageError: if it cannot be a folder, or nothing can be written into it.
    """
    folder = Path(text).expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"Expected a folder to write into, got {text!r} ({error.strerror}).", remedy="Choose another `--out`."
        ) from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UsageError(f"Expected a folder that can be written into, got {text!r}.", remedy="Choose another `--out`.")
    return folder


def checks_from(path: str | None) -> tuple[Check, ...]:
    """The user's thresholds, read before anything long begins; none where none were given."""
    return load_checks(Path(path)) if path else ()


def finish(run: Run, checks: Sequence[Check], folder: Path, screen: Screen) -> int:
    """Test the thresholds, write everything, and print the outcome.

    Returns:
        The exit code: 0, or 2 where a check failed, or 3 where there was too little data to tell.
    """
    record = with_checks(run.record, checks)
    code = exit_code(record.checks)
    pages = write(record, folder, FORMATS)
    files = {"report": pages["html"], "record": record.save(folder / "record.json")}
    files |= {"as Markdown": pages["markdown"], "model card": pages["card"]}
    if run.worst:
        files["worst-hit units (personal data)"] = write_worst_units(run.worst, folder / "worst-units.csv")
    if run.gallery is not None:
        files["gallery (shows people)"] = write_gallery(run.gallery, folder / "gallery.html")
    summary(record, screen)
    screen.written(files, f"open {files['report']} in a browser, or run: sfumato view {folder}")
    screen.document(document(record, files, code))
    return code


def with_checks(record: AuditRecord, checks: Sequence[Check]) -> AuditRecord:
    """The record with what came of the thresholds, in its verdict too."""
    results = run_checks(record, checks)
    return record.model_copy(update={"checks": results, "verdict": verdict(record.subjects, results)})


def document(record: AuditRecord, files: dict[str, Path], code: int) -> dict[str, Any]:
    """The record as JSON, with a flat list of all findings on top."""
    flat = [
        {**_plain(found), "attack": attack, "subject": subject.name}
        for subject in record.subjects
        for attack, several in [(a.name, a.findings) for a in subject.attacks] + [("", subject.utility)]
        for found in several
    ]
    flat += [
        {
            **_plain(found),
            "attack": result.name,
            "variant": result.variant,
            "level": measure.level,
            "subject": subject.name,
        }
        for subject in record.subjects
        for result in subject.inversions
        for measure in result.measures
        for found in (measure.attacked, measure.control, measure.difference)
        if found is not None
    ]
    paths = {"record": str(files["record"]), "report": str(files["report"])}
    return {"findings": flat, **paths, "exit_code": code, **record.model_dump(mode="json")}


def summary(record: AuditRecord, screen: Screen) -> None:
    """The few numbers that a person wants first."""
    record = marked(record)
    at = _common_point(record)
    rate = f"members named at {rate_label(at)} false alarms" if at else "members named"
    columns = ["recipe" if record.kind in ("compare", "audit") else "target", "accuracy on others"]
    columns += ["strongest attack", "its AUC", rate]
    rows = [_row(subject, at) for subject in record.subjects]
    if record.inversion is not None and not any(subject.attacks for subject in record.subjects):
        columns, rows = columns[:2], [row[:2] for row in rows]  # nobody asked who was a member
    if not any(subject.utility for subject in record.subjects):
        columns, rows = [columns[0], *columns[2:]], [[row[0], *row[2:]] for row in rows]
    screen.say("")
    screen.table(columns, rows, record.title)
    for line in (*_kinds(record), *_inverted(record), *_strength(record)):
        screen.say(line)
    for result in record.checks:
        screen.say(f"Check {result.outcome}: {result.name} ({result.condition}): {result.explanation}")


def _kinds(record: AuditRecord) -> list[str]:
    """The worst kind of canary of each subject."""
    found = [(subject, worst) for subject in record.subjects if (worst := worst_kind(subject)) is not None]
    return [
        f"Worst canaries of {subject.name}: {worst.group}, {describe(headline(worst))} ({worst.attack})."
        for subject, worst in found
    ]


def _inverted(record: AuditRecord) -> list[str]:
    """What inversion found on each subject, class-level and record-level apart; what could not run."""
    lines = []
    for subject in record.subjects:
        for one in strongest_inversions(subject):
            apart = "" if one.shown else "; not told apart from the control"
            lines.append(f"Inversion of {subject.name}, {one.level}-level: {with_control(one)} ({one.label}){apart}.")
        lines += [
            f"{one.attack} on {subject.name}, not run: {'; '.join(one.reasons)}."
            for one in subject.not_run
            if one.attack in inversions()
        ]
    return lines


def _strength(record: AuditRecord) -> list[str]:
    """What the protocol came to; nothing for a run that was not asked for full strength."""
    made = record.strength
    if made is None:
        return []
    return [f"Strength: {made.reached}, with {made.models} models and {sum(made.canaries.values())} canaries.",
            *made.scaled, *made.missing]  # fmt: skip


def _row(subject: Subject, at: float | None) -> list[str]:
    best = strongest_row(subject)
    accuracy = next((f for f in subject.utility if f.name == "accuracy"), None)
    leakage = [best.finding("auc"), best.finding("tpr_at_fpr", at) if at else None] if best else [None, None]
    return [subject.name, _text(accuracy), best.label if best else "none ran", *map(_text, leakage)]


def _common_point(record: AuditRecord) -> float | None:
    """The false positive rate to quote: 1% where every strongest attack can resolve it, else 10%, else none."""
    best = [attack for subject in record.subjects if (attack := strongest_row(subject))]
    for at in (0.01, 0.1):
        found = [attack.finding("tpr_at_fpr", at) for attack in best]
        if found and all(f is not None and f.resolvable for f in found):
            return at
    return None


def _plain(found: Finding) -> dict[str, Any]:
    return found.model_dump(mode="json")


def _text(found: Finding | None) -> str:
    return "not resolvable" if found is None else shown(found).text
