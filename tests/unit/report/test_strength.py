"""How the report shows full strength, rates of single units, and what a defence needs."""

import pytest

from sfumato.audit.record import Finding, GroupResult, StrengthSummary, UnitRates
from sfumato.report.render import html, markdown
from sfumato.report.sections.facts import told
from sfumato.report.wording import shown


@pytest.fixture
def record(examples):
    base = examples.compare_record()
    worst = Finding(name="worst_unit_tpr", value=0.9, low=0.6, high=1.0, at=0.001)
    rates = UnitRates(
        attack="lira-online", at=0.001, models=64, edges=[0.0, 0.5, 1.0], counts=[7, 3],
        quantiles={"0.5": 0.25}, worst=worst, note="A note on rates.",
    )  # fmt: skip
    defence = base.subjects[0].defence.model_copy(
        update={
            "reconstruction": "The schedule is not public.",
            "needs": ["reference data: 30%"],
            "guard": True,
            "couples": "It mixes records.",
            "trainings": 2.0,
        }
    )
    first = base.subjects[0].model_copy(update={"unit_rates": rates, "defence": defence})
    strength = StrengthSummary(
        reached="scaled", canaries={"blank": 20, "natural": 30}, models=16, scaled=["Scaled to 16 models."]
    )
    return base.model_copy(update={"subjects": [first, *base.subjects[1:]], "strength": strength})


def test_page_and_markdown_tell_the_same(record):
    for page in (html(record).split('<script type="application/json"')[0], markdown(record).replace("\\", "")):
        for text in (
            "a reconstruction", "The schedule is not public.", "reference data: 30%", "It mixes records.",
            "2 ordinary trainings", "Strength of the attack", "20 blank, 30 natural", "Scaled to 16 models.",
            "TPR of the worst-hit unit", "A note on rates.",
        ):  # fmt: skip
            assert text in page, text
    assert 'data-testid="found-0"' in html(record)
    assert "Units by TPR. 0 to 0.5: 7; 0.5 to 1: 3." in html(record)


def test_a_record_without_them_says_nothing_of_them(examples):
    record = examples.compare_record()
    plain = [one.model_copy(update={"inversions": []}) for one in record.subjects]  # one of these is a reconstruction
    page = html(record.model_copy(update={"subjects": plain})).split('<script type="application/json"')[0]
    assert "Strength of the attack" not in page
    assert "a reconstruction" not in page
    assert "How often single units are found" not in page


def test_an_ordinary_defence_stands_out_by_nothing(examples):
    assert told(examples.compare_record().subjects[0].defence) == []


def test_a_rate_of_single_units_that_is_not_resolved_says_what_it_needs():
    note = "Not resolved: a rate of 0.01 for each unit by itself needs at least 99 models without it, there are 4."
    found = Finding(
        name="tpr_at_fpr_calibrated", value=None, low=None, high=None, at=0.01, resolvable=False, n_nonmembers=9,
        note=note,
    )  # fmt: skip
    assert shown(found).value.startswith("not resolved: a rate of 0.01 for each unit by itself needs at least 99")


def test_that_attacks_were_chosen_for_each_kind_is_said_beside_them(examples):
    record = examples.compare_record()
    first, *others = record.subjects
    kind = GroupResult(column="canary", group="blank", attack="loss", findings=first.attacks[0].findings[:2])
    marked = record.model_copy(update={"subjects": [first.model_copy(update={"groups": [kind]}), *others]})
    for write in (html, markdown):
        assert write(marked).count("with the attack that finds it best, chosen on the same scores") == 1
        assert "finds it best" not in write(record)
