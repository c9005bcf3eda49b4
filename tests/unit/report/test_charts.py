import math
import re
from itertools import pairwise
from xml.etree import ElementTree

import pytest

from sfumato.report.charts import bar_strip, histogram_chart, interval_strip, needles_strip, plane_chart, roc_chart
from sfumato.report.charts.plane import Placed
from sfumato.report.charts.roc import kept_points, position
from sfumato.report.charts.scale import Scale, around

SPACE = "{http://www.w3.org/2000/svg}"


def parsed(svg):
    return ElementTree.fromstring(str(svg).replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1))


def points(path):
    """Absolute points of a path of M, L, h and v."""
    x = y = 0.0
    found = []
    for letter, numbers in re.findall(r"([MLhvz])([-\d. ]*)", path):
        values = [float(n) for n in numbers.split()]
        if letter in "ML":
            x, y = values
        elif letter == "h":
            x += values[0]
        elif letter == "v":
            y += values[0]
        found.append((x / 2, y / 2))
    return found


def test_scales_put_values_where_they_belong():
    log = Scale(1e-4, 1, 100, 500, log=True)
    assert [log.at(v) for v in (1e-4, 1e-2, 1, 0, 7)] == [100, 300, 500, 100, 500]
    assert log.ticks() == pytest.approx([1e-4, 1e-3, 1e-2, 1e-1, 1])
    linear = Scale(0, 10, 50, 0)
    assert [linear.at(v) for v in (0, 5, 10)] == [50, 25, 0]
    assert linear.ticks() == pytest.approx([0, 2, 4, 6, 8, 10])
    assert around([0.5, 0.5], 0, 1).low < 0.5 < around([0.5, 0.5], 0, 1).high


def test_charts_have_names_and_descriptions(examples):
    record = examples.compare_record()
    subject = record.subjects[0]
    attack = subject.attacks[2]
    placed = [Placed(i, s.name, s.attacks[2].finding("auc"), s.utility[0]) for i, s in enumerate(record.subjects)]
    for svg in (
        roc_chart(record),
        histogram_chart("h", 0, subject.name, subject.vulnerability, 700),
        plane_chart("p", placed),
    ):
        root = parsed(svg)
        assert root.get("role") == "img"
        assert root.get("aria-label") == root.findtext(f"{SPACE}title")
        assert root.find(f"{SPACE}desc").get("id") == root.get("aria-describedby")
        assert len(root.findtext(f"{SPACE}desc")) > 40
        assert len(root.findall(f".//{SPACE}text[@class='title']")) == 2
        assert len(root.findall(f".//{SPACE}text[@class='tick']")) >= 6
    assert attack.name in parsed(roc_chart(record)).findtext(f"{SPACE}desc")


def test_curves_are_steps_through_the_points_of_the_record(examples):
    record = examples.predictions_record()
    curve = record.subjects[0].attacks[0].curve
    root = parsed(roc_chart(record))
    drawn = points(root.find(f".//{SPACE}g/{SPACE}path[@class='line']").get("d"))
    x = Scale(1e-5, 1, 84, 540, log=True)
    y = Scale(1e-5, 1, 402, 14, log=True)
    for i in kept_points(record)[0, 0]:
        at = (x.at(curve.fpr[i]), y.at(curve.tpr[i]))
        assert min(math.dist(at, p) for p in drawn) < 0.8
    moves = [(b[0] - a[0], b[1] - a[1]) for a, b in pairwise(drawn)]
    assert all(dx == 0 or dy == 0 for dx, dy in moves)
    assert all(dx >= 0 for dx, _ in moves)
    first = next(m for m in moves if m != (0, 0))
    assert first[0] > 0  # to the right first: the higher rate is reached only at the next point


def test_zone_ends_where_the_record_says(examples):
    record = examples.compare_record()
    root = parsed(roc_chart(record))
    zone = next(r for r in root.iter(f"{SPACE}rect") if r.get("id") == "roc-zone")
    edge = position(record, record.subjects[0].attacks[0].curve.resolvable_from)
    assert float(zone.get("x")) + float(zone.get("width")) == pytest.approx(edge, abs=0.15)
    assert edge > float(zone.get("x"))


def test_strongest_attacks_are_on_and_others_off(examples):
    root = parsed(roc_chart(examples.compare_record()))
    groups = [g for g in root.iter(f"{SPACE}g") if "curve" in (g.get("class") or "")]
    on = [g.get("data-attack") for g in groups if "off" not in g.get("class").split()]
    assert (len(groups), on) == (9, ["2", "2", "2"])


def test_subjects_differ_by_more_than_colour(examples):
    root = parsed(roc_chart(examples.compare_record()))
    lines = [p for p in root.iter(f"{SPACE}path") if p.get("class") == "line"]
    marks = {u.get("href") for u in root.iter(f"{SPACE}use")}
    assert len({p.get("stroke-dasharray") for p in lines}) == 3
    assert marks == {"#mark-0", "#mark-1", "#mark-2"}


def test_only_points_are_dropped(examples):
    record = examples.large_record()
    for (s, a), kept in kept_points(record).items():
        whole = len(record.subjects[s].attacks[a].curve.fpr)
        assert kept == sorted(set(kept))
        assert (kept[0], kept[-1]) == (0, whole - 1)
        assert len(kept) <= 60


def test_bars_are_as_high_as_their_counts(examples):
    spread = examples.vulnerability(2.0)
    root = parsed(histogram_chart("h", 0, "x", spread, max(spread.counts)))
    heights = [float(r.get("height")) for r in root.iter(f"{SPACE}rect")]
    counts = [n for n in spread.counts if n]
    assert [h / max(heights) for h in heights] == pytest.approx([n / max(counts) for n in counts], abs=0.01)


def test_strips_put_values_between_their_ends():
    strip = parsed(interval_strip(0.6, 0.5, 0.7, (0.4, 0.8), 0.5))
    assert float(strip.find(f"{SPACE}circle").get("cx")) == 70
    assert strip.findall(f"{SPACE}path")[1].get("d") == "M37.5 9H102.5"
    assert parsed(needles_strip([0.8, 0.4], (0.4, 0.8), 0.5)).findall(f"{SPACE}path")[1].get("d") == "M5 4v10M135 4v10"
    ceiling, bar = parsed(bar_strip(1.0, 2.0, 4.0)).findall(f"{SPACE}rect")
    assert (float(ceiling.get("width")), float(bar.get("width"))) == (68, 34)
