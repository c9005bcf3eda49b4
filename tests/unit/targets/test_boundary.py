"""The walk to the boundary against exact distances, and what it may ask."""

import numpy as np
import pytest
import torch

from sfumato.targets.boundary import Box, boundary_distances


def plane(d, n=20, seed=0, reach=1.0):
    """Points in [-1, 1]^d, a linear classifier, and the exact distances."""
    rng = np.random.default_rng(seed)
    w, b = torch.from_numpy(rng.normal(size=d)).float(), 0.2
    x = torch.from_numpy(rng.uniform(-reach, reach, size=(n, d))).float()
    labels = (x @ w + b > 0).numpy()
    starts = torch.from_numpy(rng.uniform(-3, 3, size=(n, 8, d))).float()
    exact = ((x @ w + b).abs() / w.norm()).numpy()
    return x, starts, lambda p: (p.flatten(1) @ w + b > 0).numpy(), labels, exact


def drawn(record, iteration, count, d):
    rng = np.random.default_rng([record, iteration])
    return torch.from_numpy(rng.normal(size=(count, d))).float()


def walk(x, starts, answered, labels, budget, *, names=None, box=None):
    d = x[0].numel()
    names = np.arange(len(x)) if names is None else names
    box = box or Box(*(torch.full(x.shape[1:], value) for value in (-3.0, 3.0, 1.0)))
    return boundary_distances(
        lambda points, owners: answered(points) == labels[owners],
        x,
        starts,
        budget,
        lambda record, iteration, count: drawn(int(names[record]), iteration, count, d),
        box,
    )


@pytest.mark.parametrize(("d", "budget", "within"), [(10, 600, 0.04), (10, 2000, 0.01), (50, 2000, 0.05)])
def test_distances_fall_to_the_exact_ones(d, budget, within):
    x, starts, answered, labels, exact = plane(d)
    found = walk(x, starts, answered, labels, budget)
    assert (found.distances >= exact * (1 - 1e-5)).all()
    assert (found.distances <= exact * (1 + within) + 1e-4).all()
    assert (walk(x, starts, answered, labels, 150).distances >= found.distances - 1e-6).all()


def test_no_record_is_asked_about_more_often_than_allowed_and_every_label_counts():
    x, starts, answered, labels, _ = plane(10)
    for budget in (50, 101, 500):
        asked = np.zeros(len(x), dtype=int)

        def right(points, owners, asked=asked):
            np.add.at(asked, owners, 1)
            return answered(points) == labels[owners]

        box = Box(*(torch.full((10,), value) for value in (-3.0, 3.0, 1.0)))
        found = boundary_distances(right, x, starts, budget, lambda r, t, k: drawn(r, t, k, 10), box)
        np.testing.assert_array_equal(found.queries, asked)
        assert asked.max() <= budget
        assert asked.min() > 0.7 * budget


def test_a_wrong_label_is_a_distance_of_0_and_costs_one_question():
    x, starts, answered, labels, _ = plane(10)
    wrong = np.arange(len(x)) % 3 == 0
    found = walk(x, starts, answered, labels ^ wrong, 200)
    assert (found.distances[wrong] == 0).all()
    assert (found.queries[wrong] == 1).all()
    assert (found.distances[~wrong] > 0).all()


def test_where_no_start_has_another_label_the_distance_is_that_to_the_farthest_corner():
    x = torch.tensor([[0.5, 0.0], [1.0, 1.0]])
    always = lambda points: np.ones(len(points), dtype=bool)  # noqa: E731
    found = walk(x, torch.zeros(2, 8, 2), always, np.ones(2, dtype=bool), 100)
    np.testing.assert_allclose(found.distances, [np.hypot(3.5, 3), np.hypot(4, 4)], rtol=1e-6)
    np.testing.assert_array_equal(found.queries, [9, 9])


def test_records_do_not_see_each_other():
    x, starts, answered, labels, _ = plane(10)
    whole = walk(x, starts, answered, labels, 400)
    some = np.array([7, 2, 11])
    part = walk(x[some], starts[some], answered, labels[some], 400, names=some)
    np.testing.assert_allclose(part.distances, whole.distances[some], rtol=1e-5)
    np.testing.assert_array_equal(part.queries, whole.queries[some])


def test_units_measure_and_the_box_holds():
    """Along the only free axis the boundary lies at 2: 4 units of one half; other features cannot move."""
    seen = []

    def answered(points):
        seen.append(points)
        return (points[:, 0, 0] < 2).numpy()

    x, starts = torch.zeros(1, 1, 3), torch.zeros(1, 8, 1, 3)
    starts[:, 1:, 0, 0] = 3
    low, high = torch.zeros(1, 3), torch.tensor([[3.0, 0.0, 1.0]])
    box = Box(low, high, torch.tensor([[0.5, 1.0, 1.0]]))
    found = walk(x, starts, answered, np.array([True]), 500, box=box)
    np.testing.assert_allclose(found.distances, [4], rtol=2e-3)
    points = torch.cat(seen)
    assert points.shape[1:] == (1, 3)
    assert (points >= low - 1e-6).all()
    assert (points <= high + 1e-6).all()


def test_a_ball_is_approached_from_outside():
    """The nearest other label is on the ball of radius 1, |x| - 1 away."""
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.uniform(0.8, 2.0, size=(15, 5))).float()
    starts = torch.from_numpy(rng.uniform(-0.4, 0.4, size=(15, 8, 5))).float()
    found = walk(x, starts, lambda p: (p.norm(dim=1) > 1).numpy(), np.ones(15, dtype=bool), 1500)
    np.testing.assert_allclose(found.distances, x.norm(dim=1).numpy() - 1, rtol=0.01)


def test_from_within_a_ball_the_walk_nears_the_boundary_from_above():
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.uniform(-0.7, 0.7, size=(15, 5))).float()
    starts = torch.from_numpy(rng.uniform(-3, 3, size=(15, 8, 5))).float()
    exact = 2 - x.norm(dim=1).numpy()
    few, many = (
        walk(x, starts, lambda p: (p.norm(dim=1) < 2).numpy(), np.ones(15, dtype=bool), budget).distances
        for budget in (200, 8000)
    )
    assert (exact * (1 - 1e-5) <= many).all()
    assert (many <= few).all()
    assert (many - exact).mean() < 0.3 * (few - exact).mean()
