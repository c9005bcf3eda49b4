"""What attackers rebuilt: of classes and of records, each measure beside its control, and what a guarantee permits."""

from __future__ import annotations

import math
import pkgutil
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NamedTuple

from markupsafe import Markup

from sfumato.attacks import inversion
from sfumato.audit.alarm import broken_bounds
from sfumato.audit.inversion.headline import inversion_headline
from sfumato.audit.inverted import InversionDesign, InversionResult, Level, Measure
from sfumato.audit.measured import NotRun
from sfumato.audit.record import AuditRecord, Subject
from sfumato.report.charts.inversion import Bounded, Placed, bounds_chart, has_value, inversion_chart
from sfumato.report.charts.style import swatch
from sfumato.report.section import Section
from sfumato.report.wording import Shown, amount, count, duration, label, percent, shown

_LEVELS: tuple[tuple[Level, str, str], ...] = (
    (
        "class",
        "What a class looks like",
        "Success here shows what the members of a class have in common. An accurate model knows that by its task, no "
        "training record needs to be given away for it, and no guarantee for a single record rules it out. Where each "
        "class is one person, it is that person.",
    ),
    (
        "record",
        "What the training records add",
        "Success here shows more of the training records than of other records of the same kind, which the model never "
        "saw. This is what a guarantee for the unit of privacy bounds.",
    ),
    ("none", "What only describes the guesses", "These numbers show no leakage by themselves."),
)
_MOST_ROWS = 120
_MOST_CHARTS = 6  # of each level
_MOST_BOUNDS = 24  # in the picture; the table has all


class Row(NamedTuple):
    """One measure of one attack on one subject."""

    swatch: Markup
    subject: str
    attack: str
    reconstruction: bool
    measure: str
    more: str
    attacked: Shown
    control: Shown | None
    difference: Shown | None
    found: bool


class Drawn(NamedTuple):
    """A picture and what it shows."""

    chart: Markup
    caption: str


class Panel(NamedTuple):
    """One level: what it means, its measures, and its pictures."""

    level: str
    title: str
    sentence: str
    rows: list[Row]
    left_out: int
    charts: list[Drawn]
    charts_left_out: int


class Cost(NamedTuple):
    """What one attack touched, on all subjects together."""

    attack: str
    result: InversionResult
    subjects: list[str]
    queries: str
    seconds: str
    fit_seconds: str


class BoundRow(NamedTuple):
    """What a guarantee permits beside what was measured; `broken` where the whole interval lies above."""

    swatch: Markup
    subject: str
    attack: str
    reconstruction: bool
    measure: str
    unit: str
    prior: str
    permitted: str
    measured: Shown | None
    method: str
    note: str
    broken: bool


class InversionSection(Section):
    """After the membership attacks."""

    name: ClassVar[str] = "inversion"
    order: ClassVar[int] = 57
    title: ClassVar[str] = "Model inversion"
    in_card: ClassVar[bool] = True

    def context(self, record: AuditRecord) -> dict[str, Any]:
        results = [(i, s, r) for i, s in enumerate(record.subjects) for r in s.inversions]
        bounds = _bounds(results)
        return {
            "design": record.inversion,
            "facts": _facts(record.inversion) if record.inversion else [],
            "unit_is_class": _unit_is_class(record.inversion),
            "panels": _panels(results),
            "epsilons": [_epsilon_text(i, s) for i, s in enumerate(record.subjects) if s.inversions],
            "costs": _costs(results),
            "rebuilt": list(dict.fromkeys((r.name, r.reconstruction) for _, _, r in results if r.reconstruction)),
            "notes": list(dict.fromkeys((f"{_asked(r)} on {s.name}", r.note) for _, s, r in results if r.note)),
            "controls": list(dict.fromkeys(_control_lines([r for _, _, r in results]))),
            "methods": _methods([r for _, _, r in results]),
            "bounds": bounds,
            "bound_chart": _bound_chart(results),
            "missing": _missing(record),
        }


