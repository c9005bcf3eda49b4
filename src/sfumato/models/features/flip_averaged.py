"""Features of an image and of its mirror image, averaged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from sfumato.errors import UnsupportedModel
from sfumato.models.features.base import Features


@dataclass(frozen=True, kw_only=True)
class FlipAveraged(Features):
    """The mean of the features of an image and of the same image mirrored left to right.

    What a flip changes is lost, and with it half of the directions that a private update would spend noise on.

    Args:
        of: the map that is averaged; a half-precision one is rounded to half precision again.
    """

    name: ClassVar[str] = "flip-averaged"

    of: Features

    @property
    def kept_as(self) -> np.dtype | None:
        return self.of.kept_as

    def shape(self, record: tuple[int, ...]) -> tuple[int, ...]:
        if len(record) != 3:
            raise UnsupportedModel(
                f"Expected images (channels, height, width), got records of shape {record}.",
                remedy="Leave the average over mirror images out.",
            )
        return self.of.shape(record)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """float [n, C, H, W] to the features of `of`."""
        self.shape(tuple(x.shape[1:]))
        mean = (self.of(x) + self.of(x.flip(-1))) / 2
        return mean.half().float() if self.kept_as == np.float16 else mean
