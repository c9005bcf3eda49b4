import numpy as np
import pytest
import torch

from sfumato.attacks.membership.quantile_fits import (
    BoostedFit,
    NetworkFit,
    exceedance_levels,
    gaussian_loss,
    pinball_loss,
)
from sfumato.data.records import ArrayRecords
from sfumato.models.mlp import MLP


@pytest.fixture(scope="module")
def regression():
    """Scores with mean 3x and spread 0.5 + |x|; the first 600 of 800 records are known non-members."""
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, size=(800, 1))
    scores = 3 * x[:600, 0] + (0.5 + np.abs(x[:600, 0])) * rng.normal(size=600)
    common = {"records": ArrayRecords(x), "labels": np.arange(800) % 2, "public": np.arange(600), "scores": scores}
    return x[:, 0], common | {"seed": 1}


def fits(common, exceedance):
    network = NetworkFit(**common, exceedance=exceedance, model=MLP(hidden=(16,)), epochs=60)
    return [BoostedFit(**common, exceedance=exceedance), network]


def test_losses_match_loops():
    rng = np.random.default_rng(0)
    predicted, scores, below = rng.normal(size=(5, 3)), rng.normal(size=5), np.array([0.1, 0.5, 0.9])
    u = [[scores[i] - predicted[i, j] for j in range(3)] for i in range(5)]
    expected = np.mean(
        [below[j] * u[i][j] if u[i][j] > 0 else (below[j] - 1) * u[i][j] for i in range(5) for j in range(3)]
    )
    found = pinball_loss(torch.from_numpy(predicted), torch.from_numpy(scores), torch.from_numpy(below))
    assert float(found) == pytest.approx(expected)
    gaussian = np.mean(
        [np.log(np.exp(p[1])) + (s - p[0]) ** 2 / (2 * np.exp(p[1]) ** 2) for p, s in zip(predicted, scores)]
    )
    found = gaussian_loss(torch.from_numpy(predicted[:, :2]), torch.from_numpy(scores))
    assert float(found) == pytest.approx(gaussian)


@pytest.mark.parametrize("kind", [0, 1], ids=["boosted", "network"])
def test_gaussian_head_learns_location_and_scale(kind, regression):
    x, common = regression
    found = fits(common, np.empty(0))[kind].run()
    assert found["location"].shape == found["scale"].shape == (800,)
    assert (found["scale"] > 0).all()
    assert np.corrcoef(found["location"][600:], 3 * x[600:])[0, 1] > 0.9
    assert np.corrcoef(found["scale"][600:], np.abs(x[600:]))[0, 1] > 0.3


@pytest.mark.parametrize("kind", [0, 1], ids=["boosted", "network"])
def test_quantiles_cover_what_they_say(kind, regression):
    x, common = regression
    exceedance = np.array([0.9, 0.5, 0.1])
    quantiles = fits(common, exceedance)[kind].run()["quantiles"]
    rng = np.random.default_rng(7)
    fresh = 3 * x[600:] + (0.5 + np.abs(x[600:])) * rng.normal(size=200)
    np.testing.assert_allclose((fresh[:, None] > quantiles[600:]).mean(axis=0), exceedance, atol=0.12)


def test_levels_fall_from_almost_all_to_one_in_a_hundred():
    levels = exceedance_levels(41)
    assert len(levels) == 41
    assert (np.diff(levels) < 0).all()
    assert (levels[0], levels[-1]) == pytest.approx((0.99, 0.01))


def test_key_follows_records_scores_and_model(regression):
    _, common = regression
    base = NetworkFit(**common, exceedance=np.empty(0), model=MLP(hidden=(16,)), epochs=3)
    other_records = NetworkFit(
        **{**common, "records": ArrayRecords(common["records"].array + 1)},
        exceedance=np.empty(0),
        model=MLP(hidden=(16,)),
        epochs=3,
    )
    other_model = NetworkFit(**common, exceedance=np.empty(0), model=MLP(hidden=(17,)), epochs=3)
    other_scores = NetworkFit(
        **{**common, "scores": common["scores"] * 2}, exceedance=np.empty(0), model=MLP(), epochs=3
    )
    assert len({base.key, other_records.key, other_model.key, other_scores.key}) == 4
