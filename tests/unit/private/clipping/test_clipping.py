"""What every way to clip promises, found by discovery: no unit contributes more than the bound."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import sfumato.private.clipping
from sfumato.canonical import canonical_json
from sfumato.errors import UsageError
from sfumato.private.clipping import (
    AdaptiveQuantile,
    Automatic,
    Clipping,
    ClippingState,
    Flat,
    Global,
    Normalised,
    PerLayer,
    finite_mask,
)
from sfumato.private.noise import SeededNoise
from sfumato.registry import discover

FOUND = discover(sfumato.private.clipping, Clipping)
TENSORS = 3
EXAMPLES = {
    "flat": [Flat(max_grad_norm=0.7)],
    "automatic": [Automatic(), Automatic(max_grad_norm=3.0, gamma=1e-6)],
    "global": [Global(max_grad_norm=0.7)],
    "normalised": [Normalised(max_grad_norm=0.7)],
    "per-layer": [PerLayer(max_grad_norm=0.7), PerLayer(max_grad_norms=(0.1, 2.0, 30.0))],
    "adaptive-quantile": [AdaptiveQuantile(initial=0.7)],
}
METHODS = [method for methods in EXAMPLES.values() for method in methods]
every_method = pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)


def test_the_examples_are_all_there_are():
    assert set(FOUND) == set(EXAMPLES)


@every_method
def test_a_method_is_its_own_configuration(method):
    assert method.summary
    assert method.reference in method.bibtex
    assert canonical_json(method)
    with pytest.raises(dataclasses.FrozenInstanceError):
        method.name = "other"


def squares(gradients):
    """[units, tensors] squared norms of gradients given as a list of [units, entries]."""
    return torch.stack([g.square().sum(1) for g in gradients], dim=1)


@every_method
@DTYPES
@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), exponent=st.floats(-12, 12), spread=st.floats(0, 6))
def test_no_contribution_exceeds_the_bound(method, dtype, seed, exponent, spread):
    """At most C (1 + 1e-6), in exact arithmetic on the floating-point gradients and factors."""
    rng = np.random.default_rng(seed)
    scale = 10.0 ** (exponent + spread * rng.uniform(-1, 1, size=(8, TENSORS)))
    gradients = [torch.from_numpy(rng.normal(size=(8, 5)) * scale[:, [t]]).to(dtype) for t in range(TENSORS)]
    state = method.initial_state(TENSORS)
    factors = method.factors(squares(gradients), state)
    assert factors.shape == (8, TENSORS)
    assert factors.dtype == dtype
    assert bool((factors >= 0).all())
    clipped = squares([g.double() * factors[:, [t]].double() for t, g in enumerate(gradients)]).sum(1).sqrt()
    assert float(clipped.max()) <= method.sensitivity(state, TENSORS) * (1 + 1e-6)


@every_method
@DTYPES
def test_the_bound_is_reached_or_the_method_is_gentler(method, dtype):
    """A bound that nothing reaches would cost accuracy for nothing."""
    norms = torch.tensor([[1e4, 1e4, 1e4]], dtype=dtype).square()
    state = method.initial_state(TENSORS)
    reached = float((method.factors(norms, state).double() * norms.double().sqrt()).norm())
    expected = 0.0 if isinstance(method, Global) else method.sensitivity(state, TENSORS)
    assert reached == pytest.approx(expected, rel=3e-6)


@every_method
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_non_finite_unit_counts_as_zero_and_leaves_the_others_alone(method, bad):
    norms = torch.tensor([[0.1, 0.2, 0.3], [0.1, 0.2, 0.3], [0.1, 0.2, 0.3]])
    state = method.initial_state(TENSORS)
    good = method.factors(norms, state)
    norms[1, 2] = bad
    factors = method.factors(norms, state)
    assert finite_mask(norms).tolist() == [True, False, True]
    assert factors[1].tolist() == [0, 0, 0]
    assert torch.equal(factors[[0, 2]], good[[0, 2]])


@every_method
@DTYPES
def test_zero_and_slightly_negative_squares_are_zero_norms(method, dtype):
    state = method.initial_state(TENSORS)
    zero, negative, overflow = (
        method.factors(torch.full((1, TENSORS), value, dtype=dtype), state) for value in (0.0, -1e-9, 3e38)
    )
    assert bool(torch.isfinite(zero).all())
    assert torch.equal(zero, negative)
    assert bool(torch.isfinite(overflow).all())


@every_method
def test_an_empty_batch_is_a_batch(method):
    empty = torch.empty(0, TENSORS)
    state = method.initial_state(TENSORS)
    assert method.factors(empty, state).shape == (0, TENSORS)
    assert finite_mask(empty).shape == (0,)
    updated = method.updated(state, empty, torch.empty(0, dtype=torch.bool), SeededNoise(1), 10.0)
    assert all(0 < bound < math.inf for bound in updated.max_grad_norms)


@every_method
def test_only_adaptive_clipping_changes_its_state_or_the_noise(method):
    norms, state = torch.rand(20, TENSORS), method.initial_state(TENSORS)
    updated = method.updated(state, norms, torch.ones(20, dtype=torch.bool), SeededNoise(1), 20.0)
    adapts = isinstance(method, AdaptiveQuantile)
    assert (updated != state) == adapts
    assert (method.gradient_noise_multiplier(0.9, 20.0) != 0.9) == adapts
    assert method.gradient_noise_multiplier(0.0, 20.0) == 0


@every_method
@pytest.mark.parametrize("shape", [(4,), (4, 3, 1)])
def test_norms_are_a_matrix_in_float32_or_better(method, shape):
    state = method.initial_state(TENSORS)
    with pytest.raises(UsageError, match="units, tensors"):
        method.factors(torch.ones(shape), state)
    for dtype in (torch.bfloat16, torch.float16, torch.int64):
        with pytest.raises(UsageError, match="float32"):
            method.factors(torch.ones(4, TENSORS, dtype=dtype), state)


def test_sensitivities_are_the_exact_bounds():
    assert Flat(max_grad_norm=2.5).sensitivity(ClippingState((2.5,)), 7) == 2.5
    layers = PerLayer(max_grad_norms=(3.0, 4.0, 12.0))
    assert layers.sensitivity(layers.initial_state(3), 3) == 13
    even = PerLayer(max_grad_norm=2.0)
    assert even.sensitivity(even.initial_state(9), 9) == pytest.approx(2.0, rel=1e-15)
    assert AdaptiveQuantile(initial=1.0).sensitivity(ClippingState((0.3,)), 5) == 0.3  # today's bound, not the first


def test_per_layer_bounds_must_fit_the_model():
    layers = PerLayer(max_grad_norms=(1.0, 2.0))
    with pytest.raises(UsageError, match="3 bounds"):
        layers.initial_state(3)
    with pytest.raises(UsageError, match="2 tensors, got 3"):
        layers.factors(torch.ones(4, 3), layers.initial_state(2))
    with pytest.raises(UsageError, match="one for each of 3"):
        layers.sensitivity(layers.initial_state(2), 3)
    for wrong in ({}, {"max_grad_norm": 1.0, "max_grad_norms": (1.0,)}):
        with pytest.raises(UsageError, match="either"):
            PerLayer(**wrong)


@pytest.mark.parametrize(
    "make",
    [
        lambda bad: Flat(max_grad_norm=bad),
        lambda bad: Automatic(max_grad_norm=bad),
        lambda bad: Automatic(gamma=bad),
        lambda bad: Global(max_grad_norm=bad),
        lambda bad: Normalised(max_grad_norm=bad),
        lambda bad: PerLayer(max_grad_norm=bad),
        lambda bad: PerLayer(max_grad_norms=(1.0, bad)),
        lambda bad: AdaptiveQuantile(initial=bad),
        lambda bad: AdaptiveQuantile(initial=1.0, learning_rate=bad),
        lambda bad: AdaptiveQuantile(initial=1.0, count_noise_multiplier=bad),
        lambda bad: ClippingState((bad,)),
    ],
)
@pytest.mark.parametrize("bad", [0.0, -1.0, float("nan")])
def test_bounds_are_positive(make, bad):
    with pytest.raises(UsageError):
        make(bad)
    with pytest.raises(UsageError):
        ClippingState((math.inf,))
