"""Noisy views, walks and gradients of real networks, as models are asked for them."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import nn

from sfumato.data.population import Population
from sfumato.data.records import ArrayRecords
from sfumato.defences.undefended import Undefended
from sfumato.errors import UsageError
from sfumato.targets import asking
from sfumato.targets.asking import ask
from sfumato.targets.queries import QuerySet
from sfumato.targets.surroundings import box_of, directions, starts, view
from sfumato.training.defence import Defence
from sfumato.training.recipe import ModulePredict

NOISE = QuerySet("noise-16", scale=0.5)
WALK = QuerySet(scope="game", signal="boundary-distance", budget=600)
SLOPES = QuerySet(noise="off", scope="game", signal="input-gradient-norm")


@dataclass(frozen=True, kw_only=True)
class Swapped(Defence):
    """A guard that answers with the other class, and hides how sure it is."""

    name = "swapped"

    def guard(self, logits, draws, behind):
        return (logits.flip(1) > logits).to(logits)


@dataclass(frozen=True, kw_only=True)
class Fickle(Defence):
    """A guard that tells a wrong label in one of five answers."""

    name = "fickle"

    def guard(self, logits, draws, behind):
        wrong = draws.uniform("wrong", len(logits))[0] < 0.2
        return torch.where(wrong[:, None], logits.flip(1), logits)


class Counting(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner, self.rows = inner, 0

    def forward(self, x):
        self.rows += len(x)
        return self.inner(x)


@pytest.fixture(scope="module")
def records():
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(80, 4)) * [1, 10, 0.1, 1]).astype(np.float32)
    return Population(ArrayRecords(x), "example", labels=(x[:, 0] + 0.05 * x[:, 1] > 0).astype(int))


@pytest.fixture(scope="module")
def linear(records):
    """Two classes apart by a plane: right but for some records near it."""
    network = nn.Linear(4, 2).eval()
    with torch.no_grad():
        network.weight[:] = torch.tensor([[0.0, 0, 0, 0], [1, 0.1, 0, 0]])
        network.bias[:] = 0
    return network


def asked(network, records, queries, defence=None, **options):
    options = {"asked": np.arange(0, 80, 4), **options}
    return ask(ModulePredict(network), defence or Undefended(), records, queries, 1, **options).scalars


def test_noisy_views_are_the_record_with_noise_of_the_stated_scale(records):
    box, rows = box_of(records), np.arange(80)
    x = records.tensor(rows)
    views = torch.stack([view(NOISE, v, x, rows, box) for v in range(16)])
    inside = (views > box.low) & (views < box.high)
    z = ((views - x) / box.unit)[inside]
    assert abs(float(z.std()) - 0.5) < 0.03  # a little less where the range holds
    assert (views >= box.low).all()
    assert (views <= box.high).all()
    some = np.array([17, 3])
    np.testing.assert_array_equal(view(NOISE, 5, x[some], some, box), views[5][some])
    assert len(np.unique(views[:, 0, 0])) == 16


def test_all_models_meet_the_same_noise_whatever_the_chunks(records, linear, monkeypatch):
    whole = asked(linear, records, [NOISE])[NOISE.key]
    monkeypatch.setattr(asking, "CHUNK", 7)
    parts = asked(linear, records, [NOISE])[NOISE.key]
    np.testing.assert_allclose(parts["hinge"], whole["hinge"], atol=1e-5)
    box, x = box_of(records), records.tensor(np.arange(80))
    for variant in (0, 15):
        with torch.no_grad():
            z = linear(view(NOISE, variant, x, np.arange(80), box)).numpy()
        margin = (z[:, 1] - z[:, 0]) * (2 * records.labels - 1)
        np.testing.assert_allclose(whole["hinge"][:, variant], margin, atol=1e-5)


def test_walks_measure_the_distance_to_the_plane_in_deviations(records, linear, monkeypatch):
    table = asked(linear, records, [WALK])[WALK.key]
    rows = np.arange(0, 80, 4)
    unit = box_of(records).unit.numpy()
    w = np.array([1, 0.1, 0, 0]) * unit
    margin = (records.tensor(np.arange(80)).numpy() / unit) @ w * (2 * records.labels - 1) / np.linalg.norm(w)
    found = table["boundary_distance"][:, 0]
    wrong = margin[rows] <= 0
    assert 0 < wrong.sum() < 10
    assert (found[rows][wrong] == 0).all()
    np.testing.assert_allclose(found[rows][~wrong], margin[rows][~wrong], rtol=0.03, atol=1e-3)
    assert np.isnan(np.delete(found, rows)).all()
    counted = table["label_queries"][rows, 0]
    assert (counted <= 600).all()
    assert (counted[wrong] == 1).all()
    monkeypatch.setattr(asking, "CHUNK", 7)
    parts = asked(linear, records, [WALK])[WALK.key]["boundary_distance"][:, 0]
    np.testing.assert_allclose(parts[rows], found[rows], rtol=1e-4)


def test_walks_ask_through_the_guard_and_count_what_they_ask(records, linear):
    rows = np.arange(0, 80, 4)
    network = Counting(linear).eval()
    plain = asked(network, records, [WALK])[WALK.key]
    before = 3 * len(records)  # the base query, and twice to see whether it draws out of sight
    assert network.rows == before + plain["label_queries"][rows].sum()
    swapped = asked(linear, records, [WALK], Swapped())[WALK.key]["boundary_distance"]
    right, right_behind = plain["boundary_distance"][rows] > 0, swapped[rows] > 0
    np.testing.assert_array_equal(right_behind, ~right)


def test_answers_at_random_are_put_to_the_vote(records, linear):
    one, few = replace(WALK, budget=200), np.arange(0, 80, 10)
    many = replace(one, repeats=15)
    once, often = (asked(linear, records, [q], Fickle(), asked=few)[q.key] for q in (one, many))
    exact = asked(linear, records, [one], asked=few)[one.key]["boundary_distance"]
    rows = np.flatnonzero(exact[:, 0] > 0)
    gaps = [np.abs(one["boundary_distance"] - exact)[rows].mean() for one in (once, often)]
    assert gaps[1] < 0.3 * gaps[0]
    assert once["label_queries"][rows].max() <= 200
    assert 200 < often["label_queries"][rows].max() <= 15 * 200
    again = asked(linear, records, [many], Fickle(), asked=few)[many.key]
    np.testing.assert_array_equal(again["boundary_distance"], often["boundary_distance"])


def test_a_walk_needs_to_know_the_records_in_the_game(records, linear):
    with pytest.raises(UsageError, match="in the game"):
        asked(linear, records, [WALK], asked=None)


def test_starts_are_records_of_other_classes_and_points_in_the_box(records):
    box, rows = box_of(records), np.array([3, 9])
    found = starts(records, rows, box)
    assert found.shape == (2, 8, 4)
    assert ((found >= box.low) & (found <= box.high)).all()
    for start, row in zip(found, rows, strict=True):
        for point in start[::2]:
            (same,) = np.flatnonzero((records.tensor(np.arange(80)) == point).all(dim=1))
            assert records.labels[same] != records.labels[row]
    np.testing.assert_array_equal(starts(records, rows[1:], box)[0], found[1])
    one_class = replace(records, labels=np.zeros(80, int), class_names=("a", "b"))
    assert starts(one_class, rows, box).shape == (2, 8, 4)


def test_directions_are_named_by_record_variant_and_iteration():
    ways = directions(np.array([5, 8]), 0, 3)
    np.testing.assert_array_equal(ways(1, 2, 4), directions(np.array([8]), 0, 3)(0, 2, 9)[:4])
    for other in (ways(0, 2, 4), ways(1, 3, 4), directions(np.array([5, 8]), 1, 3)(1, 2, 4)):
        assert not np.allclose(other, ways(1, 2, 4))


def test_input_gradients_equal_differences(records):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 2)).double().eval()
    found = asked(network, records, [SLOPES])[SLOPES.key]["input_gradient_norm"][:, 0]
    assert np.isnan(found[1::4]).all()
    unit = box_of(records).unit.double()
    for row in (0, 12, 44):
        x, label = records.tensor(np.array([row])).double(), torch.tensor([int(records.labels[row])])

        def loss(z, x=x, label=label):
            return nn.functional.cross_entropy(network(x + z * unit), label).item()

        with torch.no_grad():
            steps = 1e-5 * torch.eye(4, dtype=torch.float64)
            slope = [(loss(step) - loss(-step)) / 2e-5 for step in steps]
        np.testing.assert_allclose(found[row], np.linalg.norm(slope), rtol=1e-4)
    assert all(p.grad is None for p in network.parameters())
