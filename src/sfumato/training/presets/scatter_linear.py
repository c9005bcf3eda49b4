"""Linear classifier on scattering features."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sfumato.models.base import ModelFamily
from sfumato.models.features.base import Features
from sfumato.models.features.chain import Chain
from sfumato.models.features.fixed_norm import FixedNorm
from sfumato.models.features.group_normalised import GroupNormalised
from sfumato.models.features.scattering import Scattering
from sfumato.models.linear import LinearModel
from sfumato.training.presets.base import Preset


@dataclass(frozen=True, kw_only=True)
class ScatterLinear(Preset):
    """Fixed wavelet features, normalised within each record, and a linear classifier (Tramer and Boneh, 2021).

    The numbers below are for ordinary training. The private recipe for 60,000 grey 28x28 images at epsilon 3, delta
    1e-5, add or remove, chosen on 10,000 held-out training images of Fashion-MNIST, is this preset inside

        DPSGD(sample_rate=8192 / 60000, expected_batch_size=8192, steps=293, max_grad_norm=0.1, lr=16.0, momentum=0.9,
              schedule="constant", delta=1e-5, adjacency="ADD_OR_REMOVE_ONE", target_epsilon=3.0)

    Args:
        J: scales of the features.
        L: their orientations.
        groups: of the group normalisation; divides the (1 + J L + L^2 J (J - 1) / 2) features of each channel.
        norm: L2 norm of each record's features.
    """

    name: ClassVar[str] = "scatter-linear"
    reference: ClassVar[str] = Scattering.reference
    summary: ClassVar[str] = "Linear classifier on fixed wavelet features: for private training with few records."
    kinds: ClassVar[tuple[str, ...]] = ("image",)

    batch_size: int = 256
    lr: float = 0.001
    standardise: bool = False
    J: int = 2
    L: int = 8
    groups: int = 27
    norm: float = 45.8

    def model(self) -> ModelFamily:
        return LinearModel(start="zero")

    def features(self) -> Features:
        return Chain(
            maps=(Scattering(J=self.J, L=self.L), GroupNormalised(groups=self.groups), FixedNorm(norm=self.norm))
        )