def headline_measure(result: InversionResult, level: Level) -> Measure | None:
    """The measure of `level` that stands for the others, else the first that is there; None for what only describes."""
    chosen = inversion_headline(result)
    first = {"class": chosen.class_level, "record": chosen.record_level}.get(level)
    there = [one for one in result.measures if one.level == level and level != "none"]
    return first if first in there else next(iter(there), None)


def _asked(result: InversionResult) -> str:
    return f"{result.name}, {result.variant}" if result.variant else result.name


def _facts(design: InversionDesign) -> list[tuple[str, str]]:
    judge = design.evaluator
    words = "none was needed"
    if judge is not None:
        words = f"{judge.name}, accuracy {shown(judge.accuracy.model_copy(update={'name': 'accuracy'})).text}"
        words += f". {judge.note}" if judge.note else ""
    records = f"{design.public}, {amount(design.public_records, 'record')}" if design.public else "none"
    kept = "in a file of their own on the machine of the run; this record holds none" if design.gallery else "not kept"
    return [
        ("Public records of the attacker", records),
        ("Classes inverted", f"{count(design.inverted)} of {count(design.classes)}"),
        ("Unit of privacy", design.unit or "not stated"),
        ("Evaluator", words),
        ("Pictures", kept),
    ]


def _unit_is_class(design: InversionDesign | None) -> str:
    if design is None or not design.unit_is_class:
        return ""
    return (
        f"Each class is one unit ({design.unit}): to learn a class is to learn this unit. A guarantee for the whole "
        "unit limits how much the model may depend on it at all, so it cannot be strong while the model tells the "
        "units apart. A guarantee for single records does not rule out the likeness of the class."
    )


def _epsilon_text(index: int, subject: Subject) -> tuple[Markup, str, str]:
    numbers = subject.guarantee.numbers
    words = "no guarantee" if numbers is None else f"epsilon {numbers.epsilon:.3g} for one {numbers.unit}"
    return swatch(index), subject.name, words


def _panels(results: Sequence[tuple[int, Subject, InversionResult]]) -> list[Panel]:
    every = sum(len(r.measures) for _, _, r in results)
    panels = [_panel(results, level, title, sentence, every <= _MOST_ROWS) for level, title, sentence in _LEVELS]
    return [panel for panel in panels if panel.rows or panel.left_out]


def _panel(
    results: Sequence[tuple[int, Subject, InversionResult]], level: Level, title: str, sentence: str, every: bool
) -> Panel:
    there = [(i, s, r, m) for i, s, r in results for m in r.measures if m.level == level]
    kept = there if every else [one for one in there if one[3] is headline_measure(one[2], level)]
    kept = kept[:_MOST_ROWS]
    charts = _charts(results, level)
    rows = [_row(i, s, r, m) for i, s, r, m in kept]
    shortened = charts[:_MOST_CHARTS]
    return Panel(level, title, sentence, rows, len(there) - len(rows), shortened, len(charts) - len(shortened))


def _row(index: int, subject: Subject, result: InversionResult, measure: Measure) -> Row:
    named = {"name": measure.name}
    control, gap = measure.control, measure.difference
    return Row(
        swatch(index),
        subject.name,
        _asked(result),
        bool(result.reconstruction),
        label(measure.name),
        measure.more,
        shown(measure.attacked.model_copy(update=named)),
        None if control is None else shown(control.model_copy(update=named)),
        None if gap is None else shown(gap, measure.name),
        measure.level != "none" and gap is not None and has_value(gap) and gap.low is not None and gap.low > 0,
    )


def _charts(results: Sequence[tuple[int, Subject, InversionResult]], level: Level) -> list[Drawn]:
    """A picture for each attack, where at least one subject has a guarantee and another one can be compared."""
    found: dict[tuple[str, str], list[Placed]] = {}
    for index, subject, result in results:
        measure = headline_measure(result, level)
        if measure is not None:
            numbers = subject.guarantee.numbers
            epsilon = None if numbers is None else numbers.epsilon
            placed = Placed(index, subject.name, epsilon, measure.attacked, measure.control)
            found.setdefault((_asked(result), measure.name), []).append(placed)
    charts: list[Drawn] = []
    for (attack, name), placed in found.items():
        if len(placed) > 1 and any(one.epsilon is not None for one in placed):
            title = f"{attack}: {label(name)} against epsilon"
            chart = inversion_chart(f"inversion-{level}-{len(charts)}", title, name, placed)
            charts += [] if chart is None else [Drawn(chart, title)]
    return charts


