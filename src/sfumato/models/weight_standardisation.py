"""Convolution with standardised weights, as in the recipe of De et al. (2022, arXiv 2204.13650)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from sfumato.private.rules.weight_standardisation import weight_standardise

__all__ = ["WSConv2d", "weight_standardise"]


class WSConv2d(nn.Conv2d):
    """`torch.nn.Conv2d` whose filters have mean zero and variance gain^2 / fan-in.

    Args:
        *args: of `torch.nn.Conv2d`.
        eps: added to the variance of a filter.
        **kwargs: of `torch.nn.Conv2d`.
    """

    def __init__(self, *args: Any, eps: float = 1e-5, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.eps = eps
        self.gain = nn.Parameter(torch.ones(self.out_channels, device=self.weight.device, dtype=self.weight.dtype))

    def forward(self, input: Tensor) -> Tensor:
        """[rows, channels, height, width] to the same with `out_channels`."""
        return self._conv_forward(input, weight_standardise(self.weight, self.gain, self.eps), self.bias)
