"""Samplers: draws, mechanisms, and orders that are refused."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import sfumato.private.sampling
from sfumato.accounting.adjacency import Adjacency
from sfumato.accounting.mechanisms.poisson_gaussian import PoissonGaussian
from sfumato.accounting.mechanisms.truncated_poisson_gaussian import TruncatedPoissonGaussian
from sfumato.canonical import canonical_json
from sfumato.errors import NotPrivateError, UsageError
from sfumato.private.noise import SeededNoise, SystemNoise
from sfumato.private.sampling import UNCOVERED, Poisson, Sampler, TruncatedPoisson, refuse_uncovered
from sfumato.private.sampling.truncated_poisson import random_subset
from sfumato.registry import discover

FOUND = discover(sfumato.private.sampling, Sampler)
EXAMPLES = {
    "poisson": Poisson(sample_rate=0.3),
    "truncated-poisson": TruncatedPoisson(sample_rate=0.3, max_batch_size=10, units=40),
}
every_sampler = pytest.mark.parametrize("sampler", EXAMPLES.values(), ids=list(EXAMPLES))


def test_the_examples_are_all_there_are():
    assert set(FOUND) == set(EXAMPLES)


@every_sampler
def test_a_sampler_is_its_own_configuration(sampler):
    assert sampler.summary
    assert sampler.reference in sampler.bibtex
    assert sampler.name in canonical_json({sampler.name: sampler})
    with pytest.raises(dataclasses.FrozenInstanceError):
        sampler.sample_rate = 1.0
    assert not hasattr(sampler, "expected")


@every_sampler
def test_draws_are_distinct_positions_in_order(sampler):
    for step in range(50):
        drawn = sampler.draw(40, SeededNoise(1).at(step))
        assert drawn.dtype == np.int64
        assert np.all(np.diff(drawn) > 0)
        assert not len(drawn) or (drawn[0] >= 0 and drawn[-1] < 40)


@every_sampler
def test_the_same_address_gives_the_same_draw_and_another_another(sampler):
    draws = [tuple(sampler.draw(40, SeededNoise(1).at("sample", step))) for step in range(30)]
    again = [tuple(sampler.draw(40, SeededNoise(1).at("sample", step))) for step in range(15, 30)]
    assert draws[15:] == again  # a run that resumes at step 15
    assert len(set(draws)) == 30
    system = SystemNoise()
    assert tuple(sampler.draw(40, system)) != tuple(sampler.draw(40, system)) or sampler.draw(40, system).size


def test_extreme_rates_and_no_units():
    assert len(Poisson(sample_rate=1.0).draw(100, SystemNoise())) == 100
    assert len(Poisson(sample_rate=1e-9).draw(100, SystemNoise())) == 0
    assert len(Poisson(sample_rate=0.5).draw(0, SystemNoise())) == 0
    assert len(TruncatedPoisson(sample_rate=1.0, max_batch_size=7, units=100).draw(100, SystemNoise())) == 7


@pytest.mark.parametrize("rate", [0.0, -0.1, 1.5, float("nan")])
def test_a_rate_is_a_probability(rate):
    with pytest.raises(UsageError, match="sample_rate"):
        Poisson(sample_rate=rate)
    with pytest.raises(UsageError, match="sample_rate"):
        TruncatedPoisson(sample_rate=rate, max_batch_size=1, units=1)


def test_the_mechanism_is_that_of_the_sampler():
    assert EXAMPLES["poisson"].mechanism(1.5, 20, Adjacency.ADD_OR_REMOVE_ONE) == PoissonGaussian(
        sample_rate=0.3, noise_multiplier=1.5, steps=20, adjacency=Adjacency.ADD_OR_REMOVE_ONE
    )
    assert EXAMPLES["truncated-poisson"].mechanism(1.5, 20, Adjacency.REPLACE_ONE) == TruncatedPoissonGaussian(
        sample_rate=0.3, noise_multiplier=1.5, steps=20, units=40, max_batch_size=10, adjacency=Adjacency.REPLACE_ONE
    )


def test_truncated_sampling_needs_a_public_number_of_units():
    sampler = EXAMPLES["truncated-poisson"]
    with pytest.raises(NotPrivateError, match="keeps secret"):
        sampler.mechanism(1.0, 1, Adjacency.ADD_OR_REMOVE_ONE)
    with pytest.raises(NotPrivateError, match="40 units"):
        sampler.draw(41, SystemNoise())
    for wrong in ({"max_batch_size": 0}, {"units": 0}):
        with pytest.raises(UsageError):
            dataclasses.replace(sampler, **wrong)


@pytest.mark.parametrize("name", [*UNCOVERED, "Shuffle", "fixed_size", "fixed-size without replacement"])
def test_orders_without_an_accounting_are_refused_by_name(name):
    with pytest.raises(NotPrivateError, match=r"(?s)accountants cover.*Poisson"):
        refuse_uncovered(name)


def test_the_reason_is_the_measured_one():
    with pytest.raises(NotPrivateError, match=r"up to 4 times .* up to 10 times .*2411\.10614"):
        refuse_uncovered("shuffle")
    with pytest.raises(UsageError, match="name of a sampler"):
        refuse_uncovered("poison")


def test_a_random_subset_is_a_subset():
    for size in (0, 1, 5, 9):
        found = random_subset(9, size, SystemNoise())
        assert len(found) == size
        assert np.all(np.diff(found) > 0)
        assert set(found.tolist()) <= set(range(9))
