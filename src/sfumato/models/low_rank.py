"""Layers with frozen weights and trained low-rank additions (Hu et al., 2022, arXiv 2106.09685)."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn
from torch.nn.functional import conv2d, linear

from sfumato.errors import UnsupportedModel
from sfumato.models.head import replace_layer
from sfumato.seeding import torch_stream


class LowRankLinear(nn.Linear):
    """`base` plus scale B A, where A is [rank, in] and B [out, rank]; B starts at zero, so it begins as `base`.

    Args:
        base: its weight and bias are kept, under their names, and frozen.
        rank: 1 or more.
        scale: of the addition.
        generator: for A.
    """

    def __init__(self, base: nn.Linear, rank: int, scale: float, generator: torch.Generator) -> None:
        super().__init__(base.in_features, base.out_features, base.bias is not None, device="meta")
        _keep(self, base)
        self.low_rank_scale = scale
        self.lora_A = _first_factor(base.weight, (rank, base.in_features), generator)
        self.lora_B = nn.Parameter(base.weight.new_zeros(base.out_features, rank))

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """[..., in] to [..., out]."""
        return super().forward(input) + self.low_rank_scale * linear(linear(input, self.lora_A), self.lora_B)

    def merged(self) -> nn.Linear:
        """One plain layer that computes the same."""
        plain = nn.Linear(self.in_features, self.out_features, self.bias is not None, device="meta")
        _fill(plain, self, self.low_rank_scale * self.lora_B @ self.lora_A)
        return plain


class LowRankConv2d(nn.Conv2d):
    """`base` plus a convolution to `rank` channels followed by a 1x1 convolution, which starts at zero.

    A is [rank, in, height, width] and B [out, rank, 1, 1]: together a convolution of `base`'s shape and low rank.

    Args:
        base: with one group; its weight and bias are kept, under their names, and frozen.
        rank: 1 or more.
        scale: of the addition.
        generator: for A.
    """

    def __init__(self, base: nn.Conv2d, rank: int, scale: float, generator: torch.Generator) -> None:
        super().__init__(*_convolution_settings(base), device="meta")
        _keep(self, base)
        self.low_rank_scale = scale
        self.lora_A = _first_factor(base.weight, (rank, *base.weight.shape[1:]), generator)
        self.lora_B = nn.Parameter(base.weight.new_zeros(base.out_channels, rank, 1, 1))

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """[rows, in, height, width] to the same with `out_channels`."""
        narrow = self._conv_forward(input, self.lora_A, None)
        return super().forward(input) + self.low_rank_scale * conv2d(narrow, self.lora_B)

    def merged(self) -> nn.Conv2d:
        """One plain layer that computes the same."""
        plain = nn.Conv2d(*_convolution_settings(self), device="meta")
        _fill(plain, self, self.low_rank_scale * torch.einsum("or,rihw->oihw", self.lora_B[:, :, 0, 0], self.lora_A))
        return plain


LowRank = LowRankLinear | LowRankConv2d


def can_be_adapted(layer: nn.Module) -> bool:
    """Whether it is a plain linear layer, or a plain convolution of one group (subclasses may compute otherwise)."""
    return type(layer) is nn.Linear or (type(layer) is nn.Conv2d and layer.groups == 1)


def adapt(model: nn.Module, names: list[str], rank: int, scale: float) -> nn.Module:
    """`model` with low-rank additions to the layers called `names`, changed in place.

    The factors A depend on the layers' names alone: every model of a run starts from the same ones.

    Raises:
        UnsupportedModel: if a layer is of another kind (see `can_be_adapted`).
    """
    made: dict[int, nn.Module] = {}
    for name in names:
        base = model.get_submodule(name)
        if id(base) not in made:  # a layer in two places stays one layer
            made[id(base)] = _adapted(base, name, rank, scale)
        model = replace_layer(model, name, made[id(base)])
    return model


def merge(model: nn.Module) -> nn.Module:
    """`model` with every low-rank addition added into its layer, changed in place: the same function, plain layers."""
    made: dict[int, nn.Module] = {}
    for name, layer in list(model.named_modules(remove_duplicate=False)):
        if isinstance(layer, LowRank):
            plain = made.setdefault(id(layer), layer.merged())
            model = replace_layer(model, name, plain)
    return model


def _adapted(base: nn.Module, name: str, rank: int, scale: float) -> nn.Module:
    generator = torch_stream(0, "low rank", name)
    if can_be_adapted(base):
        kind = LowRankLinear if isinstance(base, nn.Linear) else LowRankConv2d
        return kind(base, rank, scale, generator)  # type: ignore[arg-type] - the kind follows the layer
    groups = f" of {base.groups} groups" if isinstance(base, nn.Conv2d) else ""
    raise UnsupportedModel(
        f"Expected plain linear layers, or convolutions of one group, to adapt, got {type(base).__name__}{groups} at "
        f"`{name}`.",
        remedy="Name other layers; this one stays frozen then.",
    )


def _keep(layer: nn.Linear | nn.Conv2d, base: nn.Linear | nn.Conv2d) -> None:
    """The base's own weight and bias, frozen."""
    layer.weight = base.weight
    layer.register_parameter("bias", None if base.bias is None else base.get_parameter("bias"))
    layer.requires_grad_(False).train(base.training)


def _first_factor(weight: torch.Tensor, shape: tuple[int, ...], generator: torch.Generator) -> nn.Parameter:
    """Uniform within 1 / sqrt(fan-in), torch's own start of a linear layer, on the CPU whatever the device."""
    bound = 1 / math.sqrt(math.prod(shape[1:]))
    values = torch.empty(shape).uniform_(-bound, bound, generator=generator)
    return nn.Parameter(values.to(device=weight.device, dtype=weight.dtype))


def _convolution_settings(layer: nn.Conv2d) -> tuple[Any, ...]:
    """As `nn.Conv2d` takes them, in order."""
    return (
        layer.in_channels, layer.out_channels, layer.kernel_size, layer.stride, layer.padding, layer.dilation,
        layer.groups, layer.bias is not None, layer.padding_mode,
    )  # fmt: skip


def _fill(plain: nn.Linear | nn.Conv2d, layer: LowRank, product: torch.Tensor) -> None:
    """`layer`'s weight plus `product`, and its bias, as new parameters."""
    plain.weight = nn.Parameter((layer.weight + product).detach())
    plain.register_parameter("bias", None if layer.bias is None else nn.Parameter(layer.bias.detach().clone()))
    plain.train(layer.training)
