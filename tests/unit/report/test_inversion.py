import re
from xml.etree import ElementTree

import pytest

from sfumato.audit.inverted import InversionResult
from sfumato.audit.measured import Finding
from sfumato.report.charts.inversion import Bounded, Placed, bounds_chart, inversion_chart
from sfumato.report.render import html, markdown, model_card, sections
from sfumato.report.sections.inversion import InversionSection, headline_measure
from sfumato.report.wording import is_rate, label

SPACE = "{http://www.w3.org/2000/svg}"


def parsed(svg):
    return ElementTree.fromstring(str(svg).replace("<svg", '<svg xmlns="http://www.w3.org/2000/svg"', 1))


def finding(value, half=0.05, **more):
    return Finding(name="x", value=value, low=value - half, high=value + half, **more)


def marks(svg):
    """(subject, x, y) of every mark."""
    found = re.findall(r'href="#mark-(\d+)" x="([\d.]+)" y="([\d.]+)"', str(svg))
    return [(int(i), float(x), float(y)) for i, x, y in found]


PLACED = [
    Placed(0, "undefended", None, finding(0.9), finding(0.1)),
    Placed(1, "dpsgd@1", 1.0, finding(0.2), finding(0.1)),
    Placed(2, "dpsgd@8", 8.0, finding(0.5), finding(0.1)),
    Placed(3, "nls", None, finding(0.8), None),
]


def test_epsilon_rises_to_the_right_and_no_guarantee_stands_apart():
    svg = inversion_chart("c", "t", "identified", PLACED)
    by_subject = {i: (x, y) for i, x, y in marks(svg)}
    assert by_subject[1][0] < by_subject[2][0] < by_subject[0][0] < by_subject[3][0]
    assert by_subject[0][1] < by_subject[2][1] < by_subject[1][1]  # pictures count downwards
    assert by_subject[0][0] > 340
    ticks = {t.text for t in parsed(svg).findall(f"{SPACE}text") if t.get("class") == "tick"}
    assert {"1", "5", "no guarantee"} <= ticks


def test_controls_are_bands_behind_their_points():
    svg = inversion_chart("c", "t", "identified", PLACED)
    groups = parsed(svg).findall(f"{SPACE}g")
    bands = [g.find(f"{SPACE}rect") for g in groups]
    assert [band is not None for band in bands] == [True, True, True, False]
    across = {i: x for i, x, _ in marks(svg)}
    for index in range(3):
        left, width = float(bands[index].get("x")), float(bands[index].get("width"))
        assert left + width / 2 == pytest.approx(across[index], abs=0.2)
    assert str(svg).count('class="chance"') == 3


def test_what_is_drawn_is_told_to_those_who_do_not_see_it():
    svg = inversion_chart("c", "geiping: against epsilon", "identified", PLACED)
    tree = parsed(svg)
    told = tree.findtext(f"{SPACE}desc").replace("\u00a0", " ")
    assert tree.get("role") == "img"
    assert tree.findtext(f"{SPACE}title") == "geiping: against epsilon"
    assert "dpsgd@1 (epsilon 1): 20.0 % (15.0 to 25.0 %), control 10.0 % (5.0 to 15.0 %)" in told
    assert "nls (no guarantee): 80.0 % (75.0 to 85.0 %)." in told


def test_equal_epsilons_do_not_hide_each_other_and_what_was_not_resolved_is_not_drawn():
    twice = [PLACED[1], PLACED[1]._replace(position=5), PLACED[2]._replace(attacked=finding(0.5, resolvable=False))]
    found = marks(inversion_chart("c", "t", "identified", twice))
    assert [i for i, _, _ in found] == [1, 5]
    assert found[1][1] - found[0][1] == pytest.approx(9)
    assert inversion_chart("c", "t", "identified", [twice[2]]) is None


def test_differences_below_zero_and_plain_numbers_are_drawn_as_they_are():
    low = [PLACED[1]._replace(attacked=finding(-0.1)), PLACED[2]]
    assert len({y for _, _, y in marks(inversion_chart("c", "t", "attribute_gain_on_members", low))}) == 2
    far = [PLACED[1]._replace(attacked=finding(12.0)), PLACED[0]._replace(attacked=finding(30.0))]
    ticks = [t.text for t in parsed(inversion_chart("c", "t", "psnr", far)).findall(f"{SPACE}text")]
    assert not [t for t in ticks if t and "%" in t]


