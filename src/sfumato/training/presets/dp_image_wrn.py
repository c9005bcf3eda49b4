"""Wide residual network for private training, as De et al. (2022) built it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sfumato.models.base import ModelFamily
from sfumato.models.wide_resnet import WideResNet
from sfumato.training.presets.residual import ResidualPreset


@dataclass(frozen=True, kw_only=True)
class DPImageWRN(ResidualPreset):
    """WRN-16-4 with standardised weights and group normalisation, for large batches and many views of each image.

    The private recipe for 50,000 colour 32x32 images (De, Berrada, Hayes, Smith and Balle, arXiv 2204.13650), to be
    calibrated to an epsilon, is this preset inside

        DPSGD(sample_rate=4096 / 50000, expected_batch_size=4096, steps=875, max_grad_norm=1.0, augmentations=16,
              ema=0.999, lr=2.0, momentum=0.0, schedule="constant", delta=1e-5, adjacency=..., target_epsilon=...)

    with 875 steps at epsilon 1; others used 2,500 steps at epsilon 8 (Sander, Stock and Sablayrolles, 2023). Published
    at epsilon 8: 79 to 81 % on CIFAR-10. Not measured here: it needs an accelerator. Groups are at most 16, with four
    channels or more in each, where the paper has 16 throughout.

    Args:
        depth: of the form 6n + 4.
        width: factor on the channels.
    """

    name: ClassVar[str] = "dp-image-wrn"
    reference: ClassVar[str] = WideResNet.reference
    summary: ClassVar[str] = "WRN-16-4 with standardised weights, for dpsgd with 16 augmentations; not measured here."

    lr: float = 2.0
    momentum: float = 0.0
    weight_decay: float = 0.0
    schedule: str = "constant"
    norm: str = "group"
    standardise: bool = False
    depth: int = 16
    width: int = 4

    def model(self) -> ModelFamily:
        return WideResNet(depth=self.depth, width=self.width, norm=self.norm, weight_standardisation=True)
