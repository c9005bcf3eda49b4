"""Stacked layers: M layers of one shape as one module over folded batches [M * batch, ...].

Every parameter and buffer has the model axis in front and keeps its name, so the state of model m is the m-th slice of
the stacked state. Elementwise layers, pooling and reshapes need no rule: rows of different models never meet.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import nn

from sfumato.errors import UnsupportedModel
from sfumato.models.standardise import Standardise

Rule = Callable[[Sequence[Any]], nn.Module]
RULES: dict[type[nn.Module], Rule] = {}


class StackedLayer(nn.Module):
    """Base: the tensors of M equal layers, stacked along a new first axis."""

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        super().__init__()
        self.models = len(layers)
        self.config: Any = layers[0]
        for name, value in layers[0].named_parameters(recurse=False):
            stacked = torch.stack([layer.get_parameter(name).detach() for layer in layers])
            self.register_parameter(name, nn.Parameter(stacked, requires_grad=value.requires_grad))
        for name, _ in layers[0].named_buffers(recurse=False):
            self.register_buffer(name, torch.stack([layer.get_buffer(name) for layer in layers]))

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "config":  # kept out of the module tree: only its plain settings are read
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    def optional(self, name: str) -> torch.Tensor | None:
        """The stacked tensor called `name`, or None where the layers have none (no bias, say)."""
        return self._parameters.get(name)


L = TypeVar("L", bound=StackedLayer)


def rule(kind: type[nn.Module]) -> Callable[[type[L]], type[L]]:
    """Register a stacked layer for exactly this kind of layer (subclasses may compute something else)."""

    def register(stacked: type[L]) -> type[L]:
        RULES[kind] = stacked
        return stacked

    return register


@rule(nn.Linear)
class StackedLinear(StackedLayer):
    """M linear layers as one batched matrix product."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows = x.reshape(self.models, -1, x.shape[-1])
        out = _BatchedLinear.apply(rows, self.get_parameter("weight"), self.optional("bias"))
        return out.reshape(*x.shape[:-1], out.shape[-1])