def test_the_bound_the_prior_and_the_measurement_share_an_axis():
    rows = [
        Bounded(0, "a, planted-label", 0.1, 0.4, finding(0.2)),
        Bounded(1, "b, planted-label", 0.1, 0.9, finding(0.7)),
    ]
    svg = bounds_chart("b", rows)
    ceilings = [float(w) for w in re.findall(r'width="([\d.]+)" height="16" class="ceiling"', str(svg))]
    assert ceilings[1] / ceilings[0] == pytest.approx(0.9 / 0.4, rel=0.01)
    start = 290.0
    (_, first, _), (_, second, _) = marks(svg)
    assert (second - start) / (first - start) == pytest.approx(0.7 / 0.2, rel=0.01)
    assert first < start + ceilings[0]
    assert str(svg).count('class="chance"') == 2
    told = parsed(svg).findtext(f"{SPACE}desc").replace("\u00a0", " ")
    assert "a, planted-label: measured 20.0 % (15.0 to 25.0 %), permitted 40.0 %, without the model 10.0 %" in told


def test_small_priors_get_a_logarithmic_axis_and_zero_stands_at_its_end():
    rows = [Bounded(0, "a", 1 / 256, 0.015, finding(0.0, 0.0))]
    svg = bounds_chart("b", rows)
    assert "log scale" in str(svg)
    assert marks(svg)[0][1] == 290.0
    assert bounds_chart("b", []) is None
    assert bounds_chart("b", [rows[0]._replace(measured=finding(0.5, resolvable=False))]) is None


@pytest.mark.parametrize("render", [html, markdown, model_card])
def test_class_and_record_level_are_kept_apart_each_with_its_meaning(examples, render):
    text = re.sub(r"<[^>]+>", " ", render(examples.guaranteed_record())).replace("\u00a0", " ")
    text = " ".join(text.split())
    of_class, of_record = text.index("What a class looks like"), text.index("What the training records add")
    assert of_class < of_record
    assert "no guarantee for a single record rules it out" in text[of_class:of_record]
    assert "This is what a guarantee for the unit of privacy bounds." in text[of_record:]
    assert "Right, says the evaluator" in text[of_class:of_record]
    assert "Planted labels right" not in text[of_class:of_record]
    assert "wide-mlp, accuracy 97.1 %" in text
    assert "if-gmi is a reconstruction: The schedule is ours." in text


def test_every_row_of_a_reconstruction_says_so(examples):
    page = html(examples.guaranteed_record())
    rows = re.findall(r"<tr>(?:(?!</tr>).)*if-gmi.*?</tr>", page, re.S)
    assert len(rows) == 4
    assert all("reconstruction" in row for row in rows)
    lines = [line for line in markdown(examples.guaranteed_record()).splitlines() if "if-gmi" in line]
    assert all("reconstruction" in line for line in lines)


def test_what_could_not_run_is_told_here_and_membership_attacks_are_not(examples):
    found = InversionSection().context(examples.compare_record())["missing"]
    assert found == [
        ("geiping, batch of 64", "undefended, label-smoothing, mixup", "needs 64 records of a class, got 40")
    ]


def test_leakage_is_found_only_where_the_whole_interval_is_above_the_control(examples):
    panels = InversionSection().context(examples.compare_record())["panels"]
    rows = {(r.subject, r.attack, r.measure): r.found for p in panels for r in p.rows}
    assert rows["undefended", "planted-label", "Planted labels right"]
    assert not rows["mixup", "miface", "Nearer to a training record"]
    assert not any(found for (_, _, measure), found in rows.items() if measure == label("fid"))


def test_attacks_are_drawn_where_a_subject_has_a_guarantee(examples):
    assert "inversion-chart" not in html(examples.compare_record())
    page = html(examples.guaranteed_record())
    assert page.count('data-testid="inversion-chart"') == 2 + 3
    assert "miface: Right, says the evaluator against epsilon" in page
    assert page.count('data-testid="bound-chart"') == 1


