"""The curves of a record as an SVG file of its own, light or dark as its reader is."""

from __future__ import annotations

from sfumato.audit.curves import GroupFrontier
from sfumato.audit.record import AuditRecord
from sfumato.report.charts.frontier import WIDTH, chart_height, frontier_chart
from sfumato.report.charts.style import swatch_symbols
from sfumato.report.charts.svg import tag
from sfumato.report.page import chart_style


def lowest_rate(record: AuditRecord) -> float:
    """The least rate that a chart tells from 0: one score among all."""
    return 1 / max(1, record.data.game_units * record.design.targets)


def standalone(group: GroupFrontier, fpr: float, lowest: float) -> str | None:
    """One picture; None where no point has a TPR at this rate. See `charts.frontier.frontier_chart`."""
    chart = frontier_chart("frontier", group.curves, fpr, lowest)
    if chart is None:
        return None
    height = chart_height(group.curves)
    body = [
        tag("style", chart_style()),
        tag("rect", width="100%", height="100%", style="fill:var(--paper)"),
        swatch_symbols(len(group.curves)),
        tag("svg", chart, width=WIDTH, height=height),
    ]
    return f"{tag('svg', *body, viewBox=f'0 0 {WIDTH:g} {height:g}', xmlns='http://www.w3.org/2000/svg')}\n"
