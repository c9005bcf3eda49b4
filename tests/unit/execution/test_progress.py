import io
import json

import pytest

from sfumato.errors import UsageError
from sfumato.execution.events import BundleStarted, Chosen, Ended, EpochDone, JobDone, Notice, Started, sparingly
from sfumato.execution.progress import DISPLAYS, Tally, duration, open_display
from sfumato.execution.run import execute

EVENTS = [
    Started(4, 1, 0, 3),
    JobDone("k0", "shadow 0", "reused", 0.0),
    Chosen("inline, 1 thread", "as asked for"),
    BundleStarted("b", 2, "shadow 1 and 1 more"),
    EpochDone("b", 2, 1, 2, 0.5),
    Notice("negligible", "Weights were deleted [sic].", "Raise the limit."),
    JobDone("k1", "shadow 1", "trained", 1.0, "b"),
    Ended("interrupted", 1, 1, 0, 2, 3.0),
]


def shown(kind):
    stream = io.StringIO()
    with open_display(kind, stream) as display:
        for event in EVENTS:
            display(event)
    return stream.getvalue()


def test_json_lines_hold_every_event():
    lines = [json.loads(line) for line in shown("json").splitlines()]
    assert [line["event"] for line in lines] == [event.kind for event in EVENTS]
    assert lines[4] == {"event": "epoch", "bundle": "b", "models": 2, "epoch": 1, "epochs": 2, "loss": 0.5}


@pytest.mark.parametrize("kind", ["plain", "rich", "auto"])
def test_lines_say_what_is_chosen_what_went_wrong_and_what_is_kept(kind):
    text = " ".join(shown(kind).split())
    for part in ("4 models: 1 stored", "inline, 1 thread (as asked for)", "[sic]", "all are kept", "2 are left"):
        assert part in text


def test_none_shows_nothing_and_an_unknown_display_is_refused():
    assert shown("none") == ""
    assert "none" in DISPLAYS
    with pytest.raises(UsageError, match="display"), open_display("loud"):
        pass


def test_the_tally_counts_epochs_of_models_under_way():
    tally = Tally()
    assert tally.remaining is None
    for event in EVENTS[:5]:
        tally.add(event)
    assert tally.models == pytest.approx(2.0)  # one reused, two half done
    tally.since -= 10
    assert tally.remaining == pytest.approx(20, rel=0.01)  # one model's worth took 10 s, two are left
    tally.add(EpochDone("b", 2, 2, 2, 0.1))
    tally.add(EVENTS[6])
    assert tally.models == pytest.approx(3.0)


def test_time_without_training_says_nothing_of_what_is_left():
    tally = Tally()
    tally.add(EVENTS[0])
    tally.add(BundleStarted("b", 2, "b"))
    tally.add(EpochDone("b", 2, 1, 100, 0.5))
    tally.since -= 20
    assert tally.remaining is None  # one epoch, and the first one is slow: too early to tell
    tally.since += 20
    tally.since -= 10
    tally.add(JobDone("k1", "1", "trained", 1.0, "b"))
    tally.add(JobDone("k2", "2", "trained", 1.0, "b"))
    assert not tally.open
    assert tally.seconds == pytest.approx(10, rel=0.01)
    between = tally.seconds
    assert tally.seconds == between  # the clock stands still until training goes on
    tally.add(BundleStarted("c", 1, "c"))
    tally.since -= 5
    tally.add(Ended("interrupted", 2, 0, 0, 1, 15.0))
    assert not tally.open
    assert tally.seconds == pytest.approx(15, rel=0.01)


def test_lines_come_sparingly(monkeypatch):
    now, said = [100.0], []
    monkeypatch.setattr("sfumato.execution.events.time.monotonic", lambda: now[0])
    tell = sparingly(said.append, 5.0)
    for step in range(12):
        now[0] += 1
        tell(f"step {step}")
    assert said == ["step 4", "step 9"]


def test_durations_for_people():
    assert [duration(s) for s in (8, 200, 9000)] == ["8 s", "3 min", "2.5 h"]


def test_a_real_run_ends_with_everything_done(make_jobs, store):
    tally = Tally()
    execute(make_jobs(4), store, executor="stacked", on_event=tally.add)
    assert (tally.done, tally.models, tally.remaining) == (4, 4, 0)
