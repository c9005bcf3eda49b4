"""Pictures of something else: images of a bundled set that the population is not made of."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn.datasets import load_digits, load_sample_images

from sfumato.errors import UsageError
from sfumato.types import Floats

DIGITS = "handwritten digits (scikit-learn's load_digits)"
PHOTOGRAPHS = "pieces of two photographs (scikit-learn's load_sample_images)"
ZOOM = 4  # a piece of a photograph is so many times as high and wide as the image, if the photograph is large enough


class Pictures(NamedTuple):
    """Pictures from elsewhere.

    Attributes:
        images: float32 [count, channels, height, width] in [0, 1].
        source: what they show, and where they come from.
    """

    images: Floats
    source: str


def foreign_pictures(name: str, shape: tuple[int, ...], count: int, rng: np.random.Generator) -> Pictures:
    """Pictures in the shape of a population's, from a bundled set that differs from it.

    The digits of scikit-learn, each at most once; for a population whose name tells of digits itself, pieces of the
    two photographs that come with scikit-learn. Grey pictures are the same in all channels.

    Args:
        name: of the population.
        shape: (channels, height, width).
        count: how many.
        rng: chooses them.

    Raises:
        UsageError: for more digits than there are.
    """
    if shows_digits(name):
        return Pictures(_photographs(shape, count, rng), PHOTOGRAPHS)
    return Pictures(_digits(shape, count, rng), DIGITS)


def shows_digits(name: str) -> bool:
    """Whether the name of a population says that it shows digits ("digits", "mnist", "svhn")."""
    lowered = name.lower().replace("fashion-mnist", "").replace("fashion_mnist", "")
    return any(word in lowered for word in ("digit", "mnist", "svhn"))


def _digits(shape: tuple[int, ...], count: int, rng: np.random.Generator) -> Floats:
    bunch: Any = load_digits()
    images = bunch.images / 16
    if count > len(images):
        raise UsageError(
            f"Expected at most {len(images)} records of out-of-distribution canaries, which is how many other pictures "
            f"come with scikit-learn, got {count}.",
            remedy="Lower their number.",
        )
    chosen = torch.from_numpy(images[rng.permutation(len(images))[:count]])[:, None]
    return _fitted(chosen, shape)


def _photographs(shape: tuple[int, ...], count: int, rng: np.random.Generator) -> Floats:
    bunch: Any = load_sample_images()
    photographs = [torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255 for image in bunch.images]
    pieces = [_piece(photographs[rng.integers(len(photographs))], shape, rng) for _ in range(count)]
    return np.concatenate(pieces)


def _piece(photograph: torch.Tensor, shape: tuple[int, ...], rng: np.random.Generator) -> Floats:
    height, width = (min(ZOOM * want, have) for want, have in zip(shape[1:], photograph.shape[1:], strict=True))
    top, left = (int(rng.integers(have - take + 1)) for have, take in zip(photograph.shape[1:], (height, width)))
    piece = photograph[:, top : top + height, left : left + width]
    return _fitted((piece if shape[0] == 3 else piece.mean(dim=0, keepdim=True))[None], shape)


def _fitted(images: torch.Tensor, shape: tuple[int, ...]) -> Floats:
    """[count, 1 or as many channels, ...] to float32 [count, *shape]."""
    sized = torch.nn.functional.interpolate(
        images.float(), size=shape[1:], mode="bilinear", align_corners=False, antialias=True
    )
    return sized.expand(-1, shape[0], -1, -1).clamp(0, 1).contiguous().numpy()
