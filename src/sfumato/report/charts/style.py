"""How a subject looks in every chart: colour, dash pattern and marker, so that none depends on colour alone."""

from __future__ import annotations

from markupsafe import Markup

from sfumato.report.charts.svg import tag

COLOURS = 8  # `.s0` to `.s7` in report.css
_DASHES = (None, "9 4", "2 3", "12 3 2 3", "5 2", "1 4", "14 5", "7 2 2 2 2 2")
_MARKERS = (
    "M-4.5 0a4.5 4.5 0 1 0 9 0a4.5 4.5 0 1 0-9 0z",
    "M-4-4h8v8h-8z",
    "M0-5.5L5.2 4H-5.2z",
    "M0-6L6 0L0 6L-6 0z",
    "M0 5.5L5.2-4H-5.2z",
    "M-1.6-5h3.2v3.4H5v3.2H1.6V5h-3.2V1.6H-5v-3.2h3.4z",
    "M-3-5.2h6l3 5.2l-3 5.2h-6l-3-5.2z",
    "M-5-2.5h10v5h-10z",
)


def colour(index: int) -> str:
    """Class of the subject at `index`; colours start over after eight, dashes and markers then differ."""
    return f"s{index % COLOURS}"


def dash(index: int) -> str | None:
    """Dash pattern of the subject at `index`; shifts by one each time the colours start over."""
    return _DASHES[(index + index // COLOURS) % len(_DASHES)]


def marker(index: int, x: float, y: float) -> Markup:
    """The subject's mark at a position; its shape stands once per page, in `swatch_symbols`."""
    return tag("use", href=f"#mark-{index}", x=f"{x:g}", y=f"{y:g}")


def swatch_symbols(subjects: int) -> Markup:
    """The drawings that `marker` and `swatch` refer to; once per page."""
    marks = [
        tag("path", d=_MARKERS[(index + index // COLOURS) % len(_MARKERS)], id=f"mark-{index}", class_="mark")
        for index in range(subjects)
    ]
    symbols = [
        tag(
            "symbol",
            tag("path", d="M1 7H29", class_="line", stroke_dasharray=dash(index)),
            marker(index, 15, 7),
            id=f"swatch-{index}",
            viewBox="0 0 30 14",
        )
        for index in range(subjects)
    ]
    return tag("svg", tag("defs", *marks, *symbols), class_="symbols", width=0, height=0, aria_hidden="true")


def swatch(index: int) -> Markup:
    """A short line with the subject's mark, for legends and tables."""
    return tag("svg", tag("use", href=f"#swatch-{index}"), class_=f"swatch {colour(index)}", aria_hidden="true")
