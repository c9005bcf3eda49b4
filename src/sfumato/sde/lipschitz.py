"""Drifts with an enforced Lipschitz constant: layers divided by what their norm exceeds, and activations that keep it.

Norms are with respect to the L2 norm of a whole state. They are computed in double precision and raised by `ROUNDING`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from sfumato.errors import NotPrivateError
from sfumato.validate import positive

ROUNDING = 1e-5  # share by which constants are raised, so that rounding in single precision cannot exceed them
Map = Callable[[torch.Tensor], torch.Tensor]

ACTIVATIONS: tuple[type[nn.Module], ...] = (
    nn.Identity,
    nn.ReLU,
    nn.Tanh,
    nn.Sigmoid,
    nn.Softsign,
    nn.LogSigmoid,
    nn.Hardtanh,
    nn.ReLU6,
)  # each value by itself, with a slope of at most 1 whatever the settings
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)

_VARIANCE = "it divides by a variance that may be as small as it likes, so it has no Lipschitz constant"
_BATCH = "it makes one record's state depend on the others of the batch"
_STEEP = "its slope exceeds 1"
_DROPS = "its noise is no part of the guarantee, and it scales what it keeps"
REFUSED: dict[type[nn.Module], str] = {
    nn.GroupNorm: _VARIANCE,
    nn.LayerNorm: _VARIANCE,
    nn.RMSNorm: _VARIANCE,
    nn.InstanceNorm1d: _VARIANCE,
    nn.InstanceNorm2d: _VARIANCE,
    nn.InstanceNorm3d: _VARIANCE,
    nn.BatchNorm1d: _BATCH,
    nn.BatchNorm2d: _BATCH,
    nn.BatchNorm3d: _BATCH,
    nn.SyncBatchNorm: _BATCH,
    nn.SiLU: _STEEP,
    nn.GELU: _STEEP,
    nn.Mish: _STEEP,
    nn.Hardswish: _STEEP,
    nn.SELU: _STEEP,
    nn.Softplus: "beyond its threshold it jumps",
    nn.Dropout: _DROPS,
    nn.Dropout2d: _DROPS,
    nn.AlphaDropout: _DROPS,
}


def refuse_unbounded(layers: Sequence[nn.Module]) -> None:
    """Refuse, by name and with the reason, layers of which no Lipschitz constant is enforced here.

    Raises:
        NotPrivateError: for the first of them.
    """
    for place, layer in enumerate(layers):
        reason = _why_not(layer)
        if reason:
            raise NotPrivateError(
                f"Expected layers of which a Lipschitz constant is enforced, got {type(layer).__name__} at {place}: "
                f"{reason}.",
                remedy="Use plain linear layers, convolutions that keep the shape, and ReLU or Tanh.",
            )


def _why_not(layer: nn.Module) -> str:
    if getattr(layer, "inplace", False):
        return "it overwrites the state"
    if type(layer) in ACTIVATIONS or type(layer) is nn.Linear:
        return ""
    if isinstance(layer, CONVOLUTIONS):
        return _why_no_convolution(layer)
    known = (reason for kind, reason in REFUSED.items() if isinstance(layer, kind))
    return next(known, "no bound on it is known here")


def _why_no_convolution(layer: nn.Module) -> str:
    plain = layer.padding_mode == "zeros" and layer.groups == 1 and set(layer.dilation) == set(layer.stride) == {1}  # type: ignore[union-attr, arg-type] - a convolution
    if type(layer) in CONVOLUTIONS and plain:
        return ""
    return "its norm is bounded here for stride 1, dilation 1, one group and zero padding only"


class Enforced(NamedTuple):
    """A map, and what is known of it.

    Args:
        apply: [batch, *shape] to the same.
        lipschitz: its constant is at most this.
    """

    apply: Map
    lipschitz: float


def enforced(layers: Sequence[nn.Module], lipschitz: float, shape: tuple[int, ...]) -> Enforced:
    """The layers one after the other, each with weights divided by max(1, norm / share) so that the shares' product is
    `lipschitz`. Gradients treat the divisors as constants.

    Args:
        layers: what `refuse_unbounded` does not refuse.
        lipschitz: L, above 0.
        shape: of one state, which every layer keeps but for its channels or last axis.
    """
    refuse_unbounded(layers)
    positive("lipschitz", lipschitz)
    weighted = sum(not isinstance(layer, ACTIVATIONS) for layer in layers)
    share = lipschitz ** (1 / max(1, weighted)) / (1 + ROUNDING)
    maps = [layer if isinstance(layer, ACTIVATIONS) else _bounded(layer, share, shape) for layer in layers]
    return Enforced(lambda h: _through(maps, h), lipschitz if weighted else 1.0)


def _through(maps: Sequence[Map], h: torch.Tensor) -> torch.Tensor:
    for each in maps:
        h = each(h)
    return h


def _bounded(layer: nn.Module, share: float, shape: tuple[int, ...]) -> Map:
    if isinstance(layer, nn.Linear):
        weight = layer.weight / divisor(matrix_norm(layer.weight), share)
        return lambda h: F.linear(h, weight, layer.bias)
    assert isinstance(layer, CONVOLUTIONS)  # as `refuse_unbounded` said
    weight = layer.weight / divisor(convolution_norm(layer.weight, shape[1:]), share)
    apply = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}[weight.dim() - 2]
    return lambda h: apply(h, weight, layer.bias, padding=layer.padding)  # type: ignore[arg-type] - of the same layer


def divisor(norm: torch.Tensor, share: float) -> float:
    """max(1, norm / share); refuses a norm that is not finite."""
    if not bool(torch.isfinite(norm)):
        raise NotPrivateError("Expected finite weights in the drift, got others.", remedy="Train again, more slowly.")
    return max(1.0, float(norm) / share)


def matrix_norm(weight: torch.Tensor) -> torch.Tensor:
    """Largest singular value of [out, in], by a full decomposition in double precision."""
    return torch.linalg.matrix_norm(weight.detach().double(), ord=2)


def convolution_norm(weight: torch.Tensor, side: tuple[int, ...]) -> torch.Tensor:
    """An upper bound on the norm of a convolution with stride 1 and zero padding of any width.

    On a torus larger than the image by the kernel's size less 1, the zero-padded convolution is the circular one of the
    image with zeros around it, of which a part is kept; neither makes it longer. The circular convolution's norm is the
    largest singular value of its transfer matrices (Sedghi, Gupta, Long 2019, arXiv 1805.10408, theorem 6).

    Args:
        weight: [out, in, *kernel].
        side: of the image, one number per axis of the kernel.
    """
    kernel = weight.detach().double()
    axes = tuple(range(2, kernel.dim()))
    torus = tuple(length + width - 1 for length, width in zip(side, kernel.shape[2:], strict=True))
    transfer = torch.fft.fftn(kernel, s=torus, dim=axes)
    return torch.linalg.matrix_norm(transfer.movedim((0, 1), (-2, -1)), ord=2).max()
