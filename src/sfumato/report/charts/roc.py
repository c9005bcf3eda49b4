"""The ROC on two logarithmic axes: curves as steps, bands, the chance line, and the zone that cannot be resolved."""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import pairwise
from typing import NamedTuple

from markupsafe import Markup

from sfumato.audit.record import AttackResult, AuditRecord, Curve
from sfumato.report.charts.scale import Scale
from sfumato.report.charts.style import colour, dash, marker
from sfumato.report.charts.svg import Frame, label, picture, tag
from sfumato.report.wording import rate_label

_WIDTH, _HEIGHT = 560, 470
_LEFT, _RIGHT, _TOP, _BOTTOM = 84.0, 540.0, 14.0, 402.0
_POINTS_ON_PAGE = 3000
_FINE = 2  # curves are written in whole halves of a picture unit, which keeps their text short


class Drawn(NamedTuple):
    """One curve on the page: `subject` and `attack` count along the record, `strongest` is on by default."""

    subject: int
    attack: int
    attack_name: str
    strongest: bool
    result: AttackResult
    curve: Curve


def drawn_curves(record: AuditRecord) -> list[Drawn]:
    """All curves of the record; of each subject one at most is marked as its strongest attack."""
    return [
        Drawn(s, a, result.name, result.name == strongest_with_curve(subject.strongest, subject.attacks), result, curve)
        for s, subject in enumerate(record.subjects)
        for a, result in enumerate(subject.attacks)
        if (curve := result.curve) is not None and curve.fpr
    ]


def strongest_with_curve(strongest: str, attacks: Iterable[AttackResult]) -> str:
    """The attack shown first: the strongest where it has a curve, else the first that has one."""
    named = [attack.name for attack in attacks if attack.curve is not None and attack.curve.fpr]
    return strongest if strongest in named or not named else named[0]