def test_a_bound_for_another_game_is_not_compared(examples):
    first, second = InversionSection().context(examples.guaranteed_record())["bounds"]
    assert first.measured is not None
    assert (second.measured, second.note) == (None, "The prior of this game is not known.")
    assert not first.broken


def test_a_measurement_above_the_bound_raises_the_alarm(examples):
    record = examples.guaranteed_record()
    last = record.subjects[-1]
    low = [
        one.model_copy(update={"bounds": [b.model_copy(update={"permitted": 0.12}) for b in one.bounds]})
        for one in last.inversions
    ]
    broken = record.model_copy(
        update={"subjects": [*record.subjects[:-1], last.model_copy(update={"inversions": low})]}
    )
    for render in (html, markdown):
        assert "the measured success lies above what the guarantee permits" in render(broken)
        assert "lies above what the guarantee permits. The guarantee, or the test" not in render(record)


def test_where_a_class_is_one_person_the_page_says_what_that_means(examples):
    record = examples.compare_record().model_copy(update={"inversion": examples.inversion_design(unit_is_class=True)})
    for render in (html, markdown, model_card):
        assert "to learn a class is to learn this unit" in render(record)
        assert "to learn a class is to learn this unit" not in render(examples.compare_record())


def test_nothing_tried_and_nothing_found_are_told_apart(examples):
    assert "No inversion was tried." in markdown(examples.empty_record())
    empty = examples.empty_record().model_copy(update={"inversion": examples.inversion_design()})
    text = markdown(empty)
    assert "Inversion was asked for, and no attack gave a number." in text
    assert "No inversion was tried." not in text


def test_many_results_leave_the_page_its_budget_and_are_counted(examples):
    record = examples.guaranteed_record()

    def many(subject):
        copies = [r.model_copy(update={"name": f"{r.name}-{i}"}) for r in subject.inversions for i in range(8)]
        return subject.model_copy(update={"inversions": copies})

    large = record.model_copy(update={"subjects": [many(s) for s in (*record.subjects, *record.subjects)]})
    context = InversionSection().context(large)
    page = html(large)
    assert len(page.encode()) < 500_000
    every = sum(len(r.measures) for s in large.subjects for r in s.inversions)
    assert sum(len(p.rows) + p.left_out for p in context["panels"]) == every
    assert "more rows: in the record beside this page" in page
    assert all(len(p.rows) <= 120 and len(p.charts) <= 6 for p in context["panels"])
    assert "more pictures" in page


def test_the_headline_of_a_level_is_the_same_as_elsewhere(examples):
    result = examples.inversions(2.0)[0]
    assert headline_measure(result, "class").name == "evaluator_accuracy_1"
    assert headline_measure(result, "record").name == "nearer_to_training"
    assert headline_measure(result, "none") is None
    odd = InversionResult(
        name="n", game="class", access="weights", targets=1, questions=1, guesses=1,
        measures=[examples.measure("own", "record", 0.2, 0.1)],
    )  # fmt: skip
    assert headline_measure(odd, "record").name == "own"
    assert headline_measure(odd, "class") is None


def test_success_is_a_rate_and_distances_are_not():
    rates = ["evaluator_accuracy_1", "disputed_successes", "nearer_to_training", "identified", "labels_recovered",
             "planted_label", "attribute_accuracy", "attribute_gain_on_members", "coverage", "precision"]  # fmt: skip
    assert [name for name in rates if not is_rate(name)] == []
    assert [
        name for name in ("fid", "density", "mse", "psnr", "class_distance", "record_distance") if is_rate(name)
    ] == []


def test_a_subject_without_membership_attacks_points_to_inversion(examples):
    record = examples.compare_record()
    first = record.subjects[0].model_copy(update={"attacks": [], "strongest": ""})
    text = html(record.model_copy(update={"subjects": [first]}))
    assert "No membership attack ran. For 4 inversion attacks, see below." in text
    assert "section-inversion" in [section.testid for section in sections()]
