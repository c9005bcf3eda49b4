import numpy as np

from sfumato.accounting.history import Event
from sfumato.data import ArrayRecords, Population, PrivateView, Unit


def population(**more) -> Population:
    x = np.arange(6, dtype=np.float32)[:, None]
    return Population(ArrayRecords(x), Unit("who", np.array(list("aabbcc"))), labels=np.arange(6) % 2, **more)


def test_a_read_is_recorded_with_its_size_and_mechanism():
    view = PrivateView(population(), np.array([0, 1, 4, 5]))
    assert view.read("training", "ordinary training").ravel().tolist() == [0.0, 1.0, 4.0, 5.0]
    view.note("training", "noisy steps", mechanism={"kind": "gaussian"})
    first, second = view.history.events
    assert (first.stage, first.purpose, first.records, first.private) == ("training", "ordinary training", 4, False)
    assert second.private


def test_reads_made_while_building_the_population_come_first():
    event = Event("data", "the mean of columns", 6)
    view = PrivateView(population(events=(event,)), np.array([0, 1]))
    view.note("training", "steps", mechanism={"kind": "gaussian"})
    assert view.history.events[0] == event
    assert view.history.why_no_guarantee() == "none, because of the mean of columns at stage data"


def test_views_do_not_share_their_notebook():
    shared = population()
    one, other = PrivateView(shared, np.array([0, 1])), PrivateView(shared, np.array([0, 1]))
    one.read("training", "epoch")
    assert not other.history.events


def test_labels_and_units_follow_the_rows():
    view = PrivateView(population(), np.array([5, 4, 1, 0]))
    assert view.labels.tolist() == [1, 0, 1, 0]
    assert view.units.tolist() == [2, 2, 0, 0]
    assert len(view) == 4