class _BatchedLinear(torch.autograd.Function):
    """rows [M, b, in], weight [M, out, in], bias [M, out] or None to [M, b, out].

    Autograd's own derivative of `bmm` yields the weight gradient transposed, and copying it into place takes as long as
    the products themselves; here it is computed in the layout of the weight.
    """

    @staticmethod
    def forward(ctx: Any, rows: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        ctx.save_for_backward(rows, weight)
        transposed = weight.transpose(1, 2)
        return torch.bmm(rows, transposed) if bias is None else torch.baddbmm(bias[:, None], rows, transposed)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:  # type: ignore[override]
        rows, weight = ctx.saved_tensors
        for_rows, for_weight, for_bias = ctx.needs_input_grad
        return (
            torch.bmm(grad, weight) if for_rows else None,
            torch.bmm(grad.transpose(1, 2), rows) if for_weight else None,
            grad.sum(1) if for_bias else None,
        )


@rule(nn.Conv2d)
class StackedConv2d(StackedLayer):
    """M convolutions; `kernel` is "loop" (one after the other), "grouped" (one grouped convolution) or "unfold"."""

    KERNELS = ("loop", "grouped", "unfold")
    kernel: str

    def __init__(self, layers: Sequence[nn.Conv2d]) -> None:
        if layers[0].padding_mode != "zeros" or isinstance(layers[0].padding, str):
            raise UnsupportedModel(
                f"Expected convolutions with numeric zero padding, got {layers[0].padding_mode}/{layers[0].padding}.",
                remedy="These models are trained one by one instead.",
            )
        super().__init__(layers)
        self.kernel = "loop"

    def kernels(self) -> tuple[str, ...]:
        """The kernels that are exact for this layer."""
        return self.KERNELS if self.config.groups == 1 else self.KERNELS[:2]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return {"loop": self._loop, "grouped": self._grouped, "unfold": self._unfold}[self.kernel](x)

    def _convolve(self, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, groups: int) -> torch.Tensor:
        c = self.config
        return F.conv2d(x, weight, bias, c.stride, c.padding, c.dilation, groups)

    def _loop(self, x: torch.Tensor) -> torch.Tensor:
        weights = self.get_parameter("weight").unbind(0)
        bias = self.optional("bias")
        biases = [None] * self.models if bias is None else bias.unbind(0)
        parts = zip(x.chunk(self.models), weights, biases, strict=True)
        return torch.cat([self._convolve(rows, w, b, self.config.groups) for rows, w, b in parts])

    def _grouped(self, x: torch.Tensor) -> torch.Tensor:
        m, batch = self.models, len(x) // self.models
        weight, bias = self.get_parameter("weight"), self.optional("bias")
        wide = x.reshape(m, batch, *x.shape[1:]).transpose(0, 1).reshape(batch, m * x.shape[1], *x.shape[2:])
        flat_bias = None if bias is None else bias.reshape(-1)
        out = self._convolve(wide, weight.flatten(0, 1), flat_bias, m * self.config.groups)
        return out.reshape(batch, m, -1, *out.shape[2:]).transpose(0, 1).reshape(len(x), -1, *out.shape[2:])

    def _unfold(self, x: torch.Tensor) -> torch.Tensor:
        c, m = self.config, self.models
        weight, bias = self.get_parameter("weight"), self.optional("bias")
        height, width = (
            (x.shape[2 + i] + 2 * c.padding[i] - c.dilation[i] * (c.kernel_size[i] - 1) - 1) // c.stride[i] + 1
            for i in range(2)
        )
        patches = F.unfold(x, c.kernel_size, c.dilation, c.padding, c.stride)  # [m * batch, in * k * k, positions]
        columns = patches.reshape(m, -1, *patches.shape[1:])
        out = torch.einsum("moi,mbip->mbop", weight.flatten(2), columns)
        out = out if bias is None else out + bias[:, None, :, None]
        return out.reshape(len(x), -1, height, width)


class StackedBatchNorm(StackedLayer):
    """M batch normalisations: statistics per model and channel, in one call over [batch, M * channels, ...]."""

    def __init__(self, layers: Sequence[nn.BatchNorm1d | nn.BatchNorm2d]) -> None:
        if layers[0].momentum is None:
            raise UnsupportedModel(
                "Expected BatchNorm with a fixed momentum, got a cumulative average.",
                remedy="Set `momentum`, or these models are trained one by one instead.",
            )
        super().__init__(layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        m, batch, c = self.models, len(x) // self.models, self.config
        wide = x.reshape(m, batch, *x.shape[1:]).transpose(0, 1).reshape(batch, m * x.shape[1], *x.shape[2:])
        tracked = self._buffers.get("num_batches_tracked")
        if self.training and tracked is not None:
            tracked.add_(1)
        out = F.batch_norm(
            wide,
            _flat(self._buffers.get("running_mean")),
            _flat(self._buffers.get("running_var")),
            _flat(self.optional("weight")),
            _flat(self.optional("bias")),
            self.training or self._buffers.get("running_mean") is None,
            c.momentum,
            c.eps,
        )
        return out.reshape(batch, m, *x.shape[1:]).transpose(0, 1).reshape(x.shape)


rule(nn.BatchNorm1d)(StackedBatchNorm)
rule(nn.BatchNorm2d)(StackedBatchNorm)


@rule(nn.GroupNorm)
class StackedGroupNorm(StackedLayer):
    """M group normalisations: the statistics are per record already, only the affine part differs by model."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = F.group_norm(x, self.config.num_groups, None, None, self.config.eps)
        return _affine(out, self.models, self.optional("weight"), self.optional("bias"), channels_first=True)


@rule(nn.LayerNorm)
class StackedLayerNorm(StackedLayer):
    """M layer normalisations."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = F.layer_norm(x, self.config.normalized_shape, None, None, self.config.eps)
        return _affine(out, self.models, self.optional("weight"), self.optional("bias"), channels_first=False)


@rule(Standardise)
class StackedStandardise(StackedLayer):
    """M input standardisations, each with the statistics of its own training set."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mean, std = self.get_buffer("mean"), self.get_buffer("std")
        per_model = x.reshape(self.models, -1, *x.shape[1:])
        shape = (self.models, 1, mean.shape[1], *[1] * (per_model.dim() - 3))
        return ((per_model - mean.reshape(shape)) / std.reshape(shape)).reshape(x.shape)


def _flat(value: torch.Tensor | None) -> torch.Tensor | None:
    return None if value is None else value.view(-1)


def _affine(
    x: torch.Tensor, models: int, weight: torch.Tensor | None, bias: torch.Tensor | None, *, channels_first: bool
) -> torch.Tensor:
    if weight is None:
        return x
    per_model = x.reshape(models, -1, *x.shape[1:])
    middle, tail = (
        ([1], [1] * (per_model.dim() - 3)) if channels_first else ([1] * (per_model.dim() - weight.dim()), [])
    )
    shape = (models, *middle, *weight.shape[1:], *tail)
    out = per_model * weight.reshape(shape)
    return (out if bias is None else out + bias.reshape(shape)).reshape(x.shape)
