import numpy as np
import pytest
from scipy.stats import norm

from sfumato.accounting.composition import (
    Part,
    chernoff,
    composed,
    epsilon_of_one,
    tilted,
    window,
)
from sfumato.accounting.privacy_loss import (
    StepLoss,
    mixed,
    replaced_gaussian,
    sampled_gaussian,
    trimmed,
)

SETTINGS = [(1.0, 0.01), (0.5, 0.2), (3.0, 0.7), (1.0, 1.0), (10.0, 1e-4)]


def hockey_stick(loss, epsilon):
    """Naive delta of a discrete loss."""
    values = loss.positions * loss.interval
    return loss.infinite + float(np.sum(loss.masses * np.maximum(0, 1 - np.exp(epsilon - values))))


def true_deltas(noise, rate, epsilon, replaced):
    """Both orders, by adding up a fine grid of outcomes."""
    x = np.linspace(-1 - 10 * noise, 1 + 10 * noise, 200_001)
    zero, up, down = (norm.pdf(x, mean, noise) for mean in (0, 1, -1))
    first = (1 - rate) * zero + rate * up
    second = (1 - rate) * zero + rate * down if replaced else zero
    step = x[1] - x[0]
    return tuple(
        float(np.maximum(0.0, one - np.exp(epsilon) * two).sum() * step)
        for one, two in ((first, second), (second, first))
    )


@pytest.mark.parametrize(("noise", "rate"), SETTINGS)
@pytest.mark.parametrize("replaced", [False, True])
def test_the_rounded_loss_is_never_too_small_and_hardly_too_large(noise, rate, replaced):
    scale = min(1.0, rate / noise)
    losses = (replaced_gaussian if replaced else sampled_gaussian)(noise, rate, scale / 100)
    for epsilon in (0.0, 0.3 * scale, scale):
        for loss, truth in zip(losses, true_deltas(noise, rate, epsilon, replaced)):
            found = hockey_stick(loss, epsilon)
            assert truth * (1 - 1e-5) - 1e-12 <= found <= truth * 1.01 + 1e-4 * scale


@pytest.mark.parametrize("kind", [sampled_gaussian, replaced_gaussian])
@pytest.mark.parametrize(("noise", "rate"), SETTINGS)
def test_both_distributions_keep_their_mass(kind, noise, rate):
    for loss in kind(noise, rate, 1e-3):
        values = loss.positions * loss.interval
        assert loss.masses.sum() + loss.infinite == pytest.approx(1, abs=1e-12)
        assert (loss.masses * np.exp(-values)).sum() <= 1 + 1e-9  # of Q, without what only Q has
        assert (np.diff(loss.positions) > 0).all()
        assert (loss.masses >= 0).all()


def test_a_coarser_grid_is_hardly_larger():
    for epsilon in (0.0, 0.01, 0.5, 2.0):
        fine, coarse = (hockey_stick(sampled_gaussian(0.8, 0.1, unit).removed, epsilon) for unit in (1e-3, 4e-3))
        assert fine * (1 - 1e-3) <= coarse <= fine * 1.01


def test_huge_losses_stay_finite_numbers():
    loss = sampled_gaussian(3e-4, 1.0, 10.0).removed
    assert np.isfinite(loss.masses).all()
    assert loss.masses.sum() == pytest.approx(1)
    assert float(loss.masses @ loss.positions) * 10 == pytest.approx(0.5 / 3e-4**2, rel=1e-3)


def test_trimming_only_raises_delta_and_by_no_more_than_asked():
    loss = sampled_gaussian(0.5, 0.01, 1e-3).removed
    short = trimmed(loss, 1e-8)
    assert len(short.positions) < len(loss.positions)
    assert short.masses.sum() + short.infinite == pytest.approx(1)
    for epsilon in (0.0, 1.0, 5.0):
        assert 0 <= hockey_stick(short, epsilon) - hockey_stick(loss, epsilon) <= 2e-8


def test_a_mixture_is_the_weighted_sum():
    first, second = sampled_gaussian(1.0, 0.1, 1e-2), replaced_gaussian(0.5, 0.3, 1e-2)
    both = mixed(first, second, 0.25)
    for epsilon in (0.0, 0.5):
        for loss, a, b in zip(both, first, second):
            assert hockey_stick(loss, epsilon) == pytest.approx(
                0.25 * hockey_stick(a, epsilon) + 0.75 * hockey_stick(b, epsilon)
            )


def convolved(parts):
    """Naive composition, step by step."""
    found = {0: 1.0}
    for loss, times in parts:
        for _ in range(times):
            following = {}
            for at, mass in found.items():
                for position, more in zip(loss.positions.tolist(), loss.masses.tolist()):
                    following[at + position] = following.get(at + position, 0.0) + mass * more
            found = following
    positions = np.array(sorted(found))
    return StepLoss(parts[0].loss.interval, positions, np.array([found[p] for p in positions]), 0.0)


SMALL = StepLoss(0.1, np.array([-2, 0, 3]), np.array([0.3, 0.5, 0.2]), 0.0)
OTHER = StepLoss(0.1, np.array([-1, 1]), np.array([0.4, 0.6]), 0.0)
PARTS = [Part(SMALL, 4), Part(OTHER, 3)]


@pytest.mark.parametrize("order", [0.0, 2.0])
def test_composition_is_the_naive_convolution(order):
    twin, found = convolved(PARTS), composed(PARTS, order, window(PARTS, order))
    for epsilon in (0.0, 0.25, 0.7, 1.1):
        assert float(found.delta(np.array([epsilon]))[0]) == pytest.approx(hockey_stick(twin, epsilon), rel=1e-6)
    for delta in (0.2, 0.01):
        assert hockey_stick(twin, found.epsilon(delta)) == pytest.approx(delta, rel=1e-6)


def test_one_step_needs_no_transform():
    twin = convolved(PARTS)
    for delta in (0.3, 0.2, 0.01, 1e-5):
        epsilon = epsilon_of_one(twin, delta)
        assert hockey_stick(twin, epsilon) == pytest.approx(delta, rel=1e-9) or epsilon == 0
    assert epsilon_of_one(StepLoss(0.1, np.array([0]), np.array([0.9]), 0.1), 0.05) == np.inf
    assert epsilon_of_one(twin, 0.99) == 0


def test_infinite_losses_add_up():
    leaky = SMALL._replace(masses=SMALL.masses * 0.99, infinite=0.01)
    parts = [Part(leaky, 5)]
    found = composed(parts, 0.0, window(parts))
    assert found.infinite == pytest.approx(1 - 0.99**5)
    assert found.epsilon(0.04) == np.inf


def test_chernoff_bounds_hold():
    twin = convolved(PARTS)
    values = twin.positions * twin.interval
    for delta in (0.1, 1e-3):
        found = chernoff(PARTS, np.log(delta))
        assert twin.masses[values > found.high + 1e-9].sum() <= delta
        assert twin.masses[values < found.low - 1e-9].sum() <= delta
        assert hockey_stick(twin, found.high) <= delta


def test_tilting_keeps_a_distribution():
    leaning = tilted(SMALL, 3.0)
    assert leaning.masses.sum() == pytest.approx(1)
    weights = SMALL.masses * np.exp(3.0 * SMALL.positions * 0.1)
    assert leaning.masses == pytest.approx(weights / weights.sum())
