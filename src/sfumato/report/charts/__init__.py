"""Charts as SVG text, made before the page is opened: readable with scripts off, printable, and no library needed."""

from sfumato.report.charts.answers import answers_chart, attacks_asked, marks_needed
from sfumato.report.charts.histogram import histogram_chart
from sfumato.report.charts.plane import plane_chart
from sfumato.report.charts.roc import roc_chart
from sfumato.report.charts.strips import bar_strip, interval_strip, needles_strip
from sfumato.report.charts.style import swatch, swatch_symbols

__all__ = [
    "answers_chart",
    "attacks_asked",
    "bar_strip",
    "marks_needed",
    "needles_strip",
    "histogram_chart",
    "interval_strip",
    "plane_chart",
    "roc_chart",
    "swatch",
    "swatch_symbols",
]
