"""Linear classifier on scattering features that are whitened privately."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sfumato.models.base import ModelFamily
from sfumato.models.features.base import Features
from sfumato.models.features.chain import Chain
from sfumato.models.features.flip_averaged import FlipAveraged
from sfumato.models.features.group_normalised import GroupNormalised
from sfumato.models.features.order_normalised import OrderNormalised
from sfumato.models.features.scattering import Scattering
from sfumato.models.linear import LinearModel
from sfumato.training.presets.base import Preset
from sfumato.validate import one_of

NORMALISATIONS = ("group", "order")


@dataclass(frozen=True, kw_only=True)
class ScatterWhitenedLinear(Preset):
    """Fixed wavelet features, normalised within each record, for a linear classifier behind `PrivateWhitening`.

    The private recipe for 60,000 grey 28x28 images at epsilon 3, delta 1e-5, add or remove, chosen on 10,000 held-out
    training images of Fashion-MNIST, is this preset inside

        PrivateWhitening(noise_multiplier=10.0, regularisation=0.01, norm=45.8, inner=DPSGD(
            sample_rate=8192 / 60000, expected_batch_size=8192, steps=293, max_grad_norm=1.0, lr=0.6, momentum=0.9,
            schedule="constant", delta=1e-5, adjacency="ADD_OR_REMOVE_ONE", target_epsilon=3.0))

    The target is for both together. `benchmarks/dp_accuracy.py` holds the numbers for colour images as well.

    Args:
        J: scales of the features.
        L: their orientations.
        normalisation: "group" (27 groups of channels) or "order" (by the order of the coefficients, colours together).
        groups: of the group normalisation.
        mirror: whether the features are averaged over the image and its mirror image (colour photographs; clothes and
            letters are told apart by their sides).
    """

    name: ClassVar[str] = "scatter-whitened-linear"
    reference: ClassVar[str] = Scattering.reference
    summary: ClassVar[str] = "As scatter-linear, for private-whitening around dpsgd: the best measured at epsilon 3."
    kinds: ClassVar[tuple[str, ...]] = ("image",)

    batch_size: int = 256
    lr: float = 0.001
    standardise: bool = False
    J: int = 2
    L: int = 8
    normalisation: str = "group"
    groups: int = 27
    mirror: bool = False

    def model(self) -> ModelFamily:
        return LinearModel(start="zero")

    def features(self) -> Features:
        one_of("normalisation", self.normalisation, NORMALISATIONS)
        scattering = Scattering(J=self.J, L=self.L)
        by_group, by_order = GroupNormalised(groups=self.groups), OrderNormalised(J=self.J, L=self.L)
        first = FlipAveraged(of=scattering) if self.mirror else scattering
        return Chain(maps=(first, by_group if self.normalisation == "group" else by_order))
