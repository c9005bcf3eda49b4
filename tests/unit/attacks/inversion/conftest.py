from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from sfumato.attacks.inversion.evidence import ClassEvidence
from sfumato.data.population import Population
from sfumato.defences.undefended import Undefended
from sfumato.models.build import drawn_from
from sfumato.targets.boundary import Box
from sfumato.targets.oracle import image_box, oracle_of

CLASSES = 3


def population(x, kind):
    return Population(x, "example", labels=np.arange(len(x)) % 2, kind=kind)


def evidence_of(x, *, target=0, access="weights", seed=0, box=None, network=None):
    """Evidence about a target with random weights, and `x` as public records."""
    shape = x.shape[1:]
    with drawn_from(target, "target"):
        network = network or nn.Sequential(
            nn.Flatten(), nn.Linear(int(np.prod(shape)), 6), nn.Tanh(), nn.Linear(6, CLASSES)
        )
    oracle = oracle_of(
        network.eval(), Undefended(), shape, CLASSES, box or image_box(shape), seed=1, name=f"target-{target}"
    ).restricted_to(access)
    kind = "image" if len(shape) == 3 else "table"
    return ClassEvidence(oracle, np.arange(CLASSES), population(x, kind), seed)


@pytest.fixture(scope="session")
def evidence():
    """The function `evidence_of`."""
    return evidence_of


@pytest.fixture(scope="session")
def digits():
    """float32 [600, 1, 8, 8] in [0, 1]."""
    return (load_digits().images[:600, None] / 16).astype(np.float32)


@pytest.fixture(scope="session")
def table():
    """float32 [80, 5] in very different units, and a box around it."""
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(80, 5)) @ rng.normal(size=(5, 5)) * [1, 100, 1e-3, 5, 1] + [0, 500, 0, 3, -2]).astype("f4")
    return x, Box(*(torch.from_numpy(v) for v in (x.min(0), x.max(0), x.std(0))))
