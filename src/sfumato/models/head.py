"""Where a network's classification layer is."""

from __future__ import annotations

from torch import nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

from sfumato.errors import UnsupportedModel


def head_name(model: nn.Module) -> str:
    """The dotted name of the last linear layer in the order of registration ("" if the model is that layer itself).

    In a network whose layers are registered in another order than they run, this may be another layer than the last
    one to run. Output projections inside attention layers do not count: they are never called as layers.

    Raises:
        UnsupportedModel: if there is no linear layer.
    """
    linear = [
        name
        for name, layer in model.named_modules()
        if isinstance(layer, nn.Linear) and not isinstance(layer, NonDynamicallyQuantizableLinear)
    ]
    if not linear:
        raise UnsupportedModel(
            f"Expected a network that ends in a linear layer, got {type(model).__name__} without one.",
            remedy="Give the network an `nn.Linear` as its last layer.",
        )
    return linear[-1]


def replace_layer(model: nn.Module, name: str, layer: nn.Module) -> nn.Module:
    """`model` with `layer` in the place called `name`, changed in place; "" replaces the model itself."""
    if not name:
        return layer
    parent, _, attribute = name.rpartition(".")
    setattr(model.get_submodule(parent), attribute, layer)
    return model
