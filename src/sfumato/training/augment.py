"""Augmentation of image batches, and the augmented queries of an attack."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

from sfumato.errors import NotApplicable, UsageError
from sfumato.training.draws import Draws, fold
from sfumato.validate import one_of

SHIFT_DIVISOR = 8
CUTOUT_DIVISOR = 4
STEPS = (0, -1, 1)


class Variant(NamedTuple):
    """One deterministic view of an image: mirrored or not, then moved down and right by so many steps.

    A step is an eighth of the side (at least 8 pixels), rounded down: the farthest that training moves an image.
    """

    mirror: bool
    down: int
    right: int


def augment(x: torch.Tensor, kinds: Sequence[str], draws: Draws) -> torch.Tensor:
    """Each image of a folded batch, changed at random, independently of the others.

    "flip": mirrored left to right with probability 1/2. "shift": moved by a whole number of pixels, uniform in
    -(side // 8) .. side // 8 per axis, with zeros where nothing was. "cutout" (DeVries and Taylor, 2017): a square with
    a side of a quarter of the shorter side of the image, centred on a uniformly drawn pixel, is set to zero; what of
    it lies outside the image is lost.

    Args:
        x: [M * batch, channels, height, width].
        kinds: applied in this order; each has its own stream.
        draws: of the M models.

    Raises:
        NotApplicable: if the records are no images, or too small for the kind.
        UsageError: for an unknown kind, or rows that do not divide into M models.
    """
    for kind in kinds:
        one_of("augmentation", kind, _AUGMENTATIONS)
        _refuse_non_images(kind, x)
        x = _AUGMENTATIONS[kind](x, draws, _batch_of(x, draws))
    return x


def query_variants(kind: str) -> tuple[Variant, ...]:
    """The views of a record with which an attack queries a model; the first is the record itself.

    "none": 1. "mirror": 2. "mirror-shift": 18, mirrored or not times nine shifts by a step up, down, left, right or not
    at all (the queries of Carlini et al., 2022, section VI-B, with the steps of `Variant`).
    """
    one_of("queries", kind, ("none", "mirror", "mirror-shift"))
    mirrors = (False,) if kind == "none" else (False, True)
    steps = STEPS if kind == "mirror-shift" else (0,)
    return tuple(Variant(mirror, down, right) for mirror in mirrors for down in steps for right in steps)


def apply_variant(x: torch.Tensor, variant: Variant) -> torch.Tensor:
    """That view of each image, with zeros where nothing was.

    Args:
        x: [rows, channels, height, width]; records of any shape where the variant changes nothing.
        variant: see `Variant`.

    Raises:
        NotApplicable: if the records are no images, or have a side below 8 pixels, and the variant changes something.
    """
    if variant == Variant(False, 0, 0):
        return x
    _refuse_non_images("augmented queries", x)
    x = x.flip(3) if variant.mirror else x
    down, right = (torch.full((x.shape[0],), step) for step in (variant.down, variant.right))
    return shifted(x, down * (x.shape[2] // SHIFT_DIVISOR), right * (x.shape[3] // SHIFT_DIVISOR))


def shifted(x: torch.Tensor, down: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Image i moved down[i] pixels down and right[i] pixels to the right, zeros outside.

    Args:
        x: [rows, channels, height, width].
        down: int64 [rows], negative for up.
        right: int64 [rows], negative for left.
    """
    down, right = down.to(x.device), right.to(x.device)
    rows = torch.arange(x.shape[2], device=x.device) - down[:, None]
    columns = torch.arange(x.shape[3], device=x.device) - right[:, None]
    image = torch.arange(x.shape[0], device=x.device)[:, None, None, None]
    channel = torch.arange(x.shape[1], device=x.device)[None, :, None, None]
    height, width = x.shape[2] - 1, x.shape[3] - 1
    moved = x[image, channel, rows.clamp(0, height)[:, None, :, None], columns.clamp(0, width)[:, None, None, :]]
    inside = _within(rows, height)[:, None, :, None] & _within(columns, width)[:, None, None, :]
    return moved * inside.to(x.dtype)


def _flip(x: torch.Tensor, draws: Draws, batch: int) -> torch.Tensor:
    mirrored = fold(draws.keep("flip", 0.5, batch)).to(x.device)
    return torch.where(mirrored[:, None, None, None], x.flip(3), x)


def _shift(x: torch.Tensor, draws: Draws, batch: int) -> torch.Tensor:
    down, right = (
        fold(draws.integers(name, 2 * (side // SHIFT_DIVISOR) + 1, batch)) - side // SHIFT_DIVISOR
        for name, side in (("shift-down", x.shape[2]), ("shift-right", x.shape[3]))
    )
    return shifted(x, down, right)


def _cutout(x: torch.Tensor, draws: Draws, batch: int) -> torch.Tensor:
    side = min(x.shape[2:]) // CUTOUT_DIVISOR
    masked = [
        _stripe(fold(draws.integers(name, length, batch)).to(x.device), side, length)
        for name, length in (("cutout-row", x.shape[2]), ("cutout-column", x.shape[3]))
    ]
    square = masked[0][:, None, :, None] & masked[1][:, None, None, :]
    return x * (~square).to(x.dtype)


_AUGMENTATIONS = {"flip": _flip, "shift": _shift, "cutout": _cutout}


def _stripe(centre: torch.Tensor, side: int, length: int) -> torch.Tensor:
    """bool [rows, length]: `side` positions from centre - side // 2 on."""
    offset = torch.arange(length, device=centre.device) - (centre[:, None] - side // 2)
    return _within(offset, side - 1)


def _within(positions: torch.Tensor, last: int) -> torch.Tensor:
    return (positions >= 0) & (positions <= last)


def _batch_of(x: torch.Tensor, draws: Draws) -> int:
    if x.shape[0] % draws.models:
        raise UsageError(
            f"Expected a batch that divides into {draws.models} models, got {x.shape[0]} rows.",
            remedy="Fold the batch as [models * batch, ...].",
        )
    return x.shape[0] // draws.models


def can_be_shifted(shape: tuple[int, ...]) -> bool:
    """Whether records of this shape are images of a size that mirrors and shifts are made for."""
    return len(shape) == 3 and min(shape[1:]) >= SHIFT_DIVISOR


def _refuse_non_images(kind: str, x: torch.Tensor) -> None:
    if can_be_shifted(tuple(x.shape[1:])):
        return
    raise NotApplicable(
        f"Expected images of shape (channels, height, width) with sides of at least {SHIFT_DIVISOR} for {kind}, "
        f"got records of shape {tuple(x.shape[1:])}.",
        remedy="Leave augmentation out for these records.",
    )
