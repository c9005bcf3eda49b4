"""Wavelet scattering as a feature map."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from sfumato.models.features.base import Features
from sfumato.models.scattering import ScatterFeatures


@dataclass(frozen=True, kw_only=True)
class Scattering(Features):
    """Second-order scattering coefficients (see `ScatterFeatures`), rounded to half precision, in which they are kept.

    Args:
        J: scales.
        L: orientations.
    """

    name: ClassVar[str] = "scattering"
    reference: ClassVar[str] = "tramer2021differentially"
    bibtex: ClassVar[str] = """@inproceedings{tramer2021differentially,
  author = {Tram{\\`e}r, Florian and Boneh, Dan},
  title = {Differentially Private Learning Needs Better Features (or Much More Data)},
  booktitle = {International Conference on Learning Representations},
  year = {2021}
}"""

    J: int = 2
    L: int = 8

    def __post_init__(self) -> None:
        self._transform  # noqa: B018 - refuses at construction what cannot be

    @property
    def _transform(self) -> ScatterFeatures:
        return ScatterFeatures(self.J, self.L)

    @property
    def kept_as(self) -> np.dtype:
        return np.dtype(np.float16)

    def shape(self, record: tuple[int, ...]) -> tuple[int, ...]:
        return self._transform.shape(record)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """float [n, C, H, W] to float32 [n, C K, H / 2^J, W / 2^J]."""
        return self._transform(x).half().float()
