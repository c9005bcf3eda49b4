import pytest

from sfumato.accounting.guarantee import NoGuarantee
from sfumato.accounting.history import Event, History
from sfumato.errors import UsageError
from sfumato.training.trained import Trained

NOISY = Event("training", "noisy steps", 100, {"mechanism": "gaussian", "noise_multiplier": 1.0})
SCALER = Event("data", "fit input standardisation", 100)


def test_one_ordinary_read_among_private_ones_ends_the_guarantee_with_the_reason():
    reason = "none, because of fit input standardisation at stage data"
    for events in ((SCALER, NOISY), (NOISY, SCALER), (NOISY, SCALER, NOISY)):
        assert History(events).why_no_guarantee() == reason
    assert History((NOISY, NOISY)).why_no_guarantee() is None


def test_nothing_recorded_is_no_guarantee():
    assert History().why_no_guarantee() == "none, because no event was recorded"


def test_the_first_reason_is_the_one_that_is_given():
    later = Event("training", "ordinary training", 5)
    assert "standardisation" in History((NOISY, SCALER, later)).why_no_guarantee()


def test_histories_are_joined_oldest_first():
    joined = History((NOISY,)) + History((SCALER,))
    assert joined.events == (NOISY, SCALER)
    assert History((NOISY,)).then(SCALER) == joined


def test_plain_and_back():
    history = History((NOISY, SCALER))
    assert History.from_plain(history.plain()) == history
    assert History.from_plain([]) == History()


@pytest.mark.parametrize("rows", [[{"stage": "a"}], [{"stage": "a", "purpose": "b", "records": 1, "extra": 2}], [3]])
def test_rows_that_are_no_events_are_refused(rows):
    with pytest.raises(UsageError, match="Expected events"):
        History.from_plain(rows)


@pytest.mark.parametrize(
    "event", [("", "why", 1), ("where", "", 1), ("where", "why", -1), ("where", "why", 1, {})], ids=str
)
def test_incomplete_events_are_refused(event):
    with pytest.raises(UsageError, match="Expected"):
        Event(*event)


def test_weights_carry_the_history_and_its_verdict():
    assert Trained(None, History((NOISY, SCALER)), seed=0).guarantee_statement.startswith("none, because of fit input")
    noisy = Trained(None, History((NOISY,)), seed=0).guarantee
    assert isinstance(noisy, NoGuarantee)
    assert noisy.statement.startswith("none, because of noisy steps at stage training")
    assert History.from_plain(Trained(None, History((NOISY,)), seed=0).facts()["history"]) == History((NOISY,))
