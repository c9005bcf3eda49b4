"""SRCM, reconstructed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn
from torch.nn.functional import linear

from sfumato.errors import UsageError
from sfumato.models.head import head_name, replace_layer
from sfumato.training.defence import Defence
from sfumato.validate import positive

SMALLEST = 1e-7  # squared length at which a direction is still taken


@dataclass(frozen=True, kw_only=True)
class SRCMReconstruction(Defence):
    """Confines the length of the last features to a ring, in front of a linear layer with rows of length 1.

    A reconstruction of the Saturn Ring Classifier Module (Fang and Kim, 2024): its module file is missing from the
    public code. Placement, arguments and defaults are those of the code; the formulas are our own.

    Args:
        r: middle of the ring.
        d: half its width, at least 0 and below r. The code's settings give 5 for networks on images, 1 for tables.
        pre_layer: whether a linear layer from the features to as many stands in front.
    """

    name: ClassVar[str] = "srcm-reconstruction"
    reference: ClassVar[str] = "fang2024representation"
    summary: ClassVar[str] = "Confines the length of the last features to a ring, before rows of length 1."
    bibtex: ClassVar[str] = """@inproceedings{fang2024representation,
  author = {Fang, Xingli and Kim, Jung-Eun},
  title = {Representation Magnitude Has a Liability to Privacy Vulnerability},
  booktitle = {AAAI/ACM Conference on AI, Ethics, and Society},
  volume = {7},
  number = {1},
  pages = {411--420},
  year = {2024}
}"""
    reconstruction: ClassVar[str] = (
        "The file with the module is missing from the authors' public code: the radial clamp and the normalised linear "
        "layer are rebuilt from their description."
    )

    r: float = 15.0
    d: float = 5.0
    pre_layer: bool = True

    def __post_init__(self) -> None:
        positive("r", self.r)
        if not 0 <= self.d < self.r:
            raise UsageError(
                f"Expected `d` from 0 to below `r` ({self.r}), got {self.d}.",
                remedy="The code's settings are 15 and 5.",
            )

    def prepare(self, model: nn.Module) -> nn.Module:
        name = head_name(model)
        head = model.get_submodule(name)
        assert isinstance(head, nn.Linear)
        layers: list[nn.Module] = [nn.Linear(head.in_features, head.in_features)] if self.pre_layer else []
        ring = RadialClamp(self.r - self.d, self.r + self.d)
        return replace_layer(model, name, nn.Sequential(*layers, ring, LinearNorm(head.in_features, head.out_features)))


class RadialClamp(nn.Module):
    """u / ||u|| times ||u|| held between two lengths; a vector of zeros stays one.

    Args:
        least: length, at least 0.
        most: length.
    """

    def __init__(self, least: float, most: float) -> None:
        super().__init__()
        self.least, self.most = least, most

    def forward(self, u: torch.Tensor) -> torch.Tensor:
        """[..., features] to the same."""
        length = (u.square().sum(dim=-1, keepdim=True) + SMALLEST**2).sqrt()
        return u * (length.clamp(self.least, self.most) / length)


class LinearNorm(nn.Linear):
    """A linear layer whose rows of weights count as vectors of length 1, with a bias."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """[..., in] to [..., out]."""
        length = (self.weight.square().sum(dim=1, keepdim=True) + SMALLEST**2).sqrt()
        return linear(input, self.weight / length, self.bias)
