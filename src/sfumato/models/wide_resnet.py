"""Wide residual network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from sfumato.errors import UsageError
from sfumato.models.base import ModelFamily
from sfumato.models.initialisation import initialise_residual
from sfumato.models.normalisation import NORMS, normalisation
from sfumato.models.shape import image_shape, outputs_checked
from sfumato.models.weight_standardisation import WSConv2d
from sfumato.validate import at_least, in_range, one_of


@dataclass(frozen=True, kw_only=True)
class WideResNet(ModelFamily):
    """WRN-depth-width of Zagoruyko and Komodakis (2016): three stages of (depth - 4) / 6 pre-activation blocks.

    Args:
        depth: 10, 16, 22, 28, 34, 40, ... (6n + 4).
        width: factor on the channels 16, 32 and 64 of the three stages.
        norm: "batch" or "group".
        dropout: rate between the two convolutions of a block, in [0, 0.95]; 0 adds no layer.
        weight_standardisation: whether filters are standardised as in De et al. (2022, arXiv 2204.13650).
    """

    name: ClassVar[str] = "wide-resnet"
    reference: ClassVar[str] = "zagoruyko2016wide"
    bibtex: ClassVar[str] = """@inproceedings{zagoruyko2016wide,
  author = {Zagoruyko, Sergey and Komodakis, Nikos},
  title = {Wide Residual Networks},
  booktitle = {British Machine Vision Conference},
  year = {2016}
}"""

    depth: int = 16
    width: int = 4
    norm: str = "batch"
    dropout: float = 0.0
    weight_standardisation: bool = False

    def __post_init__(self) -> None:
        if self.depth < 10 or (self.depth - 4) % 6:
            raise UsageError(
                f"Expected `depth` to be 10 or more and of the form 6n + 4, got {self.depth!r}.",
                remedy="Choose 10, 16, 22, 28, 34 or 40.",
            )
        at_least("width", self.width, 1)
        one_of("norm", self.norm, NORMS)
        in_range("dropout", self.dropout, 0, 0.95)

    def build(self, shape: tuple[int, ...], outputs: int) -> nn.Module:
        channels = image_shape(self.name, shape, smallest=8).channels
        convolution = WSConv2d if self.weight_standardisation else nn.Conv2d
        layers: list[nn.Module] = [convolution(channels, 16, 3, padding=1, bias=False)]
        before = 16
        for stage, after in enumerate(factor * self.width for factor in (16, 32, 64)):
            for block in range((self.depth - 4) // 6):
                stride = 2 if stage > 0 and block == 0 else 1
                layers.append(WideBlock(before, after, stride, self.norm, self.dropout, convolution))
                before = after
        layers += [normalisation(self.norm, before), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        return initialise_residual(nn.Sequential(*layers, nn.Linear(before, outputs_checked(outputs))))


class WideBlock(nn.Module):
    """Normalise, rectify, convolve, twice, around a shortcut (Zagoruyko and Komodakis, 2016, figure 1d).

    Where the shape changes, the shortcut is a 1x1 convolution of the normalised and rectified input.
    """

    def __init__(
        self, before: int, after: int, stride: int, norm: str, dropout: float, convolution: type[nn.Conv2d] = nn.Conv2d
    ) -> None:
        super().__init__()
        self.activation = nn.Sequential(normalisation(norm, before), nn.ReLU())
        self.residual = nn.Sequential(
            convolution(before, after, 3, stride, padding=1, bias=False),
            normalisation(norm, after),
            nn.ReLU(),
            *([nn.Dropout(dropout)] if dropout else []),
            convolution(after, after, 3, padding=1, bias=False),
        )
        same = before == after and stride == 1
        self.projection = None if same else convolution(before, after, 1, stride, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[batch, before, height, width] to [batch, after, height / stride, width / stride]."""
        active = self.activation(x)
        shortcut = x if self.projection is None else self.projection(active)
        return shortcut + self.residual(active)
