"""Input scaling with public constants, as layers: no record is read for it."""

from __future__ import annotations

import torch
from torch import nn

from sfumato.errors import UsageError
from sfumato.models.standardise import Standardise
from sfumato.training.task import PublicScaling


class SignedLog(nn.Module):
    """sign(x) log(1 + |x|): tames columns of unknown scale without reading them."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Any shape to the same shape."""
        return torch.sign(x) * torch.log1p(torch.abs(x))


def public_scaling(scaling: PublicScaling, width: int) -> list[nn.Module]:
    """The layers in front of a network with `width` features or channels."""
    layers: list[nn.Module] = [SignedLog()] if scaling.log else []
    if scaling.mean == 0.0 and scaling.std == 1.0:
        return layers
    return [*layers, Standardise(_spread("mean", scaling.mean, width), _spread("std", scaling.std, width))]


def _spread(name: str, value: float | tuple[float, ...], width: int) -> torch.Tensor:
    if isinstance(value, tuple) and len(value) == 1:  # as a command line writes one number
        value = value[0]
    if isinstance(value, tuple) and len(value) != width:
        raise UsageError(
            f"Expected one `{name}` for all or one for each of {width} features or channels, got {len(value)}.",
            remedy="Give public constants in the order of the columns.",
        )
    return torch.tensor(value if isinstance(value, tuple) else (value,) * width)
