import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser

import pytest

from sfumato.audit.measured import Finding, NotRun
from sfumato.audit.probing.risk_map import Effect, MappedRegion, RiskMap, Whole, ranked
from sfumato.audit.record import DataSummary, DefenceSummary, Provenance
from sfumato.report.risk_map import effect_lines, html, markdown, standalone, write

EVIL = '<script>alert("x")</script> | `a`'


def rate(value: float | None, name: str = "accuracy", at: float | None = None) -> Finding:
    ends = (None, None) if value is None else (value - 0.05, value + 0.05)
    return Finding(name=name, value=value, low=ends[0], high=ends[1], at=at, resolvable=value is not None, note="few")


def effect(region: str, operation: str, risk: float) -> Effect:
    measures = [
        rate(risk, "loss-difference"),
        rate(risk, "auc"),
        rate(risk, "tpr_at_fpr", 0.01),
        rate(None, "tpr_at_fpr", 0.001),
    ]
    return Effect(
        region=region, operation=operation, accuracy=rate(0.7), risk=measures,
        accuracy_carried=rate(0.02), risk_carried=measures,
    )  # fmt: skip


def whole(name: str) -> Whole:
    measures = [
        rate(0.4, "loss-difference"),
        rate(0.6, "auc"),
        rate(0.1, "tpr_at_fpr", 0.01),
        rate(None, "tpr_at_fpr", 0.001),
    ]
    defence = DefenceSummary(name=name, family="none", reference="")
    return Whole(name=name, defence=defence, accuracy=rate(0.8), risk=measures)


@pytest.fixture
def risk_map() -> RiskMap:
    regions = [MappedRegion(name=n, parameters=[f"{n}.weight"], count=1200) for n in ("stem", EVIL)]
    effects = [effect(r.name, o, 0.05 * (i + 1)) for i, r in enumerate(regions) for o in ("transplant", "freeze")]
    return RiskMap(
        title=EVIL,
        data=DataSummary(name="made up", kind="table", records=60, units=60, unit="example", classes=3, shape=[6],
                         fingerprint="f", game_units=60, public_units=0),
        network="mlp", models=4, regions=regions, ordinary=whole("ordinary"), defended=whole("defended"),
        effects=effects, ranking=ranked(regions, effects), not_run=[NotRun(attack="rewind", reasons=[EVIL])],
        settings={"epochs": 2}, task={"epochs": 3},
        provenance=Provenance(created="2026", command="sfumato probe x", seed=0, seconds=1.0, versions={}, machine={}),
    )  # fmt: skip


def test_a_picture_is_well_formed_and_stands_by_itself(risk_map):
    for measure, at in (("auc", None), ("tpr_at_fpr", 0.01)):
        root = ElementTree.fromstring(standalone(risk_map, measure, at))
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        marks = [node for node in root.iter() if (node.get("href") or "").startswith("#mark-")]
        known = {node.get("id") for node in root.iter()}
        assert all(node.get("href")[1:] in known for node in root.iter() if node.get("href"))
        legend = 2  # a mark in each drawn swatch
        assert len(marks) == legend + 2 * len(risk_map.effects)
        style = next(node.text for node in root.iter() if node.tag.endswith("style"))
        assert "prefers-color-scheme: dark" in style
        assert ".whisker" in style
        assert "http" not in style


def test_marks_stand_where_the_values_are(risk_map):
    text = standalone(risk_map, "auc")
    xs, ys = {}, []
    for operation, x, y in re.findall(r'<use href="#mark-(\d)" x="([\d.]+)" y="([\d.]+)"', text):
        xs.setdefault(operation, []).append(float(x))
        ys += [float(y)] if 128 < float(x) < 450 else []
    assert sorted(set(ys)) == ys, "one line for each effect, downwards in the order of the network"
    left, right = sorted(x for x in xs["0"] if 128 < x < 450), sorted(x for x in xs["0"] if x > 484)
    assert len(set(left)) == 1, "both regions carry two points of accuracy"
    assert len(set(right)) == 2, "and different risk"


def test_values_that_were_not_resolved_are_not_drawn(risk_map):
    nothing = standalone(risk_map, "tpr_at_fpr", 0.001)
    assert len(re.findall(r'<use href="#mark-\d"', nothing)) == 2 + len(risk_map.effects)
    assert "not resolvable" in markdown(risk_map) or "not measured" in markdown(risk_map)


class Balanced(HTMLParser):
    """Whether every element that must be closed is."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag, attrs):
        if tag not in ("meta", "link", "br", "input"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_is_whole_and_text_of_others_stays_text(risk_map):
    page = html(risk_map)
    parser = Balanced()
    parser.feed(page)
    assert parser.open == []
    assert "<script>alert" not in page
    assert "default-src &#39;none&#39;" in page
    assert page.count('class="chart"') == 2
    assert "not a reproduction" in page
    assert "http://" not in page.replace("http://www.w3.org", "").replace("http:%2F%2F", "")


def test_markdown_has_a_row_for_every_effect(risk_map):
    text = markdown(risk_map, ["map-auc.svg"])
    assert "<script>" not in text
    assert "](map-auc.svg)" in text
    rows = [line for line in text.splitlines() if line.startswith("| stem")]
    assert len(rows) == 2
    assert "+2.0 points (−3.0 to +7.0 points)" in rows[0].replace("\u00a0", " ")
    assert "Not done: rewind" in text
    assert len({line.count(" | ") for line in text.splitlines() if line.startswith("| stem")}) == 1


def test_lines_follow_the_network(risk_map):
    assert [(line.name, line.position) for line in effect_lines(risk_map)] == [
        ("stem", 0), ("stem", 1), (EVIL, 0), (EVIL, 1),
    ]  # fmt: skip


def test_everything_is_written(risk_map, tmp_path):
    files = write(risk_map, tmp_path / "out", "mine")
    assert {key: path.name for key, path in files.items()} == {
        "map": "mine.json", "page": "mine.html", "as Markdown": "mine.md", "picture": "mine-auc.svg",
    }  # fmt: skip
    assert RiskMap.load(files["map"]) == risk_map
    names = {path.name for path in files["map"].parent.iterdir()}
    assert names == {"mine.json", "mine.html", "mine.md", "mine-auc.svg", "mine-tpr.svg"}
    assert set(re.findall(r"\]\((.*?)\)", files["as Markdown"].read_text())) == {"mine-auc.svg", "mine-tpr.svg"}
