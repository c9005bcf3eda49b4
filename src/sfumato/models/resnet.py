"""Residual networks with a CIFAR stem: ResNet-8 and ResNet-20 (6n+2 layers), and ResNet-18."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from sfumato.models.base import ModelFamily
from sfumato.models.initialisation import initialise_residual
from sfumato.models.normalisation import NORMS, normalisation
from sfumato.models.shape import image_shape, outputs_checked
from sfumato.validate import at_least, one_of

HE2016 = """@inproceedings{he2016deep,
  author = {He, Kaiming and Zhang, Xiangyu and Ren, Shaoqing and Sun, Jian},
  title = {Deep Residual Learning for Image Recognition},
  booktitle = {IEEE Conference on Computer Vision and Pattern Recognition},
  pages = {770--778},
  year = {2016}
}"""


@dataclass(frozen=True, kw_only=True)
class _ResNet(ModelFamily):
    """What the residual networks share; `_network` is theirs.

    Args:
        width: channels of the first stage; each later one has twice as many.
        norm: "batch" or "group".
    """

    reference: ClassVar[str] = "he2016deep"
    bibtex: ClassVar[str] = HE2016

    width: int = 16
    norm: str = "batch"

    def __post_init__(self) -> None:
        at_least("width", self.width, 1)
        one_of("norm", self.norm, NORMS)

    def build(self, shape: tuple[int, ...], outputs: int) -> nn.Module:
        return self._network(image_shape(self.name, shape, smallest=8).channels, outputs_checked(outputs))

    @abstractmethod
    def _network(self, channels: int, outputs: int) -> nn.Module:
        """The network for images of `channels` channels."""


@dataclass(frozen=True, kw_only=True)
class ResNet8(_ResNet):
    """The 6n+2 network of He et al. (2016), section 4.2, with n = 1: three stages of one block each."""

    name: ClassVar[str] = "resnet-8"

    def _network(self, channels: int, outputs: int) -> nn.Module:
        return cifar_resnet(channels, outputs, blocks=1, width=self.width, norm=self.norm)


@dataclass(frozen=True, kw_only=True)
class ResNet20(_ResNet):
    """The 6n+2 network of He et al. (2016), section 4.2, with n = 3: three stages of three blocks each."""

    name: ClassVar[str] = "resnet-20"

    def _network(self, channels: int, outputs: int) -> nn.Module:
        return cifar_resnet(channels, outputs, blocks=3, width=self.width, norm=self.norm)


@dataclass(frozen=True, kw_only=True)
class ResNet18(_ResNet):
    """ResNet-18 (He et al., 2016, table 1) for small images: a 3x3 stem without stride and without pooling."""

    name: ClassVar[str] = "resnet-18"

    width: int = 64

    def _network(self, channels: int, outputs: int) -> nn.Module:
        widths = [self.width * factor for factor in (1, 2, 4, 8)]
        layers = _stem(channels, widths[0], self.norm)
        before = widths[0]
        for stage, after in enumerate(widths):
            layers.append(ResidualBlock(before, after, 1 if stage == 0 else 2, self.norm, projection=True))
            layers.append(ResidualBlock(after, after, 1, self.norm, projection=True))
            before = after
        return initialise_residual(nn.Sequential(*layers, *_head(before, outputs)))


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut, `relu(f(x) + shortcut(x))` (He et al., 2016, figure 2).

    Args:
        before: channels that come in.
        after: channels that go out.
        stride: of the first convolution.
        norm: "batch" or "group".
        projection: where the shape changes, the shortcut is a normalised 1x1 convolution (option B of the paper);
            otherwise it takes every second pixel and adds zero channels (option A, no parameters).
    """

    def __init__(self, before: int, after: int, stride: int, norm: str, *, projection: bool) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            nn.Conv2d(before, after, 3, stride, padding=1, bias=False),
            normalisation(norm, after),
            nn.ReLU(),
            nn.Conv2d(after, after, 3, padding=1, bias=False),
            normalisation(norm, after),
        )
        self.shortcut = _shortcut(before, after, stride, norm, projection=projection)
        self.activation = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[batch, before, height, width] to [batch, after, height / stride, width / stride]."""
        return self.activation(self.residual(x) + self.shortcut(x))


class ZeroPaddedShortcut(nn.Module):
    """Every `stride`-th pixel, with `extra` zero channels added behind: the shortcut without parameters (option A)."""

    def __init__(self, extra: int, stride: int) -> None:
        super().__init__()
        self.extra, self.stride = extra, stride

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[batch, channels, height, width] to [batch, channels + extra, height / stride, width / stride]."""
        return nn.functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.extra))


def cifar_resnet(channels: int, outputs: int, *, blocks: int, width: int, norm: str) -> nn.Module:
    """The network of 6 * blocks + 2 layers (He et al., 2016, section 4.2), with option A shortcuts."""
    layers = _stem(channels, width, norm)
    before = width
    for stage, after in enumerate((width, 2 * width, 4 * width)):
        for block in range(blocks):
            stride = 2 if stage > 0 and block == 0 else 1
            layers.append(ResidualBlock(before, after, stride, norm, projection=False))
            before = after
    return initialise_residual(nn.Sequential(*layers, *_head(before, outputs)))


def _stem(channels: int, width: int, norm: str) -> list[nn.Module]:
    return [nn.Conv2d(channels, width, 3, padding=1, bias=False), normalisation(norm, width), nn.ReLU()]


def _head(width: int, outputs: int) -> list[nn.Module]:
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, outputs)]


def _shortcut(before: int, after: int, stride: int, norm: str, *, projection: bool) -> nn.Module:
    if before == after and stride == 1:
        return nn.Identity()
    if not projection:
        return ZeroPaddedShortcut(after - before, stride)
    return nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), normalisation(norm, after))
