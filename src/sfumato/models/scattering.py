"""Wavelet scattering: fixed features of images, the same for every data set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from sfumato.errors import UnsupportedModel, UsageError
from sfumato.validate import at_least

PLANES = 96  # Images times channels transformed at once: the transform then works on about 40 MB.


@dataclass(frozen=True)
class ScatterFeatures:
    """Second-order scattering coefficients of each channel of each image.

    The filters are fixed and every image is transformed by itself, so the features cost no privacy: computing them is
    no read of the data set outside a mechanism. Differentially private training on them beats training from pixels
    where epsilon is small (F. Tramer and D. Boneh, ICLR 2021, arXiv 2011.11660, section 3).

    Args:
        J: scales, 1 or more; the features are averaged over windows of 2^J pixels.
        L: orientations, 1 or more.
    """

    J: int = 2
    L: int = 8

    def __post_init__(self) -> None:
        at_least("J", self.J, 1)
        at_least("L", self.L, 1)

    @property
    def coefficients(self) -> int:
        """K, the feature maps per channel: the average, J L of first order, L^2 J (J - 1) / 2 of second order."""
        return 1 + self.J * self.L + self.L**2 * self.J * (self.J - 1) // 2

    def shape(self, image: tuple[int, ...]) -> tuple[int, int, int]:
        """The shape [K C, h, w] of the features of an image [C, H, W]; h and w are H and W over 2^J, rounded down.

        Raises:
            UnsupportedModel: if the record is no image of at least 2^J x 2^J pixels.
        """
        side = 2**self.J
        if len(image) != 3 or min(image[1:]) < side:
            raise UnsupportedModel(
                f"Expected images (channels, height, width) of at least {side} x {side} pixels, got shape {image}.",
                remedy="Lower `J`, or use a model without scattering features for these records.",
            )
        return image[0] * self.coefficients, image[1] // side, image[2] // side

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """The features of a batch.

        Args:
            x: float [n, C, H, W] on the CPU or a GPU, n may be 0.

        Returns:
            float32 [n, K C, h, w] on the same device, K maps of the first channel first. No gradient flows back.

        Raises:
            UnsupportedModel: see `shape`.
            UsageError: if kymatio is not installed.
        """
        shape = self.shape(tuple(x.shape[1:]))
        transform = _transform(self.J, self.L, tuple(x.shape[2:])).to(x.device)
        planes = x.detach().float().reshape(-1, *x.shape[2:])
        with torch.no_grad():
            parts = [transform(part.contiguous()) for part in planes.split(PLANES) if len(part)]
        return torch.cat(parts).reshape(len(x), *shape) if parts else planes.new_empty(len(x), *shape)


def _transform(J: int, L: int, size: tuple[int, ...]) -> Any:
    """kymatio's transform for planes of `size`."""
    try:
        # Not `kymatio.torch`: that one also loads the 3-D transform, which asks SciPy for a function it no longer has.
        from kymatio.scattering2d.frontend.torch_frontend import ScatteringTorch2D
    except ImportError as error:
        raise UsageError(
            f"Expected the package kymatio for scattering features, got: {error}.",
            remedy="Run `pip install sfumato[scatter]`.",
        ) from error
    return ScatteringTorch2D(J=J, shape=size, L=L)
