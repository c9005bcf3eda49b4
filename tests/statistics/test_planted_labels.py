"""A network that memorises gives planted labels away; for records that it never saw it tells nothing."""

import numpy as np
import pytest
import torch
from scipy.stats import binom
from torch import nn

from sfumato.attacks.inversion.evidence import LabelEvidence
from sfumato.attacks.inversion.planted_label import PlantedLabel
from sfumato.defences.undefended import Undefended
from sfumato.targets.boundary import Box
from sfumato.targets.oracle import oracle_of

ERROR = 1e-4  # of each of the two assertions about those that were not seen
CLASSES, COUNT, WIDTH = 10, 300, 20


@pytest.mark.statistical
@pytest.mark.parametrize("calibration", ["none", "asked"])
def test_planted_labels_are_found_for_members_only(calibration):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2 * COUNT, WIDTH)).astype(np.float32)
    true = rng.integers(0, CLASSES, 2 * COUNT)
    planted = (true + rng.integers(1, CLASSES, 2 * COUNT)) % CLASSES
    box = Box(torch.full((WIDTH,), -9.0), torch.full((WIDTH,), 9.0), torch.ones(WIDTH))
    oracle = oracle_of(memorised(x[:COUNT], planted[:COUNT]), Undefended(), (WIDTH,), CLASSES, box, seed=0, name="m")
    evidence = LabelEvidence(oracle.restricted_to("scores"), x, true, 0)
    right = PlantedLabel(calibration=calibration).reconstruct(evidence).records[:, 0, 0] == planted
    assert right[:COUNT].mean() > 0.9
    chance = binom(COUNT, 1 / (CLASSES - 1))
    assert chance.ppf(ERROR) <= right[COUNT:].sum() <= chance.isf(ERROR)


def memorised(x, labels):
    """A network trained until it knows these labels by heart."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(WIDTH, 256), nn.ReLU(), nn.Linear(256, CLASSES))
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    for _ in range(150):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(torch.from_numpy(x)), torch.from_numpy(labels)).backward()
        optimizer.step()
    return network.eval()
