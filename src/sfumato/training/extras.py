"""What an objective needs besides the outputs: features of the last hidden layer, and parameters of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import nn

from sfumato.errors import UnsupportedModel
from sfumato.models.head import head_name
from sfumato.training.task import Optimizer


class Extra(NamedTuple):
    """Parameters of a defence beside the network's: trained with it, and thrown away afterwards.

    They learn from the private records, so under a private update they are clipped and get noise as the network's do.

    Args:
        module: holds them.
        optimizer: theirs; its learning rate is constant.
    """

    module: nn.Module
    optimizer: Optimizer


class Taken(NamedTuple):
    """The features of the passes so far, oldest first; each [rows, D]."""

    passes: list[torch.Tensor]

    def last(self) -> torch.Tensor:
        """Of the only pass.

        Raises:
            UnsupportedModel: if the last linear layer ran never or several times.
        """
        if len(self.passes) != 1:
            raise UnsupportedModel(
                f"Expected the last linear layer to run once in a pass, it ran {len(self.passes)} times.",
                remedy="Let the network end in one `nn.Linear` that is called as a layer.",
            )
        return self.passes[0]


@contextmanager
def features_of(network: nn.Module) -> Iterator[Taken]:
    """What the last linear layer is given while this is open, flattened to [rows, D].

    Raises:
        UnsupportedModel: if there is no linear layer.
    """
    taken = Taken([])
    head = network.get_submodule(head_name(network))
    handle = head.register_forward_pre_hook(lambda _, given: taken.passes.append(given[0].flatten(1)))
    try:
        yield taken
    finally:
        handle.remove()


def feature_size(network: nn.Module, shape: tuple[int, ...]) -> int:
    """D, the number of features of a record of this shape. The network is run once in eval mode."""
    training, dtype = network.training, next(network.parameters()).dtype
    with torch.no_grad(), features_of(network) as taken:
        network.eval()(torch.zeros(1, *shape, dtype=dtype))
    network.train(training)
    return taken.last().shape[1]


class WithExtras(nn.Module):
    """A network and the extra parameters of its objective as one module, for an update that must see them all."""

    def __init__(self, network: nn.Module, extras: Mapping[str, Extra]) -> None:
        super().__init__()
        self.network = network
        self.extras = nn.ModuleDict({name: extra.module for name, extra in extras.items()})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.network(x)
