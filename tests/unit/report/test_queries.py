import re
from xml.etree import ElementTree

import pytest

from sfumato.audit.measured import NOISE_ONLY
from sfumato.report.charts import answers_chart, attacks_asked, marks_needed
from sfumato.report.render import html, markdown, model_card
from sfumato.report.sections.queries import QueriesSection

SPACE = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def random(examples):
    return examples.random_record().subjects[1]


def parsed(svg):
    return ElementTree.fromstring(str(svg).replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1))


def places(svg, index):
    """Places of one attack's marks: (across, up), as drawn."""
    group = [g for g in parsed(svg).findall(f"{SPACE}g") if g.get("class") == f"s{index}"]
    return [(float(use.get("x")), float(use.get("y"))) for use in group[0].findall(f"{SPACE}use")]


def test_a_line_rises_with_the_number_of_answers_on_a_logarithmic_axis(random):
    marks = places(answers_chart("c", random.query_risk, "auc"), 1)
    assert len(marks) == 4  # 1, 4 and 16 answers, and the weights
    across, up = zip(*marks, strict=True)
    assert across[1] - across[0] == pytest.approx(across[2] - across[1], abs=0.3)  # equal ratios
    assert across[3] > across[2] + 20
    assert up[0] > up[1] > up[2] > up[3]  # pictures count downwards


def test_what_the_weights_give_is_the_highest_of_all_ways(random):
    marks = places(answers_chart("c", random.query_risk, "auc"), 1)
    lira = {r.noise: r for r in random.query_risk if r.attack == "lira-online"}
    no_noise, common = lira["off"], lira["common"]
    assert no_noise.finding("auc").value > common.finding("auc").value
    alone = [r for r in random.query_risk if r is not common]
    assert places(answers_chart("c", alone, "auc"), 1) == marks
    assert places(answers_chart("c", random.query_risk, "auc"), 2)[0][0] > 390  # an attack that only weights allow


def test_groups_and_other_averages_are_not_in_the_line(random):
    plain = [r for r in random.query_risk if r.group == "all" and r.average == "statistic"]
    assert answers_chart("c", plain, "auc") == answers_chart("c", random.query_risk, "auc")


def test_intervals_and_ticks_are_those_of_the_record(random):
    svg = answers_chart("c", random.query_risk, "tpr_at_fpr", 0.01)
    ticks = [t.text for t in parsed(svg).findall(f"{SPACE}text") if t.get("class") == "tick"]
    assert {"1", "4", "16", "weights"} <= set(ticks)
    told = parsed(svg).findtext(f"{SPACE}desc")
    assert "lira-online: 1: " in told
    assert "weights: " in told
    drawn = len(re.findall('class="whisker"', str(svg)))
    assert drawn == 3 + 3 + 1 + 1  # two lines, two with the weights


def test_what_was_not_resolved_is_not_drawn(random):
    assert answers_chart("c", random.query_risk, "tpr_at_fpr", 1e-5) is None
    assert answers_chart("c", [], "auc") is None
    only_weights = [r for r in random.query_risk if r.threat == "released weights"]
    assert answers_chart("c", only_weights, "auc") is None
    once = [r for r in random.query_risk if r.k == 1 and r.group == "all"]
    assert answers_chart("c", once, "auc") is not None


def test_every_mark_of_a_chart_is_drawn_once_on_the_page(examples, random):
    many = [r.model_copy(update={"attack": f"attack {i}"}) for i, r in enumerate(random.query_risk[:12])]
    record = examples.random_record()
    crowded = record.model_copy(update={"subjects": [random.model_copy(update={"query_risk": many})]})
    assert marks_needed(crowded) == 12 == len(attacks_asked(many))
    assert marks_needed(examples.compare_record()) == 3
    page = html(crowded)
    assert page.count('id="mark-11"') == 1
    assert set(re.findall(r'href="#(mark-\d+)"', page)) <= set(re.findall(r'id="(mark-\d+)"', page))


@pytest.mark.parametrize("render", [html, markdown, model_card])
def test_three_threat_models_stand_side_by_side(examples, random, render):
    text = render(examples.random_record()).replace("\u00a0", " ")
    assert NOISE_ONLY in text
    for heading in ("One query", "Many queries", "Released weights"):
        assert heading in text
    assert "lira-online, 16 answers" in text
    assert "gradient-norm, noise off" in text
    assert "undefended: the same record always gets the same answer, so one query is all there is." in text


def test_the_strongest_of_each_threat_model_is_shown_with_its_interval(examples):
    (shown,) = QueriesSection().context(examples.random_record())["randoms"]
    all_units, mislabelled = shown.groups
    assert [best.how for best in all_units.threats] == [
        "loss, one answer", "lira-online, 16 answers", "gradient-norm, noise off",
    ]  # fmt: skip
    assert all(best.auc.interval and best.tpr.interval for best in all_units.threats)
    assert mislabelled.name == "canary=mislabelled"
    assert mislabelled.threats[2].how == ""  # nobody tried: said, not skipped
    assert "not tried" in html(examples.random_record())


def test_accuracies_stand_side_by_side(examples):
    text = re.sub(r"<[^>]+>", "", html(examples.random_record())).replace("\u00a0", " ")
    found = re.search(r"Accuracy on records outside each training set: .*", text)[0]
    for name in ("one draw 94.0 %", "mean of 16 draws 95.8 %", "drift alone 96.0 %"):
        assert name in " ".join(found.split())
    assert "Accuracy, drift alone" in text  # the column of the utility table


def test_a_random_subject_that_was_not_asked_again_is_told_as_noise(examples, random):
    bare = random.model_copy(update={"query_risk": []})
    record = examples.random_record().model_copy(update={"subjects": [bare]})
    for render in (html, markdown):
        text = render(record)
        assert NOISE_ONLY in text
        assert "no attack was tried in several ways" in text


def test_where_it_is_not_known_the_page_says_so(examples):
    text = markdown(examples.compare_record())
    assert "Whether answers are random is not known for undefended, label-smoothing, mixup." in text
    assert NOISE_ONLY not in text


def test_with_many_subjects_the_page_prints_the_leading_attacks_and_counts_the_others(examples, random):
    others = [r.model_copy(update={"attack": f"weak {i}", "k": k + 1, "findings": random.query_risk[0].findings})
              for i in range(9) for k, r in enumerate(random.query_risk[:3])]  # fmt: skip
    large = random.model_copy(update={"query_risk": [*random.query_risk, *others]})
    record = examples.random_record()
    several = [large.model_copy(update={"name": f"sde {i}"}) for i in range(8)]
    page = html(record.model_copy(update={"subjects": several}))
    assert len(page.encode()) < 500_000
    shown = QueriesSection().context(record.model_copy(update={"subjects": several}))["randoms"][0]
    assert {way.row.attack for way in shown.ways} == {"loss", "lira-online", "gradient-norm"}
    everyones = [r for r in large.query_risk if r.group == "all"]
    assert shown.left_out == len(everyones) - len(shown.ways) > 0
    assert f"{shown.left_out} more rows of other attacks" in page
    alone = QueriesSection().context(record.model_copy(update={"subjects": several[:1]}))["randoms"][0]
    assert alone.left_out == 0


def test_the_headline_is_what_the_strongest_way_of_asking_found(examples, random):
    text = markdown(examples.random_record())
    assert "gradient-norm, noise off" in text.partition("## 2.")[0]
