"""Initial weights of the residual networks."""

from __future__ import annotations

from torch import nn


def initialise_residual(model: nn.Module) -> nn.Module:
    """Kaiming-normal (fan out, ReLU) convolutions and zero biases of linear layers, in place (He et al., 2015)."""
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(layer, nn.Linear):
            nn.init.zeros_(layer.bias)
    return model
