"""A stochastic differential equation as functions of time and state."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch

Drift = Callable[[float, torch.Tensor], torch.Tensor]
Diffusion = Callable[[float, torch.Tensor, torch.Tensor], "torch.Tensor | float"]


class System(NamedTuple):
    """dh = drift(t, h) dt + diffusion(t, h) * dW, every value of the state with a Brownian motion of its own.

    Attributes:
        drift: time and state [batch, ...] to [batch, ...].
        diffusion: time, state and the drift there (which most ignore) to [batch, ...], to what broadcasts to it, or to
            a number where it is the same everywhere; None for an ordinary differential equation.
        slope: of the same arguments, the derivative of each value of the diffusion with respect to the same value of
            the state; None where the diffusion depends on other values of the state, too.
    """

    drift: Drift
    diffusion: Diffusion | None = None
    slope: Diffusion | None = None


def plus_noise(h: torch.Tensor, diffusion: torch.Tensor | float, dw: torch.Tensor) -> torch.Tensor:
    """h + diffusion * dw in one operation; a number costs no tensor, and autograd keeps nothing of it.

    Args:
        h: [batch, ...].
        diffusion: what broadcasts to `h`, or a number.
        dw: of the shape of `h`.
    """
    if isinstance(diffusion, torch.Tensor):
        return torch.addcmul(h, diffusion, dw)
    return torch.add(h, dw, alpha=diffusion)
