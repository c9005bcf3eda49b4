"""SVG text: elements with escaped attributes, and the frame that every chart shares."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from markupsafe import Markup, escape

from sfumato.report.charts.scale import Scale


def tag(name: str, *children: str, **attributes: object) -> Markup:
    """One element. Plain text is escaped; `class_` writes class, `a_b` writes a-b; None is left out."""
    pairs = Markup("").join(
        Markup(' {}="{}"').format(key.rstrip("_").replace("_", "-"), _short(value))
        for key, value in attributes.items()
        if value is not None
    )
    body = Markup("").join(escape(child) for child in children)
    return Markup("<{0}{1}>{2}</{0}>").format(Markup(name), pairs, body)


def _short(value: object) -> object:
    return f"{value:.1f}".rstrip("0").rstrip(".") if isinstance(value, float) else value


@dataclass(frozen=True)
class Frame:
    """The plot area inside a picture of `width` times `height`, with its two scales and their titles.

    Args:
        x: scale over the plot area, left to right.
        y: scale over the plot area, bottom to top.
        x_title: under the horizontal axis.
        y_title: beside the vertical axis.
    """

    width: float
    height: float
    x: Scale
    y: Scale
    x_title: str
    y_title: str

    def axes(self) -> Markup:
        """Grid, tick labels and axis titles."""
        bottom, left = self.y.start, self.x.start
        middle = (self.y.start + self.y.end) / 2
        parts: list[str] = [
            *(self._vertical(value, bottom) for value in self.x.ticks()),
            *(self._horizontal(value, left) for value in self.y.ticks()),
            tag("path", d=f"M{left:g} {self.y.end:g}V{bottom:g}H{self.x.end:g}", class_="axis"),
            _text(self.x_title, (left + self.x.end) / 2, self.height - 8, "middle", "title"),
            upright(self.y_title, middle),
        ]
        return Markup("").join(parts)

    def _vertical(self, value: float, bottom: float) -> Markup:
        x = self.x.at(value)
        line = tag("path", d=f"M{x:.1f} {self.y.end:g}V{bottom:g}", class_="grid")
        return line + _text(self.x.name(value), x, bottom + 24, "middle", "tick")

    def _horizontal(self, value: float, left: float) -> Markup:
        y = self.y.at(value)
        line = tag("path", d=f"M{left:g} {y:.1f}H{self.x.end:g}", class_="grid")
        return line + _text(self.y.name(value), left - 8, y + 5, "end", "tick")


def _text(content: str, x: float, y: float, anchor: str, kind: str) -> Markup:
    if not content:  # axes whose ticks or titles stand at another chart
        return Markup("")
    return tag("text", content, x=float(x), y=float(y), text_anchor=anchor, class_=kind)


def upright(content: str, middle: float) -> Markup:
    """The title of a vertical axis, at the left edge; nothing for no title."""
    if not content:
        return Markup("")
    turned = f"translate(17 {middle:g}) rotate(-90)"
    return tag("text", content, x=0, y=0, transform=turned, text_anchor="middle", class_="title")


def label(content: str, x: float, y: float, anchor: str = "start", kind: str = "note") -> Markup:
    """A piece of text inside a chart."""
    return _text(content, x, y, anchor, kind)


def picture(
    key: str, title: str, description: str, width: float, height: float, children: Iterable[str], **data: object
) -> Markup:
    """The `<svg>` with its name and description for those who do not see it; `key` is unique on the page."""
    return tag(
        "svg",
        tag("title", title),
        tag("desc", description, id=f"{key}-desc"),
        *children,
        id=key,
        class_="chart",
        role="img",
        aria_label=title,
        aria_describedby=f"{key}-desc",
        viewBox=f"0 0 {width:g} {height:g}",
        **data,
    )
