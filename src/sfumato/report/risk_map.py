"""From a risk map to one HTML page, to Markdown, and to pictures that stand by themselves."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from markupsafe import Markup

from sfumato.atomic import write_atomic
from sfumato.audit.probing.risk_map import MEANING, Effect, MappedRegion, RiskMap, Whole
from sfumato.audit.probing.settings import TOLD
from sfumato.audit.record import Finding
from sfumato.report.charts import swatch_symbols
from sfumato.report.charts.regions import WIDTH, chart_height, drawn_measures, regions_chart
from sfumato.report.charts.svg import tag
from sfumato.report.markdown_text import escape_markdown, fenced
from sfumato.report.page import chart_style, page_parts
from sfumato.report.render import html_environment
from sfumato.report.wording import Shown, count, label, shown

RECONSTRUCTION = (
    "The measurement behind PPTP as we reconstruct it: the published way to find regions is not known to us (inspired "
    "by 2602.02296, not a reproduction)."
)


class Line(NamedTuple):
    """One row of a table: how it is called, how many values it is about, and its numbers."""

    name: str
    values: str
    how: str
    cells: list[Shown | None]
    position: int


def html(risk_map: RiskMap) -> str:
    """One self-contained page: no request, no network, readable with scripts off."""
    template = html_environment().get_template("risk_map.html")
    return template.render(
        map=risk_map,
        page=page_parts(),
        charts=_charts(risk_map),
        columns=columns(risk_map),
        wholes=whole_lines(risk_map),
        lines=effect_lines(risk_map),
        told=TOLD,
        meaning=MEANING,
        reconstruction=RECONSTRUCTION,
        symbols=swatch_symbols(max(1, len(risk_map.operations))),
    )


def markdown(risk_map: RiskMap, pictures: list[str] | None = None) -> str:
    """The same tables as Markdown; `pictures` are the paths that it shows."""
    say = escape_markdown
    head = [f"# {say(risk_map.title)}", "", say(RECONSTRUCTION), "", say(MEANING), ""]
    shown_pictures = [line for path in pictures or [] for line in (f"![{say(risk_map.title)}]({path})", "")]
    command = [fenced(risk_map.provenance.command, "console"), ""] if risk_map.provenance.command else []
    first = _table(
        ["Network", *columns(risk_map)], [[one.name, *map(_text, one.cells)] for one in whole_lines(risk_map)]
    )
    carried = [f"{name} carried" for name in columns(risk_map)]
    rows = [[one.name, one.values, one.how, *map(_text, one.cells)] for one in effect_lines(risk_map)]
    second = _table(["Region", "Values", "Treated", *carried], rows)
    refused = [f"- Not done: {say(one.attack)}. {say(' '.join(one.reasons))}" for one in risk_map.not_run]
    notices = [f"- {say(one.text)} {say(one.remedy)}" for one in risk_map.notices]
    end = ["", say(f"{_scale(risk_map)} {_ranking(risk_map)}"), ""]
    parts = [*head, *command, *shown_pictures, *first, "", *second, *end, *refused, *notices]
    return "\n".join(map(str, parts)).rstrip("\n") + "\n"


def write(risk_map: RiskMap, folder: Path, name: str = "map") -> dict[str, Path]:
    """Write NAME.json, NAME.html, NAME.md and NAME-MEASURE.svg into `folder`; each file atomically.

    Returns:
        The path of each: "map", "page", "as Markdown" and "picture".
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    drawn = [f"{name}-{measure.replace('_at_fpr', '')}.svg" for measure, _ in drawn_measures(risk_map)]
    for file, (measure, at) in zip(drawn, drawn_measures(risk_map), strict=True):
        write_atomic(folder / file, standalone(risk_map, measure, at).encode())
    texts = {"page": (f"{name}.html", html(risk_map)), "as Markdown": (f"{name}.md", markdown(risk_map, drawn))}
    for file, text in texts.values():
        write_atomic(folder / file, text.encode())
    saved = risk_map.save(folder / f"{name}.json")
    return {"map": saved, **{key: folder / file for key, (file, _) in texts.items()}, "picture": folder / drawn[0]}