def _bounds(results: Sequence[tuple[int, Subject, InversionResult]]) -> list[BoundRow]:
    rows = []
    for index, subject, result in results:
        broken = [one.bound for one in broken_bounds(subject)]
        for bound in result.bounds:
            measure = result.measure(bound.measured)
            rate = None if measure is None else measure.attacked.model_copy(update={"name": "success_rate"})
            rows.append(
                BoundRow(
                    swatch(index), subject.name, _asked(result), bool(result.reconstruction), label(bound.measured),
                    bound.unit, percent(bound.prior), percent(bound.permitted),
                    shown(rate) if rate is not None and bound.applies else None, bound.method, bound.note,
                    any(bound is one for one in broken),
                )
            )  # fmt: skip
    return rows


def _bound_chart(results: Sequence[tuple[int, Subject, InversionResult]]) -> Markup | None:
    drawn = [
        Bounded(index, f"{subject.name}, {_asked(result)}", bound.prior, bound.permitted, measure.attacked)
        for index, subject, result in results
        for bound in result.bounds
        if bound.applies and (measure := result.measure(bound.measured)) is not None
    ]
    return bounds_chart("inversion-bounds", drawn[:_MOST_BOUNDS])


def _costs(results: Sequence[tuple[int, Subject, InversionResult]]) -> list[Cost]:
    """One line for each attack and what it was asked; the subjects share it."""
    found: dict[tuple[str, str], list[tuple[Subject, InversionResult]]] = {}
    for _, subject, result in results:
        found.setdefault((_asked(result), result.access), []).append((subject, result))
    return [
        Cost(
            name,
            group[0][1],
            [subject.name for subject, _ in group],
            _range([r.queries for _, r in group], lambda queries: count(math.ceil(queries))),
            _range([r.seconds for _, r in group], _time),
            _range([r.fit_seconds for _, r in group], lambda seconds: _time(seconds) if seconds else "nothing"),
        )
        for (name, _), group in found.items()
    ]


def _range(values: Sequence[float], write: Callable[[float], str]) -> str:
    low, high = write(min(values)), write(max(values))
    return low if low == high else f"{low} to {high}"


def _time(seconds: float) -> str:
    return duration(seconds) if seconds >= 0.1 else f"under {duration(0.1)}"


def _control_lines(results: Sequence[InversionResult]) -> list[str]:
    return [f"{label(m.name)}: {m.control_is}" for r in results for m in r.measures if m.control_is]


def _methods(results: Sequence[InversionResult]) -> list[str]:
    """How intervals were made: measures that share a way share a line."""
    grouped: dict[str, dict[str, None]] = {}
    for measure in (m for r in results for m in r.measures):
        told = shown(measure.attacked)
        how = "; ".join(part for part in (told.method, told.note) if part)
        if how:
            grouped.setdefault(how, {})[label(measure.name)] = None
    return [f"{', '.join(names)}: {how}" for how, names in grouped.items()]


def _missing(record: AuditRecord) -> list[tuple[str, str, str]]:
    """Attack, subjects and reasons of the inversions that could not run."""
    if record.inversion is None or not any(s.not_run for s in record.subjects):
        return []
    # Names of files: each attack stands in the file of its name, and a page needs no torch.
    known = {module.name.replace("_", "-") for module in pkgutil.iter_modules(inversion.__path__)}
    known |= {r.name for s in record.subjects for r in s.inversions}
    rows: dict[tuple[str, str], list[str]] = {}
    for subject in record.subjects:
        for absent in subject.not_run:
            if _method(absent) in known:
                rows.setdefault((absent.attack, "; ".join(absent.reasons)), []).append(subject.name)
    return [(attack, ", ".join(names), why) for (attack, why), names in rows.items()]


def _method(absent: NotRun) -> str:
    """The method's own name: a variant stands behind a comma."""
    return absent.attack.partition(",")[0]