def kept_points(record: AuditRecord) -> dict[tuple[int, int], list[int]]:
    """Which grid points of each curve (subject, attack) the page draws and carries, so that it stays small.

    Points are only dropped: those that move the line by less than a picture unit, then evenly along the grid.
    """
    curves = drawn_curves(record)
    cap = max(32, min(160, _POINTS_ON_PAGE // max(1, len(curves))))
    x, y = _scales(curves)
    return {(drawn.subject, drawn.attack): _keep(drawn.curve, x, y, cap) for drawn in curves}


def roc_chart(record: AuditRecord) -> Markup:
    """All curves of the record in one picture; those of the strongest attacks are visible, the script shows others."""
    curves = drawn_curves(record)
    kept = kept_points(record)
    x, y = _scales(curves)
    frame = Frame(_WIDTH, _HEIGHT, x, y, "False positive rate", "True positive rate")
    visible = [drawn.curve.resolvable_from for drawn in curves if drawn.strongest]
    parts = [
        tag("defs", _hatching()),
        frame.axes(),
        tag("path", d=_chance(x, y), class_="chance"),
        label("chance", x.at(x.low**0.35) + 10, y.at(x.low**0.35) + 16),
        *_permitted(record, x, y),
        *(_curve(drawn, kept[drawn.subject, drawn.attack], x, y) for drawn in curves),
        _unresolvable(max(visible), x, y),
        tag("path", d=f"M0 {_TOP:g}V{_BOTTOM:g}", id="roc-cursor", class_="cursor off"),
    ]
    names = ", ".join(
        f"{record.subjects[drawn.subject].name} ({drawn.attack_name})" for drawn in curves if drawn.strongest
    )
    return picture(
        "roc-chart",
        "ROC of the attacks, both axes logarithmic",
        f"True positive rate against false positive rate with pointwise bands. Shown at first: {names}. The numbers "
        f"stand in the table under the chart.{_told(record)}",
        _WIDTH,
        _HEIGHT,
        parts,
        data_start=_LEFT,
        data_end=_RIGHT,
        data_low=f"{x.low:g}",
    )


def position(record: AuditRecord, fpr: float) -> float:
    """Horizontal place of a false positive rate in `roc_chart`, for the cursor."""
    return _scales(drawn_curves(record))[0].at(fpr)


def _scales(curves: list[Drawn]) -> tuple[Scale, Scale]:
    from_ = min((drawn.curve.resolvable_from for drawn in curves if drawn.curve.resolvable_from > 0), default=1e-2)
    low = 10.0 ** max(-6, min(-2, math.floor(math.log10(min(from_, 1.0)) + 1e-9) - 1))
    return (
        Scale(low, 1.0, _LEFT, _RIGHT, log=True, name=rate_label),
        Scale(low, 1.0, _BOTTOM, _TOP, log=True, name=rate_label),
    )


def _permitted(record: AuditRecord, x: Scale, y: Scale) -> list[Markup]:
    """A dashed line for each subject with a formal guarantee: no attack may lie above it."""
    lines = []
    for index, subject in enumerate(record.subjects):
        curve = subject.guarantee.numbers and subject.guarantee.numbers.permitted
        if curve:
            inside = [(a, b) for a, b in zip(curve.fpr, curve.tpr) if x.low <= a <= x.high and b >= y.low]
            points = "L".join(f"{x.at(a):g} {y.at(b):g}" for a, b in inside)
            lines.append(tag("path", d=f"M{points}", class_=f"permitted {colour(index)}", data_subject=index))
    return lines


def _told(record: AuditRecord) -> str:
    """The permitted curves, for those who do not see them."""
    names = [s.name for s in record.subjects if s.guarantee.numbers and s.guarantee.numbers.permitted]
    return f" Dashed: the most that the formal guarantee permits any attack, of {', '.join(names)}." if names else ""


def _chance(x: Scale, y: Scale) -> str:
    return f"M{x.start:g} {y.start:g}L{x.end:g} {y.end:g}"


def _curve(drawn: Drawn, kept: list[int], x: Scale, y: Scale) -> Markup:
    curve = drawn.curve
    across = [round(_FINE * x.at(curve.fpr[i])) for i in kept]
    line, upper, lower = (
        [(at, round(_FINE * y.at(heights[i]))) for at, i in zip(across, kept, strict=True)]
        for heights in (curve.tpr, curve.high, curve.low)
    )
    return tag(
        "g",
        tag("path", d=f"{_steps(upper)}{_steps_back(lower)}z", class_="band", transform=f"scale({1 / _FINE})"),
        tag(
            "path", d=_steps(line), class_="line", transform=f"scale({1 / _FINE})", stroke_dasharray=dash(drawn.subject)
        ),
        *_stated(drawn, x, y),
        class_=f"curve {colour(drawn.subject)}" + ("" if drawn.strongest else " off"),
        data_subject=drawn.subject,
        data_attack=drawn.attack,
        data_resolvable=x.at(curve.resolvable_from),
    )


def _stated(drawn: Drawn, x: Scale, y: Scale) -> list[Markup]:
    """A mark with its interval at each rate that the record states."""
    parts: list[Markup] = []
    for finding in drawn.result.findings:
        if finding.name != "tpr_at_fpr" or finding.at is None or finding.value is None or not finding.resolvable:
            continue
        at = x.at(finding.at)
        if finding.low is not None and finding.high is not None:
            parts.append(tag("path", d=f"M{at:g} {y.at(finding.low):g}V{y.at(finding.high):g}", class_="whisker"))
        parts.append(marker(drawn.subject, at, y.at(finding.value)))
    return parts


def _unresolvable(resolvable_from: float, x: Scale, y: Scale) -> Markup:
    edge = x.at(resolvable_from)
    width = max(0.0, edge - x.start)
    zone = tag(
        "rect",
        id="roc-zone",
        x=x.start,
        y=y.end,
        width=width,
        height=y.start - y.end,
        class_="zone",
        data_start=x.start,
    )
    border = tag("path", d=f"M{edge:g} {y.end:g}V{y.start:g}", id="roc-edge", class_="edge")
    return zone + border + label("not resolvable", x.start + 8, y.end + 20, kind="note strong")


def _hatching() -> Markup:
    stripe = tag("path", d="M0 0V8", class_="hatch")
    return tag(
        "pattern", stripe, id="hatch", width=8, height=8, patternUnits="userSpaceOnUse", patternTransform="rotate(45)"
    )


def _keep(curve: Curve, x: Scale, y: Scale, cap: int) -> list[int]:
    kept: list[int] = []
    for i in range(len(curve.fpr)):
        if i == len(curve.fpr) - 1 or not kept or _moved(curve, kept[-1], i, x, y):
            kept.append(i)
    if len(kept) <= cap:
        return kept
    return [kept[round(j * (len(kept) - 1) / (cap - 1))] for j in range(cap)]


def _moved(curve: Curve, before: int, after: int, x: Scale, y: Scale) -> bool:
    if abs(x.at(curve.fpr[after]) - x.at(curve.fpr[before])) >= 1:
        return True
    return any(abs(y.at(line[after]) - y.at(line[before])) >= 1 for line in (curve.tpr, curve.low, curve.high))


def _steps(points: list[tuple[int, int]]) -> str:
    """A line that runs to the right first and rises there: nothing is drawn between two rates as if it were reached."""
    moves = ((x1 - x0, y1 - y0) for (x0, y0), (x1, y1) in pairwise(points))
    return f"M{points[0][0]} {points[0][1]}" + "".join(_move("h", dx) + _move("v", dy) for dx, dy in moves)


def _steps_back(points: list[tuple[int, int]]) -> str:
    """The same steps from the last point to the first, to close a band."""
    back = points[::-1]
    moves = ((x1 - x0, y1 - y0) for (x0, y0), (x1, y1) in pairwise(back))
    return f"L{back[0][0]} {back[0][1]}" + "".join(_move("v", dy) + _move("h", dx) for dx, dy in moves)


def _move(letter: str, by: int) -> str:
    return f"{letter}{by}" if by else ""
