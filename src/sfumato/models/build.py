"""Building a network from a seed."""

from __future__ import annotations

import torch
from torch import nn

from sfumato.models.base import ModelFamily
from sfumato.seeding import derive


def build_seeded(family: ModelFamily, shape: tuple[int, ...], outputs: int, seed: int) -> nn.Module:
    """A fresh network whose initial weights depend on `seed` alone; torch's CPU generator is put back afterwards.

    Args:
        family: the kind of network.
        shape: of one record, see `ModelFamily.build`.
        outputs: number of logits.
        seed: the model's own seed; the weights come from its stream "init".
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derive(seed, "init"))
        return family.build(shape, outputs)
