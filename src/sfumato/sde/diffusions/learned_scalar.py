"""A learned strength, one number per record."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from sfumato.errors import UsageError
from sfumato.sde.diffusions.base import DiffusionField, Fields
from sfumato.sde.drifts.convolutional import group_norm


@dataclass(frozen=True, kw_only=True)
class LearnedScalar(DiffusionField):
    """g = sigma s(h_0) with a small network s in (0, 1), as in SDE-Net: constant along a path, another for each record.

    SDE-Net trains s to tell its data from others, and raises sigma at test time. Here s learns from the network's own
    loss like every other layer, so it may learn to switch the noise off; sigma is the same throughout. Images:
    GroupNorm, ReLU, 3x3 convolution, GroupNorm, ReLU, mean over the positions, linear. Other states: mean over all
    axes but the last, two linear layers. No layer mixes records, and private training treats s like all the rest.
    """

    name: ClassVar[str] = "learned-scalar"
    summary: ClassVar[str] = "A network of the initial state decides for each record, between 0 and sigma."
    reference: ClassVar[str] = "kong2020sde"
    bibtex: ClassVar[str] = """@inproceedings{kong2020sde,
  author = {Kong, Lingkai and Sun, Jimeng and Zhang, Chao},
  title = {{SDE-Net}: Equipping Deep Neural Networks with Uncertainty Estimates},
  booktitle = {Proceedings of the 37th International Conference on Machine Learning},
  year = {2020}
}"""

    def build(self, shape: tuple[int, ...]) -> nn.Module:
        if not shape:
            raise UsageError(
                "Expected the shape of a state for a diffusion that is learned, got none.",
                remedy="Give `shape=` without the batch axis, e.g. (64, 7, 7).",
            )
        return _of_images(shape[0]) if len(shape) == 3 else _of_vectors(shape[-1])

    def along(self, learned: torch.Tensor | None) -> Fields:
        if learned is None:
            raise UsageError(
                "Expected what the network of the initial state gave, got nothing.",
                remedy="Call the module that `build` makes with h_0 once per path.",
            )
        strength = learned * self.sigma
        return Fields(lambda _, h, __: strength.reshape(-1, *[1] * (h.dim() - 1)), lambda *_: 0.0)


class _MeanPosition(nn.Module):
    """[batch, ..., width] to [batch, width]."""

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        return h if h.dim() == 2 else h.flatten(1, -2).mean(1)


def _of_images(channels: int) -> nn.Module:
    return nn.Sequential(
        group_norm(channels), nn.ReLU(), nn.Conv2d(channels, channels, 3, padding=1), group_norm(channels), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 1), nn.Sigmoid(),
    )  # fmt: skip


def _of_vectors(width: int) -> nn.Module:
    return nn.Sequential(_MeanPosition(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 1), nn.Sigmoid())
