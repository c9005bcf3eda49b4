"""How the risk is spread over units: counts of per-unit AUC, or of per-unit TPR."""

from __future__ import annotations

from markupsafe import Markup

from sfumato.audit.record import UnitRates, Vulnerability
from sfumato.report.charts.scale import Scale
from sfumato.report.charts.style import colour
from sfumato.report.charts.svg import Frame, label, picture, tag
from sfumato.report.wording import count

_WIDTH, _HEIGHT = 460, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 70.0, 440.0, 14.0, 232.0
_CHANCE = 0.5


def histogram_chart(key: str, index: int, name: str, spread: Vulnerability | UnitRates, top: int) -> Markup:
    """Bars for one subject; `edges` has one entry more than `counts`, `top` (above 0) is the height of the picture."""
    measure, guess = ("TPR", spread.at) if isinstance(spread, UnitRates) else ("AUC", _CHANCE)
    x = Scale(spread.edges[0], spread.edges[-1], _LEFT, _RIGHT, name=lambda value: f"{value:g}")
    y = Scale(0, 1.15 * top, _BOTTOM, _TOP, name=lambda value: count(round(value)))
    frame = Frame(_WIDTH, _HEIGHT, x, y, f"{measure} of one unit, over models", "Units")
    bars = [
        tag("rect", x=x.at(low), y=y.at(n), width=x.at(high) - x.at(low), height=_BOTTOM - y.at(n), class_="bar")
        for low, high, n in zip(spread.edges, spread.edges[1:], spread.counts)
        if n
    ]
    chance = x.at(guess)
    told = "; ".join(
        f"{low:g} to {high:g}: {n}" for low, high, n in zip(spread.edges, spread.edges[1:], spread.counts) if n
    )
    parts = [
        frame.axes(),
        tag("g", *bars, class_=colour(index)),
        tag("path", d=f"M{chance:g} {_TOP:g}V{_BOTTOM:g}", class_="chance"),
        label("chance", chance + 5, _TOP + 14),
    ]
    return picture(key, f"Risk by unit: {name}", f"Units by {measure}. {told}.", _WIDTH, _HEIGHT, parts)
