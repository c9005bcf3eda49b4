import pytest

from sfumato.audit.record import AttackResult, Finding
from sfumato.report import wording


def plain(text):
    return text.replace("\u00a0", " ").replace("\u202f", " ")


def auc(low, high, **more):
    return Finding(name="auc", value=(low + high) / 2, low=low, high=high, **more)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0 %"), (0.1234, "12.3 %"), (1, "100.0 %"), (0.00996, "1.0 %"), (0.00123, "0.12 %"), (0.00001, "0.0010 %")],
)
def test_percent_has_two_or_three_figures(value, text):
    assert plain(wording.percent(value)) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.7561, "0.756"), (6.2412, "6.241"), (123.45, "123.5"), (-0.06, "\u22120.060"), (1e-5, "1.0e\u221205")],
)
def test_numbers_have_sensible_figures(value, text):
    assert wording.number(value) == text


def test_numbers_that_are_none_are_words():
    assert wording.number(float("inf")) == "\u221e"
    assert wording.number(float("nan")) == "undefined"


def test_a_difference_has_a_sign_and_points():
    finding = Finding(name="accuracy", value=-0.012, low=-0.02, high=0.001)
    told = wording.shown(finding, "accuracy")
    assert plain(told.text) == "\u22121.2 points (\u22122.0 to +0.10 points)"


def test_one_sided_intervals_say_which_side():
    finding = Finding(name="auc", value=0.6, low=None, high=0.7)
    assert wording.shown(finding).interval == "at most 0.700"
    assert wording.shown(finding.model_copy(update={"low": 0.5, "high": None})).interval == "at least 0.500"


def rate(at, low, high, **more):
    return Finding(name="tpr_at_fpr", value=(low + high) / 2, low=low, high=high, at=at, **more)


def attack(*findings):
    return AttackResult(
        name="a", reference="", summary="", access="", knowledge="", queries="", findings=list(findings)
    )


def test_no_leakage_found_names_the_smallest_effect_that_could_be_missed():
    assert wording.reading(attack(auc(0.48, 0.53))) == (
        "No leakage found by this attack; the test would have missed an AUC up to 0.530."
    )
    told = wording.reading(attack(auc(0.48, 0.53), rate(0.1, 0.08, 0.12), rate(0.01, 0.007, 0.021)))
    assert plain(told).endswith("an AUC up to 0.530, or a TPR at FPR 1 % up to 2.1 %.")


def test_an_average_at_chance_does_not_hide_a_few_found_members():
    told = wording.reading(attack(auc(0.48, 0.53), rate(0.001, 0.004, 0.008)))
    assert plain(told) == "Found leakage: TPR at FPR 0.1 % is 0.40 to 0.80 %, where guessing gives 0.1 %."
    unresolved = rate(0.001, 0.004, 0.008, resolvable=False)
    assert wording.reading(attack(auc(0.48, 0.53), unresolved)).startswith("No leakage found")


def test_readings_of_other_intervals():
    assert wording.reading(attack(auc(0.55, 0.6))).startswith("Found leakage")
    assert wording.reading(attack(auc(0.3, 0.4))).startswith("Ranks non-members above")
    assert wording.reading(attack()).startswith("Could not test")
    assert wording.reading(attack(auc(0.4, 0.6, resolvable=False))).startswith("Could not test")


def test_unresolved_findings_give_their_reason():
    without = Finding(name="auroc", value=None, low=None, high=None, resolvable=False, note="not defined here")
    assert wording.shown(without).value == "not measured: not defined here"
    assert wording.shown(without.model_copy(update={"note": ""})).value == "not resolvable with the data at hand"


def test_durations():
    assert [plain(wording.duration(s)) for s in (3.21, 74, 7500)] == ["3.2 s", "1 min 14 s", "2 h 5 min"]


def test_rates_are_told_from_other_numbers():
    rates = ("tpr_at_fpr", "balanced-accuracy", "accuracy", "ppv", "generalisation-gap")
    assert all(wording.is_rate(name) for name in rates)
    assert not any(wording.is_rate(name) for name in ("auc", "log-loss", "advantage", "calibration-error"))
