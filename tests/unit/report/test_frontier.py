import re
from itertools import pairwise
from xml.etree import ElementTree

import pytest

from sfumato.report.charts.frontier import _apart, frontier_chart
from sfumato.report.frontier_picture import lowest_rate, standalone
from sfumato.report.render import html, markdown
from sfumato.report.sections.frontier import FrontierSection


def section(page):
    return page.partition('data-testid="section-frontier"')[2].partition("</section>")[0]


def test_curves_are_drawn_with_their_names_and_tables(examples):
    text = section(html(examples.frontier_record()))
    assert text.count('data-testid="frontier-chart"') == 2  # 0.1 % cannot be measured: one chart for each group
    for method in ("relaxloss", "dpsgd", "weak"):
        assert f'class="name">{method}</text>' in text
    assert "log scale" in text
    assert "every setting of dpsgd is more accurate" in text
    assert "not reached: all settings are less accurate" in text
    assert "mislabelled" in text
    assert "1.25\u00d7" in text


def test_higher_rates_stand_higher_and_accuracy_runs_to_the_right(examples):
    curve = examples.strength_group("all").curves[:1]
    drawn = str(frontier_chart("k", curve, 0.01, 1e-4))
    places = [(float(x), float(y)) for x, y in re.findall(r'<use href="#mark-0" x="([\d.]+)" y="([\d.]+)"', drawn)]
    assert len(places) == 3
    assert places == sorted(places)
    assert [y for _, y in places] == sorted((y for _, y in places), reverse=True)
    assert places[0][1] - places[1][1] > places[1][1] - places[2][1]  # 20, 40, 60 %: the scale is logarithmic


def test_names_do_not_lie_over_each_other():
    heights = sorted(_apart([100.0, 101.0, 374.0, 374.0, 374.0], 374.0))
    assert all(b - a >= 18 for a, b in pairwise(heights))
    assert heights[-1] <= 374.0


def many_curves(examples, methods):
    whole = examples.strength_group("all")
    curves = [whole.curves[i % len(whole.curves)].model_copy(update={"method": f"m{i}"}) for i in range(methods)]
    return whole.model_copy(update={"curves": curves})


def test_more_methods_than_colours_get_a_panel_each_on_the_same_scales(examples):
    group = many_curves(examples, 10)
    root = ElementTree.fromstring(standalone(group, 0.01, 1e-4))
    texts = [one for one in root.iter("{http://www.w3.org/2000/svg}text") if one.text]
    names = [one for one in texts if one.get("class") == "name"]
    assert [one.text for one in names] == [f"m{i}" for i in range(10)]
    lefts = [float(one.get("x")) for one in names]
    assert lefts[:3] == sorted(set(lefts))
    assert lefts == [lefts[i % 3] for i in range(10)]
    drawn = [one.get("class") for one in root.iter("{http://www.w3.org/2000/svg}path")]
    assert drawn.count("behind") == 9 * 10
    ticks = [one for one in texts if one.get("class") == "tick"]
    rates = [float(one.get("y")) for one in ticks if one.get("text-anchor") == "end"]
    accuracies = [one.text for one in ticks if one.get("text-anchor") == "middle"]
    assert len(rates) % 4 == 0  # once in each of four rows
    assert len(set(rates)) == len(rates)
    assert accuracies == accuracies[: len(accuracies) // 3] * 3  # once under each column


def test_a_setting_stands_in_its_panel_where_its_line_says(examples):
    group = many_curves(examples, 10)
    text = standalone(group, 0.01, 1e-4)
    marks = re.findall(r'<use href="#mark-0" x="([\d.]+)" y="([\d.]+)"', text)[1:]  # the first is the legend's
    lines = re.findall(r'd="M([\d.L ]+)" class="line"><', text)
    on_lines = [tuple(corner.split()) for line in lines for corner in line.split("L")]
    alone = sum(len(curve.points) == 1 for curve in group.curves)
    assert len(marks) == len(on_lines) + alone
    assert set(on_lines) <= set(marks)
    first = [float(x) for x, _ in marks[:3]]
    assert first == sorted(first)


def test_as_many_methods_as_colours_share_one_plot(examples):
    text = standalone(many_curves(examples, 8), 0.01, 1e-4)
    assert 'class="behind"' not in text
    assert text.count('class="leader"') == 8


def test_rates_of_zero_are_drawn_at_the_edge(examples):
    group = examples.strength_group("all")
    zero = examples.strength_point("z", 1, 0.9, 0.0)
    curve = group.curves[0].model_copy(update={"points": [zero]})
    assert frontier_chart("k", [curve], 0.01, 1e-4) is not None
    assert frontier_chart("k", [curve], 0.001, 1e-4) is None


def test_a_record_without_strengths_says_so(examples):
    assert "METHOD@STRENGTH" in section(html(examples.compare_record()))
    assert "no curve is drawn" in markdown(examples.compare_record())


def test_markdown_has_the_same_numbers(examples):
    record = examples.frontier_record()
    text = markdown(record)
    shown = FrontierSection().context(record)["groups"][0]
    for row in shown.points:
        assert row.accuracy.text in text
    assert "| dpsgd | relaxloss | 92.5" in text.replace("\u00a0", " ")


def test_that_the_worst_kind_was_chosen_is_said_where_there_are_kinds(examples):
    record = examples.frontier_record()
    for text in (section(html(record)), markdown(record)):
        assert text.count("that of its kind by itself") == 1
        assert "strongest attack on each setting, chosen on the same scores" in text


def test_markdown_tables_have_no_blank_lines_inside(examples):
    lines = markdown(examples.frontier_record()).splitlines()
    for before, blank, after, ruled in zip(lines, lines[1:], lines[2:], [*lines[3:], ""], strict=False):
        if before.startswith("|") and not blank and after.startswith("|"):
            assert ruled.startswith("|---")  # another table begins
    ruled = [i for i, line in enumerate(lines) if line.startswith("|---")]
    assert len(ruled) >= 10
    assert any(
        "| dpsgd | relaxloss | 92.5 % | not measured | \u221231.0 points" in line.replace("\u00a0", " ")
        for line in lines
    )
    assert all(lines[i - 1].count("|") == lines[i].count("|") for i in ruled)


@pytest.mark.parametrize("many", [70])
def test_many_differences_are_left_to_the_record(examples, many):
    record = examples.frontier_record()
    group = record.frontier.groups[0]
    more = group.model_copy(update={"differences": group.differences[:1] * many})
    record = record.model_copy(update={"frontier": record.frontier.model_copy(update={"groups": [more]})})
    assert "10 more pairs" in section(html(record))


def test_what_was_tuned_and_on_which_units_is_told(examples):
    for text in (section(html(examples.frontier_record())), markdown(examples.frontier_record())):
        assert "alpha=0.3" in text
        assert "1 setting of a grid of 2, 1 passed over as of no use" in text
        assert "fitted on 70 units, judged on 20, none attacked" in text
        assert "None was within the tolerance." in text


def test_a_picture_of_its_own_is_one_well_formed_file(examples):
    record = examples.frontier_record()
    text = standalone(record.frontier.groups[0], 0.01, lowest_rate(record))
    root = ElementTree.fromstring(text)
    assert root.tag.endswith("svg")
    assert "prefers-color-scheme: dark" in text
    assert "http" not in text.replace("http://www.w3.org/2000/svg", "")
    assert standalone(record.frontier.groups[0], 0.001, lowest_rate(record)) is None
