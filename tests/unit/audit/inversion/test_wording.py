import pytest

from sfumato.audit.inversion.wording import left_untested, strongest_inversions
from sfumato.audit.inverted import InversionResult, Measure, ReconstructionBound
from sfumato.audit.record import DefenceSummary, Finding, GuaranteeSummary, NotRun, Subject
from sfumato.audit.tuning import without_guarantee
from sfumato.audit.verdict import verdict


def finding(name, value, low, high):
    return Finding(name=name, value=value, low=low, high=high)


def measure(name, level, difference, half=0.1):
    return Measure(
        name=name,
        level=level,
        more="higher",
        attacked=finding(name, 0.5 + difference, 0.4, 1.0),
        control=finding(f"{name}_control", 0.5, 0.4, 0.6),
        difference=finding(f"{name}_difference", difference, difference - half, difference + half),
    )


def result(name, *measures, game="class"):
    return InversionResult(
        name=name, game=game, access="scores", measures=list(measures), targets=1, questions=1, guesses=1
    )


def subject(*results, **more):
    formal = GuaranteeSummary(status="none", statement="none")
    defence = DefenceSummary(name="undefended", family="none", reference="")
    more = {"name": "plain", **more}
    return Subject(artefact="made up", defence=defence, guarantee=formal, inversions=list(results), **more)


def test_the_clearest_of_the_fixed_measures_counts_at_each_level():
    weak = result("weak", measure("evaluator_accuracy_1", "class", 0.4, half=0.5))
    sure = result("sure", measure("evaluator_accuracy_1", "class", 0.3), measure("nearer_to_training", "record", 0.05))
    other = result("other", measure("coverage", "class", 0.5, half=0.01))  # not the one that is fixed for the game
    found = strongest_inversions(subject(weak, sure, other))
    assert [(one.level, one.result.name, one.shown) for one in found] == [
        ("class", "sure", True),
        ("record", "sure", False),
    ]
    assert strongest_inversions(subject()) == []


def test_the_verdict_keeps_levels_apart_and_says_what_was_not_shown():
    leaky = subject(
        result("a", measure("evaluator_accuracy_1", "class", 0.3), measure("nearer_to_training", "record", 0))
    )
    found = verdict([leaky], [])
    assert found.sentence == "No membership attack was run. Shown to leak by inversion: plain (class-level)."
    assert len(found.against) == len(found.in_favour) == 1
    assert "class-level" in found.against[0]
    assert "control 0.500" in found.against[0]
    assert "gave away more of the training records" in found.in_favour[0]


def test_where_membership_attacks_were_refused_the_verdict_still_says_so():
    both = subject(
        result("a", measure("evaluator_accuracy_1", "class", 0)), not_run=[NotRun(attack="loss", reasons=["deaf"])]
    )
    found = verdict([both], [])
    assert any("no attack could run" in line for line in found.against)
    assert "Inversion showed no leakage" in found.sentence
    inverted = subject(
        result("a", measure("evaluator_accuracy_1", "class", 0)), not_run=[NotRun(attack="gmi", reasons=["deaf"])]
    )
    assert not verdict([inverted], []).against


@pytest.mark.parametrize(
    ("games", "left"),
    [
        ([], "model inversion, attribute inference and reconstruction"),
        (["class"], "attribute inference"),
        (["gradient"], "attribute inference"),
        (["attribute"], "model inversion and reconstruction"),
        (["attribute", "label"], ""),
    ],
)
def test_what_was_tested_is_left_out_of_what_was_not(games, left):
    assert left_untested([subject(*(result(game, game=game) for game in games))]) == left


def test_what_a_guarantee_permits_goes_with_the_guarantee_of_a_tuned_subject():
    bound = ReconstructionBound(prior=0.1, permitted=0.2, measured="identified", unit="example", method="made up")
    bounded = result("a", measure("identified", "record", 0.3), game="gradient").model_copy(update={"bounds": [bound]})
    numbers = {"status": "formal", "statement": "epsilon 1"}
    formal = subject(bounded).model_copy(update={"guarantee": GuaranteeSummary.model_validate(numbers)})
    assert without_guarantee(formal).inversions[0].bounds == []
    assert without_guarantee(subject(bounded)).inversions[0].bounds == [bound]


def test_every_headline_has_words_of_its_own():
    from sfumato.audit.inversion.headline import FIRST, IN_WORDS

    assert {name for levels in FIRST.values() for names in levels for name in names} == set(IN_WORDS)
    (line,) = verdict([subject(result("a", measure("evaluator_accuracy_1", "class", 0.3)))], []).against
    assert "right, says the evaluator, 0.800 [0.400, 1.000], control 0.500" in line
