"""Mixup, record by record and model by model, with the streams drawn anew."""

import numpy as np
import torch

from sfumato.defences.mixup import Mixup
from sfumato.seeding import stream
from sfumato.training.defence import Batch
from sfumato.training.draws import Draws


def naive_mixup(x: np.ndarray, y: np.ndarray, seeds: tuple[int, ...], alpha: float) -> tuple[np.ndarray, np.ndarray]:
    size = len(x) // len(seeds)
    new_x, new_y = np.zeros_like(x), np.zeros_like(y)
    for model, seed in enumerate(seeds):
        weight = stream(seed, "step", 3, "mixup-weight").beta(alpha, alpha)
        partner = stream(seed, "step", 3, "mixup-partner").permutation(size)
        for row in range(size):
            here, other = model * size + row, model * size + partner[row]
            new_x[here] = weight * x[here] + (1 - weight) * x[other]
            new_y[here] = weight * y[here] + (1 - weight) * y[other]
    return new_x, new_y


def test_mixup():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(12, 2, 4, 4)), np.eye(3)[rng.integers(3, size=12)]
    seeds = (4, 5, 6)
    expected_x, expected_y = naive_mixup(x, y, seeds, 0.4)
    batch = Batch(torch.from_numpy(x), torch.from_numpy(y))
    out = Mixup(alpha=0.4).transform(batch, Draws(seeds, ("step", 3)))
    np.testing.assert_allclose(out.x.numpy(), expected_x, atol=1e-12)
    np.testing.assert_allclose(out.targets.numpy(), expected_y, atol=1e-12)
