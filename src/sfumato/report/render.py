"""From a record to one HTML file, to Markdown and to a model card, all from the same sections."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from sfumato.atomic import write_atomic
from sfumato.audit.record import AuditRecord, Curve, Subject
from sfumato.audit.verdict import strongest_row
from sfumato.errors import UsageError
from sfumato.registry import discover
from sfumato.report import sections as sections_package
from sfumato.report.charts import marks_needed, swatch, swatch_symbols
from sfumato.report.markdown_text import escape_markdown, fenced, yaml_text
from sfumato.report.naming import marked
from sfumato.report.page import embedded, page_parts
from sfumato.report.section import Section
from sfumato.report.wording import amount, count, shown
from sfumato.validate import one_of


def sections() -> list[Section]:
    """All sections in the order of the page."""
    kinds: list[Callable[[], Section]] = list(discover(sections_package, Section).values())
    return sorted((make() for make in kinds), key=lambda section: section.order)


def html(record: AuditRecord) -> str:
    """One self-contained page: no request, no network, readable with scripts off, under 500 kB for a usual record.

    Raises:
        UsageError: if the record's curves or histograms are not of one length, so that they cannot be drawn.
    """
    environment, named = html_environment(), marked(record)
    parts = rendered(named, sections(), environment)
    used = sum(len(body.encode()) for _, body in parts)
    template = environment.get_template("template.html")
    return template.render(record=named, page=page_parts(), parts=parts, embedded=embedded(record, used))


def markdown(record: AuditRecord) -> str:
    """The same sections as Markdown, to paste into a file or an assessment."""
    record = marked(record)
    parts = rendered(record, sections(), markdown_environment())
    return _tidy(markdown_environment().get_template("report.md").render(record=record, parts=parts))


def model_card(record: AuditRecord) -> str:
    """A model card: YAML head as Hugging Face reads it, then the sections that belong in a card."""
    record = marked(record)
    parts = rendered(record, [section for section in sections() if section.in_card], markdown_environment())
    task = "image-classification" if record.data.kind == "image" else "tabular-classification"
    card = markdown_environment().get_template("card.md")
    return _tidy(card.render(record=record, parts=parts, metrics=_metrics(record), task=task))


FORMATS: dict[str, tuple[str, Callable[[AuditRecord], str]]] = {
    "html": ("report.html", html),
    "markdown": ("report.md", markdown),
    "card": ("MODEL_CARD.md", model_card),
}


def write(record: AuditRecord, folder: Path, formats: Iterable[str] = ("html",)) -> dict[str, Path]:
    """Write the record in each of `formats` ("html", "markdown", "card") into `folder`; each file atomically.

    Returns:
        The path of each format.
    """
    wanted = list(formats)
    for name in wanted:
        one_of("format", name, FORMATS)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    return {name: _write(folder / FORMATS[name][0], FORMATS[name][1](record)) for name in wanted}


@cache
def html_environment() -> Environment:
    """Templates of pages; all text is escaped."""
    environment = Environment(
        loader=PackageLoader("sfumato.report", "assets"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.globals.update(
        amount=amount, count=count, shown=shown, swatch=swatch, swatch_symbols=swatch_symbols, marks_needed=marks_needed
    )
    return environment


@cache
def markdown_environment() -> Environment:
    """Templates of Markdown; all text is escaped by Markdown's rules and HTML's."""
    environment = html_environment().overlay(finalize=escape_markdown)
    environment.filters.update(fenced=fenced, yaml=yaml_text)
    return environment


def check_drawable(record: AuditRecord) -> None:
    """Refuse a record whose curves or histograms do not fit together."""
    for subject in record.subjects:
        for attack in subject.attacks:
            if attack.curve is not None:
                _check_curve(f"{subject.name} / {attack.name}", attack.curve)
        _check_histogram(subject)
        _check_permitted(subject)


def _check_curve(where: str, curve: Curve) -> None:
    lengths = {len(curve.fpr), len(curve.tpr), len(curve.low), len(curve.high)}
    if len(lengths) > 1:
        raise UsageError(
            f"Expected a curve with four lines of one length at {where}, got lengths {sorted(lengths)}.",
            remedy="Run the audit again; this record is damaged.",
        )


def _check_permitted(subject: Subject) -> None:
    curve = subject.guarantee.numbers and subject.guarantee.numbers.permitted
    if curve and (len(curve.fpr) != len(curve.tpr) or not curve.fpr):
        raise UsageError(
            f"Expected a permitted curve with two lines of one length at {subject.name}, got {len(curve.fpr)} and "
            f"{len(curve.tpr)} points.",
            remedy="Run the audit again; this record is damaged.",
        )


def _check_histogram(subject: Subject) -> None:
    spread = subject.vulnerability
    if spread is None:
        return
    rising = all(low < high for low, high in zip(spread.edges, spread.edges[1:]))
    if len(spread.edges) != len(spread.counts) + 1 or not rising:
        raise UsageError(
            f"Expected rising edges, one more than counts, in the vulnerability of {subject.name!r}, "
            f"got {len(spread.edges)} edges and {len(spread.counts)} counts.",
            remedy="Run the audit again; this record is damaged.",
        )


def rendered(record: AuditRecord, wanted: list[Section], environment: Environment) -> list[tuple[Section, Markup]]:
    """Each wanted section with its partial template filled in, HTML or Markdown by the environment."""
    check_drawable(record)
    ending = "md" if environment.finalize else "html"
    return [
        (
            section,
            Markup(
                environment.get_template(f"sections/{section.name}.{ending}").render(
                    record=record, section=section, **section.context(record)
                )
            ),
        )
        for section in wanted
    ]


def _metrics(record: AuditRecord) -> list[dict[str, Any]]:
    """Entries of the card's `model-index`: utility and the strongest attack of each subject, resolved ones only."""
    entries = []
    for subject in record.subjects:
        strongest = strongest_row(subject)
        leakage = [(f, f" by {strongest.label}") for f in strongest.findings] if strongest else []
        for finding, by in [*((f, "") for f in subject.utility), *leakage]:
            if finding.resolvable and finding.value is not None:
                entries.append({"subject": subject.name, "finding": finding, "name": shown(finding).label + by})
    return entries


def _tidy(text: str) -> str:
    """At most one empty line in a row, one line end at the end."""
    lines: list[str] = []
    for line in (line.rstrip() for line in text.splitlines()):
        if line or (lines and lines[-1]):
            lines.append(line)
    return "\n".join(lines).strip("\n") + "\n"


def _write(path: Path, text: str) -> Path:
    write_atomic(path, text.encode())
    return path
