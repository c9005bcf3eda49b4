"""Networks in which one region comes from elsewhere: transplanted, rewound and tuned, or frozen at its start.

They take trainings apart in order to measure them (`sfumato probe`); nobody releases such a network as a defence.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from sfumato.errors import UsageError
from sfumato.models.regions import Region, Regions, put, train_only
from sfumato.sde.streams import set_noise
from sfumato.training.defence import Defence
from sfumato.training.workshop import CHUNK, Workshop
from sfumato.validate import at_least

State = Mapping[str, torch.Tensor]


@dataclass(frozen=True, kw_only=True)
class _Variant(Defence):
    """What the variants share.

    Args:
        regions: how the network is divided.
        region: the one that is treated.
        ordinary: state of the ordinarily trained network; given when it is trained, and no part of its configuration.
        private: state of the network trained with a defence, likewise.
    """

    family: ClassVar[str] = "none"
    summary: ClassVar[str] = "Takes a training apart, region by region."
    hosts_update: ClassVar[bool] = True

    regions: Regions = field(default_factory=Regions)
    region: str = "head"
    ordinary: State = field(default_factory=dict, repr=False, compare=False)
    private: State = field(default_factory=dict, repr=False, compare=False)

    def _named(self, network: nn.Module) -> Region:
        return self.regions.region(network, self.region)


@dataclass(frozen=True, kw_only=True)
class RegionFrozen(_Variant):
    """Keeps a region at its initial values and trains the rest."""

    name: ClassVar[str] = "region-frozen"

    def prepare(self, model: nn.Module) -> nn.Module:
        frozen = set(self._named(model).parameters)
        names = [name for name, _ in model.named_parameters(remove_duplicate=False)]
        return train_only(model, [name for name in names if name not in frozen])


@dataclass(frozen=True, kw_only=True)
class RegionRewound(_Variant):
    """Puts a region of the ordinarily trained network back to its initial values and trains it alone.

    The objective and the update are those of what it is wrapped around.

    Args:
        epochs: of the region's training.
        share: these epochs over those of an ordinary training, for plans.
    """

    name: ClassVar[str] = "region-rewound"

    epochs: int = 4
    share: float = 1.0

    def __post_init__(self) -> None:
        at_least("epochs", self.epochs, 1)

    @property
    def trainings(self) -> float:
        return self.share

    def course(self, workshop: Workshop) -> nn.Module:
        network = workshop.network()
        region, initial = self._named(network), copied(network.state_dict())
        put(network, _given(self.ordinary, network), initial.keys())
        put(network, initial, region.state)
        train_only(network, region.parameters)
        return workshop.fit("region", network, epochs=self.epochs, protected=True)


@dataclass(frozen=True, kw_only=True)
class RegionTransplanted(_Variant):
    """Puts a region of the network that was trained with a defence into the ordinarily trained one.

    The statistics of batch normalisation, which fit neither of the two any more, are estimated again on the training
    records.
    """

    name: ClassVar[str] = "region-transplanted"
    hosts_update: ClassVar[bool] = False

    @property
    def trainings(self) -> float:
        return 0.05

    def course(self, workshop: Workshop) -> nn.Module:
        network = workshop.network()
        put(network, _given(self.ordinary, network), network.state_dict().keys())
        put(network, _given(self.private, network), self._named(network).state)
        set_noise(network, workshop.draws.at("statistics"))
        if estimate_statistics(network, workshop.x[workshop.fit_rows]):
            workshop.note("statistics of batch normalisation, estimated again")
        return network.eval()


def estimate_statistics(network: nn.Module, x: torch.Tensor) -> bool:
    """Means and variances of batch normalisation as averages over batches of `x` [k, *shape]; nothing else changes.

    Returns:
        Whether there is such a layer.
    """
    layers = [layer for layer in network.modules() if isinstance(layer, _BatchNorm) and layer.track_running_stats]
    momenta = [layer.momentum for layer in layers]
    network.eval()
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # a plain average over the batches
        layer.train()
    with torch.no_grad():
        for part in (
            x.tensor_split(-(-len(x) // CHUNK)) if layers else ()
        ):  # of nearly one size: one record has no spread
            network(part)
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
    network.eval()
    return bool(layers)


def copied(state: State) -> dict[str, torch.Tensor]:
    """A state that later steps do not change."""
    return {name: value.detach().clone() for name, value in state.items()}


def _given(state: State, network: nn.Module) -> State:
    own = network.state_dict()
    wrong = [name for name in own if name not in state or state[name].shape != own[name].shape]
    if wrong or len(state) != len(own):
        raise UsageError(
            f"Expected the state of the same network, got {len(state)} tensors in place of {len(own)}"
            + (f", none that fits `{wrong[0]}`." if wrong else "."),
            remedy="Choose a defence that leaves the layers of the network as they are.",
        )
    return state