def standalone(risk_map: RiskMap, measure: str, at: float | None = None) -> str:
    """One picture as an SVG file, light or dark as its reader is; colours and marks are explained in it."""
    chart = regions_chart("regions", risk_map, measure, at)
    height = chart_height(risk_map)
    keys = [
        tag("g", tag("use", href=f"#swatch-{i}", x=128, y=i * 20 + 8, width=30, height=14),
            tag("text", TOLD[operation], x=166, y=i * 20 + 20), class_=f"chart s{i}")
        for i, operation in enumerate(risk_map.operations)
    ]  # fmt: skip
    legend = 20 * len(keys) + 16
    body = [
        tag("style", chart_style()),
        tag("rect", width="100%", height="100%", style="fill:var(--paper)"),
        swatch_symbols(max(1, len(keys))),
        *keys,
        tag("svg", chart, y=legend, width=WIDTH, height=height),
    ]
    whole = tag("svg", *body, viewBox=f"0 0 {WIDTH:g} {legend + height:g}", xmlns="http://www.w3.org/2000/svg")
    return f"{whole}\n"


def columns(risk_map: RiskMap) -> list[str]:
    """What is measured: accuracy first, then the measures of risk."""
    return [label("accuracy"), *(label(one.name, one.at) for one in risk_map.ordinary.risk if _shared(one, risk_map))]


def whole_lines(risk_map: RiskMap) -> list[Line]:
    """The two networks in which nothing was treated."""
    return [_whole_line(one, risk_map) for one in (risk_map.ordinary, risk_map.defended)]


def effect_lines(risk_map: RiskMap) -> list[Line]:
    """Every region and what was done to it."""
    return [
        _effect_line(region, effect, risk_map)
        for region in risk_map.regions
        for effect in risk_map.effects
        if effect.region == region.name
    ]


def _whole_line(one: Whole, risk_map: RiskMap) -> Line:
    name = one.name if not one.defence.name or one is risk_map.ordinary else f"{one.name} ({one.defence.name})"
    risk = [next((f for f in one.risk if _same(f, other)), None) for other in _measures(risk_map)]
    return Line(name, "", "", [shown(one.accuracy), *(None if f is None else shown(f) for f in risk)], 0)


def _effect_line(region: MappedRegion, effect: Effect, risk_map: RiskMap) -> Line:
    risk = [effect.carried(other.name, other.at) for other in _measures(risk_map)]
    cells = [shown(effect.accuracy_carried, "accuracy"), *(None if f is None else shown(f, f.name) for f in risk)]
    position = risk_map.operations.index(effect.operation)
    return Line(region.name, count(region.count), TOLD.get(effect.operation, effect.operation), cells, position)


def _measures(risk_map: RiskMap) -> list[Finding]:
    return [one for one in risk_map.ordinary.risk if _shared(one, risk_map)]


def _shared(one: Finding, risk_map: RiskMap) -> bool:
    """Whether a difference is known by this name, too."""
    return not risk_map.effects or any(_same(one, other) for other in risk_map.effects[0].risk_carried)


def _same(one: Finding, other: Finding) -> bool:
    return (one.name, one.at) == (other.name, other.at)


def _charts(risk_map: RiskMap) -> list[Markup]:
    return [regions_chart(f"regions-{i}", risk_map, *one) for i, one in enumerate(drawn_measures(risk_map))]


def _scale(risk_map: RiskMap) -> str:
    data, settings = risk_map.data, risk_map.settings
    return (
        f"{data.name}: {count(data.records)} records, {risk_map.network}, {risk_map.models} models of each variant, "
        f"{risk_map.task.get('epochs', '?')} epochs, {settings.get('epochs', '?')} to tune a region."
    )


def _ranking(risk_map: RiskMap) -> str:
    ranking = risk_map.ranking
    done = TOLD.get(ranking.operation, ranking.operation)
    return f"Regions are ranked by {label(ranking.measure)} and accuracy carried when {done}. {ranking.rule}"


def _text(cell: Shown | None) -> str:
    return "not measured" if cell is None else cell.text


def _table(head: list[str], rows: list[list[str]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return [
        "| " + " | ".join(str(escape_markdown(cell)) if cell != "---" else cell for cell in line) + " |"
        for line in lines
    ]
