"""Building a network from a seed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from sfumato.models.base import ModelFamily
from sfumato.seeding import Name, derive


def build_seeded(family: ModelFamily, shape: tuple[int, ...], outputs: int, seed: int) -> nn.Module:
    """A fresh network whose initial weights depend on `seed` alone; torch's CPU generator is put back afterwards.

    Args:
        family: the kind of network.
        shape: of one record, see `ModelFamily.build`.
        outputs: number of logits.
        seed: the model's own seed; the weights come from its stream "init".
    """
    with drawn_from(seed, "init"):
        return family.build(shape, outputs)


@contextmanager
def drawn_from(seed: int, *names: Name) -> Iterator[None]:
    """Fresh weights come from this stream, not from where torch's CPU generator happens to be; it is put back after."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derive(seed, *names))  # not `torch.manual_seed`, which looks at devices
        yield
