import json

import pytest

from sfumato.accounting.accountants.pld import PLD
from sfumato.accounting.adjacency import Adjacency
from sfumato.accounting.guarantee import Guarantee, NoGuarantee, guarantee, rounded_up
from sfumato.accounting.history import Event, History
from sfumato.accounting.mechanisms.gaussian import Gaussian
from sfumato.accounting.mechanisms.poisson_gaussian import PoissonGaussian
from sfumato.errors import UsageError

ONE = PoissonGaussian(sample_rate=0.01, noise_multiplier=1.0, steps=1000, adjacency="ADD_OR_REMOVE_ONE")
FACTS = {"delta": 1e-5, "unit": "patient, at most 20 records each", "audit_only": False}


def event(mechanism=ONE, stage="training", **changes):
    return Event(stage, "noisy steps", 100, mechanism.plain() | FACTS | changes)


def test_one_training():
    found = guarantee(History((event(),)))
    assert isinstance(found, Guarantee)
    assert found.epsilon == PLD().epsilon([ONE], 1e-5)
    assert (found.delta, found.unit, found.adjacency) == (1e-5, FACTS["unit"], Adjacency.ADD_OR_REMOVE_ONE)
    assert (found.accountant, found.mechanisms, found.audit_only) == ("pld", (ONE,), False)


def test_the_sentence_says_everything():
    said = guarantee(History((event(),))).statement
    for part in (
        "epsilon 1.83 at delta 1e-05",
        "one unit added or removed (ADD_OR_REMOVE_ONE)",
        "unit: patient, at most 20 records each",
        "Poisson sampling at rate 0.01, noise multiplier 1, 1000 steps",
        "privacy loss distributions (PLD)",
    ):
        assert part in said
    assert "audit" not in said
    seeded = guarantee(History((event(), event(audit_only=True))))
    assert seeded.audit_only
    assert "must not be released as private" in seeded.statement


def test_stages_are_composed_never_the_inner_one_alone():
    other = Gaussian(noise_multiplier=5.0, steps=2, adjacency="ADD_OR_REMOVE_ONE")
    both = guarantee(History((event(), event(other, stage="selection"))))
    assert both.epsilon == PLD().epsilon([ONE, other], 1e-5) > guarantee(History((event(),))).epsilon
    assert "; then no sampling" in both.statement


def test_another_delta():
    found = guarantee(History((event(),)))
    assert found.epsilon_at(1e-7) == guarantee(History((event(),)), delta=1e-7).epsilon > found.epsilon
    with pytest.raises(UsageError, match="delta"):
        guarantee(History((event(),)), delta=0.0)


@pytest.mark.parametrize(
    ("second", "reason"),
    [
        (Event("data", "fit input standardisation", 5), "none, because of fit input standardisation at stage data"),
        (event(delta=1e-6, stage="late"), "different deltas (1e-06, 1e-05)"),
        (event(unit="example", stage="late"), "at stage late: its unit is 'example'"),
        (event(adjacency="REPLACE_ONE", stage="late"), "at stage late: its adjacency is 'REPLACE_ONE'"),
        (event(kind="shuffled-gaussian", stage="late"), "'shuffled-gaussian'"),
        (event(sample_rate=2.0, stage="late"), "sample_rate"),
        (event(steps="many", stage="late"), "steps"),
        (event(unit="", stage="late"), "no unit"),
        (event(audit_only=None, stage="late"), "seed"),
        (event(delta=0, stage="late"), "no delta"),
        (event(delta="1e-5", stage="late"), "no delta"),
        (event(noise_multiplier=0, stage="late"), "bounds nothing"),
    ],
)
def test_one_stage_that_cannot_be_added_up_ends_it_with_the_reason(second, reason):
    for events in ((event(), second), (event(), second, event())):
        found = guarantee(History(events))
        assert isinstance(found, NoGuarantee)
        assert found.statement.startswith("none, because")
        assert reason in found.statement


def test_a_missing_field_of_the_event_gives_none():
    for gone in ("unit", "delta", "audit_only", "adjacency", "kind", "steps"):
        plain = {key: value for key, value in event().mechanism.items() if key != gone}
        assert isinstance(guarantee(History((Event("training", "x", 1, plain),))), NoGuarantee)


def test_a_given_delta_settles_different_ones():
    found = guarantee(History((event(), event(delta=1e-6))), delta=1e-6)
    assert found.epsilon == PLD().epsilon([ONE, ONE], 1e-6)


def test_an_empty_history_is_none():
    assert guarantee(History()) == NoGuarantee("none, because no event was recorded")


def test_a_history_from_a_file_says_the_same():
    history = History((event(), event()))
    assert guarantee(History.from_plain(json.loads(json.dumps(history.plain())))) == guarantee(history)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (5.1406, "5.15"),
        (1.83, "1.83"),
        (0.0012301, "0.00124"),
        (123.1, "124"),
        (1234.5, "1.24e+03"),
        (0.0, "0"),
        (9.999, "10"),
    ],
)
def test_rounding_goes_up(value, text):
    assert rounded_up(value, 3) == text
    assert float(rounded_up(value, 3)) >= value
