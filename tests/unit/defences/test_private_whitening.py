"""The one release in front of the network: its sensitivity, its noise, its event, and what it is composed with."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sfumato.accounting.accountants.pld import PLD
from sfumato.accounting.guarantee import Guarantee
from sfumato.accounting.mechanisms.gaussian import Gaussian
from sfumato.data.population import Population, Unit
from sfumato.defences.dpsgd import DPSGD
from sfumato.defences.private_whitening import (
    SENSITIVITY,
    Moments,
    PrivateWhitening,
    released,
    sums_over,
    whitening,
)
from sfumato.defences.undefended import Undefended
from sfumato.errors import NotPrivateError, UsageError
from sfumato.models.linear import LinearModel
from sfumato.private.noise.discrete_gaussian import DiscreteGaussian
from sfumato.private.noise.seeded import SeededNoise
from sfumato.training.checkpoint import Checkpoint
from sfumato.training.composition import update_of
from sfumato.training.preparation import Assignment, LoopOptions
from sfumato.training.recipe import Recipe
from sfumato.training.task import Optimizer, Task

TARGET = 4.0
STEPS = DPSGD(
    sample_rate=0.2,
    expected_batch_size=16,
    steps=6,
    delta=1e-5,
    adjacency="ADD_OR_REMOVE_ONE",
    target_epsilon=TARGET,
)
BOTH = PrivateWhitening(noise_multiplier=5.0, norm=2.0, inner=STEPS)
TASK = Task(model=LinearModel(start="zero"), schedule="constant", optimizer=Optimizer(lr=0.1))


def population(n: int = 80, **more) -> Population:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, 3, 2, 2)) * np.array([9.0, 1.0, 0.3])[:, None, None]
    return Population(x.astype(np.float32), more.get("unit", "example"), labels=np.arange(n) % 2, kind="image")


def fit(defence, data=None, options=None, task=TASK):
    data = data or population()
    recipe = Recipe(task, defence)
    return recipe, recipe.fit(data, [Assignment(np.arange(len(data)), 3)], options or LoopOptions())[0]


def vector(sums: Moments) -> torch.Tensor:
    """What is released, without noise."""
    upper = torch.triu_indices(*sums.second.shape)
    return torch.cat([sums.first.flatten(), sums.second[upper[0], upper[1]]])


extreme = st.floats(width=32, allow_nan=True, allow_infinity=True)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.lists(extreme, min_size=6, max_size=6), min_size=1, max_size=4), st.integers(0, 3))
def test_no_record_moves_the_sums_by_more_than_the_bound(values, position):
    shape = (3, 2)
    x = torch.tensor(values, dtype=torch.float32).reshape(-1, *shape)
    added = x[position % len(x)]
    without = torch.cat([x[: position % len(x)], x[position % len(x) + 1 :]])
    moved = vector(sums_over([x], shape)) - vector(sums_over([without], shape))
    assert moved.isfinite().all()
    assert moved.norm() <= SENSITIVITY
    alone = vector(sums_over([added[None]], shape))
    assert alone.norm() <= SENSITIVITY


def test_the_bound_is_reached():
    """A record in one entry alone: the bound is no looser than it must be."""
    record = torch.zeros(1, 3, 2)
    record[0, 1, 1] = -7.0
    assert float(vector(sums_over([record], (3, 2))).norm()) == pytest.approx(SENSITIVITY, rel=1e-5)


def test_the_sums_are_those_of_a_slow_twin_however_they_are_cut():
    x = population(7).tensor(np.arange(7))
    first, second = torch.zeros(3, 4, dtype=torch.float64), torch.zeros(3, 3, dtype=torch.float64)
    for record in x.double():
        a = (record / record.norm()).reshape(3, 4)
        first += a
        for p in range(4):
            second += torch.outer(a[:, p], a[:, p])
    for parts in ([x], x.split(2)):
        found = sums_over(parts, (3, 4))
        assert torch.allclose(found.first, first, atol=1e-4)
        assert torch.allclose(found.second, second, atol=1e-4)


def test_each_released_number_gets_the_noise_once():
    plan, source = STEPS.plan(population()), SeededNoise(0)
    nothing = Moments(torch.zeros(30, 40, dtype=torch.float64), torch.zeros(30, 30, dtype=torch.float64))
    noisy = released(nothing, 7.0, plan, source)
    assert torch.equal(noisy.second, noisy.second.T)
    drawn = vector(noisy)
    assert len(drawn.unique()) == len(drawn)
    assert float(drawn.std()) == pytest.approx(7.0, rel=0.15)  # 1,665 draws: 9 standard errors
    assert float(drawn.std()) != pytest.approx(7.0 / SENSITIVITY, rel=0.15)


def test_a_kind_of_noise_that_rounds_takes_its_share_of_the_bound():
    plan = replace(STEPS.plan(population()), noise=DiscreteGaussian())
    sums = sums_over([population().tensor(np.arange(80))], (3, 4))
    noisy = vector(released(sums, 1e-3, plan, SeededNoise(0)))
    assert float((noisy - vector(sums)).norm()) < 0.2


def test_without_noise_it_whitens():
    x = population(4000).tensor(np.arange(4000))
    found = whitening(sums_over([x], (3, 4)), 0.5, 1e-9)
    a = (x / x.flatten(1).norm(dim=1).view(-1, 1, 1, 1)).reshape(-1, 3, 4)
    out = torch.matmul(found.matrix, a - found.mean).transpose(0, 1).reshape(3, -1)
    covariance = out @ out.T / len(x)
    total = float((a - found.mean).square().sum() / len(x))
    assert torch.allclose(covariance, total * torch.eye(3), atol=1e-3)
    assert (found.matrix.norm(dim=1).diff() > 0).all()  # of largest variance first


def test_numbers_that_are_all_noise_still_give_a_finite_map():
    noise = Moments(torch.full((3, 4), 5.0).double(), -torch.eye(3).double())
    found = whitening(noise, 0.5, 0.01)
    assert found.mean.isfinite().all()
    assert found.matrix.isfinite().all()


def test_the_steps_are_calibrated_for_the_composition():
    alone, both = update_of(STEPS, population()), update_of(BOTH, population())
    assert alone is not None
    assert both is not None
    assert both.noise_multiplier > alone.noise_multiplier
    _, model = fit(BOTH)
    found = model.guarantee
    assert isinstance(found, Guarantee)
    assert 0.98 * TARGET < found.epsilon <= TARGET
    release = Gaussian(noise_multiplier=5.0, steps=1, adjacency=STEPS.adjacency)
    assert found.mechanisms[0] == release
    steps = alone.sampler.mechanism(alone.noise_multiplier, alone.steps, alone.adjacency)
    assert PLD().epsilon([release, steps], 1e-5) > TARGET  # the noise for the steps alone would have broken the target


def test_given_noise_is_taken_as_it_is_and_the_release_still_counts():
    given_noise = replace(STEPS, target_epsilon=None, noise_multiplier=2.0)
    _, alone = fit(given_noise)
    _, both = fit(replace(BOTH, inner=given_noise))
    assert both.guarantee.mechanisms[-1].noise_multiplier == 2.0
    assert both.guarantee.epsilon > alone.guarantee.epsilon


def test_the_layer_travels_with_the_weights_and_is_not_trained():
    recipe, model = fit(BOTH)
    network = recipe.network(model, population())
    x = population().tensor(np.arange(5))
    assert torch.allclose(network[0](x).flatten(1).norm(dim=1), torch.full((5,), 2.0), atol=1e-4)
    assert {name.split(".")[0] for name, _ in network.named_parameters()} == {"1"}
    assert not torch.equal(network[0].matrix, torch.eye(3))
    assert torch.allclose(recipe.predictor(model, population())(x), network(x))
    assert model.history.events[0].purpose.startswith("private-whitening")


def test_a_seed_repeats_the_fit_and_a_release_never_does():
    audit = [fit(BOTH)[1].state["0.matrix"] for _ in range(2)]
    assert torch.equal(*audit)
    fresh = [fit(BOTH, options=LoopOptions(release=True))[1] for _ in range(2)]
    assert not torch.equal(fresh[0].state["0.matrix"], fresh[1].state["0.matrix"])
    assert not fresh[0].guarantee.audit_only


def test_a_training_that_goes_on_keeps_the_fit_it_began_with(tmp_path):
    class Stopped(Exception):
        pass

    def stop(epoch) -> None:
        if epoch.epoch == 2:
            raise Stopped

    options = LoopOptions(checkpoint=Checkpoint(tmp_path / "c", "key", every=0.0), release=True, on_epoch=stop)
    steps = replace(STEPS, sample_rate=0.5)  # three epochs of two steps
    with pytest.raises(Stopped):
        fit(replace(BOTH, inner=steps), options=options)
    saved = options.checkpoint.load()
    _, model = fit(replace(BOTH, inner=steps), options=replace(options, on_epoch=None))
    assert torch.equal(model.state["0.matrix"], saved.tensors["front.matrix"])


def test_what_cannot_be_is_refused():
    patients = population(unit=Unit("patient", np.repeat(np.arange(40), 2)))
    with pytest.raises(NotPrivateError, match="units of one record"):
        fit(replace(BOTH, inner=replace(STEPS, max_records_per_unit=2)), patients)
    with pytest.raises(UsageError, match="a private update inside private-whitening"):
        fit(PrivateWhitening(inner=Undefended()))
    with pytest.raises(UsageError, match="one layer in front"):
        fit(replace(BOTH, inner=BOTH))
    with pytest.raises(UsageError, match="no augmentation"):
        fit(BOTH, task=replace(TASK, augmentation=("flip",)))
    with pytest.raises(UsageError, match="noise_multiplier"):
        PrivateWhitening(noise_multiplier=0.0)


def test_a_ledger_that_hears_of_steps_alone_is_refused():
    class Steps:
        def step(self) -> None:
            pass

    with pytest.raises(NotPrivateError, match="charged for all"):
        fit(BOTH, options=LoopOptions(release=True, charge=Steps()))


def test_no_other_scaling_stands_beside_it():
    for order in (BOTH, replace(STEPS, inner=replace(BOTH, inner=None))):
        assert sorted(fit(order)[1].state) == ["0.matrix", "0.mean", "1.0.1.bias", "1.0.1.weight"]
