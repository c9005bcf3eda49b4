"""The networks of the comparison, each with one fixed batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from sfumato.models.resnet import ResNet18
from sfumato.models.wide_resnet import WideResNet


class Batch(NamedTuple):
    """Inputs [batch, ...] and labels [batch]."""

    x: torch.Tensor
    y: torch.Tensor


@dataclass(frozen=True)
class Network:
    """A network to build and the shape of its batch.

    Args:
        shape: of one input; tokens where `vocabulary` is above zero.
    """

    name: str
    batch_size: int
    shape: tuple[int, ...]
    classes: int
    build: Callable[[], nn.Module]
    vocabulary: int = 0

    def module(self, device: str = "cpu") -> nn.Module:
        """The module in training mode, always with the same weights."""
        torch.manual_seed(0)
        return self.build().to(device).train()

    def batch(self, device: str = "cpu") -> Batch:
        """The same random batch at every call."""
        generator = torch.Generator().manual_seed(1)
        full = (self.batch_size, *self.shape)
        if self.vocabulary:
            x = torch.randint(self.vocabulary, full, generator=generator)
        else:
            x = torch.randn(full, generator=generator)
        y = torch.randint(self.classes, (self.batch_size,), generator=generator)
        return Batch(x.to(device), y.to(device))


class Encoder(nn.Module):
    """A transformer encoder over tokens: learned positions, no dropout, mean over the positions, linear head."""

    def __init__(self, vocabulary: int, length: int, width: int, layers: int, classes: int) -> None:
        super().__init__()
        self.token = nn.Embedding(vocabulary, width)
        self.position = nn.Embedding(length, width)
        self.layers = nn.Sequential(*(encoder_layer(width, 4, 4 * width) for _ in range(layers)))
        self.head = nn.Linear(width, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Tokens [batch, length] to scores [batch, classes]."""
        # A copy for every example: Opacus's norm of an embedding calls `.view`, which an expanded index refuses.
        positions = torch.arange(x.shape[1], device=x.device).repeat(x.shape[0], 1)
        return self.head(self.layers(self.token(x) + self.position(positions)).mean(dim=1))


class VisionEncoder(nn.Module):
    """An encoder of the size of ViT-B/16: 12 layers of width 768 on 196 patches, mean over the patches."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 768, 16, 16)
        self.position = nn.Embedding(196, 768)
        self.layers = nn.Sequential(*(encoder_layer(768, 12, 3072) for _ in range(12)))
        self.head = nn.Linear(768, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Images [batch, 3, 224, 224] to scores [batch, classes]."""
        positions = torch.arange(196, device=x.device).repeat(x.shape[0], 1)
        patches = self.patches(x).flatten(2).transpose(1, 2)
        return self.head(self.layers(patches + self.position(positions)).mean(dim=1))


def encoder_layer(width: int, heads: int, inner: int) -> nn.Module:
    """PyTorch's own encoder layer, without dropout."""
    return nn.TransformerEncoderLayer(width, heads, inner, dropout=0.0, batch_first=True)


def cnn() -> nn.Module:
    """The 26,010 parameters of Opacus's MNIST tutorial."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 8, 2, padding=3), nn.ReLU(), nn.MaxPool2d(2, 1),
        nn.Conv2d(16, 32, 4, 2), nn.ReLU(), nn.MaxPool2d(2, 1),
        nn.Flatten(), nn.Linear(512, 32), nn.ReLU(), nn.Linear(32, 10),
    )  # fmt: skip


def mlp() -> nn.Module:
    """The usual network for the 600 binary features of Purchase-100."""
    return nn.Sequential(
        nn.Linear(600, 1024), nn.ReLU(), nn.Linear(1024, 512), nn.ReLU(),
        nn.Linear(512, 256), nn.ReLU(), nn.Linear(256, 100),
    )  # fmt: skip


class LinearAttention(nn.Module):
    """`nn.MultiheadAttention` (batch first, no mask, no dropout) made of two `nn.Linear` with the same weights."""

    def __init__(self, source: nn.MultiheadAttention) -> None:
        super().__init__()
        width = source.embed_dim
        self.heads = source.num_heads
        self.batch_first = True
        self.in_proj = nn.Linear(width, 3 * width)
        self.out_proj = nn.Linear(width, width)
        with torch.no_grad():
            self.in_proj.weight.copy_(source.in_proj_weight)
            self.in_proj.bias.copy_(source.in_proj_bias)
            self.out_proj.weight.copy_(source.out_proj.weight)
            self.out_proj.bias.copy_(source.out_proj.bias)

    def forward(self, query: torch.Tensor, *_: torch.Tensor, **__: object) -> tuple[torch.Tensor, None]:
        """Self-attention over [batch, length, width]; the second value is where PyTorch's layer gives its weights."""
        batch, length, width = query.shape
        split = self.in_proj(query).view(batch, length, 3, self.heads, width // self.heads)
        q, k, v = split.permute(2, 0, 3, 1, 4).unbind(0)
        mixed = F.scaled_dot_product_attention(q, k, v)
        return self.out_proj(mixed.transpose(1, 2).reshape(batch, length, width)), None


def written_out(model: nn.Module) -> nn.Module:
    """`model` itself, each attention of its encoder layers written out in `nn.Linear` layers.

    Opacus and FastDP know no `nn.MultiheadAttention`. Opacus's replacement computes another function when the batch
    comes first (its result is reshaped across the heads), so it is not used here. vmap has no batching rule for the
    fused attention kernel; written out it was at least as fast.
    """
    for layer in model.modules():
        if isinstance(layer, nn.TransformerEncoderLayer):
            device = layer.linear1.weight.device
            layer.self_attn = LinearAttention(layer.self_attn).to(device).train()  # pyright: ignore
    return model


CIFAR = (3, 32, 32)
NETWORKS = {
    network.name: network
    for network in (
        Network("cnn", 256, (1, 28, 28), 10, cnn),
        Network("mlp", 128, (600,), 100, mlp),
        Network("encoder", 32, (128,), 2, lambda: Encoder(2000, 128, 256, 4, 2), vocabulary=2000),
        Network("wrn16_4", 64, CIFAR, 10, lambda: WideResNet(depth=16, width=4, norm="group").build(CIFAR, 10)),
        Network("resnet18", 64, CIFAR, 10, lambda: ResNet18(norm="group").build(CIFAR, 10)),
        Network("vit_b16", 64, (3, 224, 224), 100, lambda: VisionEncoder(100)),
    )
}
