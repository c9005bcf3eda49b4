"""Attacks on answers against slow twins that follow the formula word by word."""

import numpy as np
import torch

from sfumato.attacks.inversion.brep_mi import repulsion
from sfumato.attacks.inversion.fredrikson import error_statistics, weights_of_values


def fredrikson_by_hand(prior, truth, told, labels, answers, smoothing, classes):
    """For each record the value that maximises prior(v) * pi(y | y'), with pi counted record by record."""
    guesses = []
    for y, row in zip(labels, answers, strict=True):
        weights = []
        for v, answer in enumerate(row):
            same = [t for t, a in zip(truth, told, strict=True) if a == answer]
            right = sum(t == y for t in same)
            weights.append(prior[v] * (right + smoothing) / (len(same) + classes * smoothing))
        guesses.append(weights)
    return np.array(guesses)


def test_fredriksons_weights():
    rng = np.random.default_rng(3)
    for classes, values in ((2, 2), (3, 5), (7, 3)):
        truth, told = rng.integers(0, classes, (2, 80))
        labels, answers = rng.integers(0, classes, 30), rng.integers(0, classes, (30, values))
        prior = rng.dirichlet(np.ones(values))
        naive = fredrikson_by_hand(prior, truth, told, labels, answers, 0.5, classes)
        found = weights_of_values(prior, error_statistics(truth, told, classes, 0.5), labels, answers)
        np.testing.assert_allclose(found, naive / naive.sum(axis=1, keepdims=True))


def test_repulsion_of_brep_mi():
    generator = torch.Generator().manual_seed(0)
    units = torch.nn.functional.normalize(torch.randn(5, 32, 4, generator=generator), dim=2)
    inside = torch.rand(5, 32, generator=generator) < 0.6
    for walk in range(5):
        naive = torch.zeros(4)
        for point in range(32):
            vote = 1 if inside[walk, point] else -1
            naive += (vote - 1) / 2 * units[walk, point] / 32
        torch.testing.assert_close(repulsion(inside, units)[walk], naive)
