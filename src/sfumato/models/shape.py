"""The shapes of records that a network can take, checked with one sentence."""

from __future__ import annotations

from typing import NamedTuple

from sfumato.errors import UnsupportedModel
from sfumato.validate import at_least


class ImageShape(NamedTuple):
    """Channels, height and width of one image."""

    channels: int
    height: int
    width: int


def image_shape(family: str, shape: tuple[int, ...], smallest: int) -> ImageShape:
    """The shape of an image record, or `UnsupportedModel` if it is no image or has a side below `smallest` pixels."""
    if len(shape) == 3 and shape[0] >= 1 and min(shape[1:]) >= smallest:
        return ImageShape(*shape)
    raise UnsupportedModel(
        f"Expected records of shape (channels, height, width) with sides of at least {smallest} for `{family}`, "
        f"got {tuple(shape)}.",
        remedy="Use the model `mlp` for tables and for tiny images, or reshape the records.",
    )


def flat_features(family: str, shape: tuple[int, ...]) -> int:
    """The number of values in one record, or `UnsupportedModel` if the shape is empty or has an empty axis."""
    features = 1
    for side in shape:
        features *= side
    if len(shape) > 0 and min(shape) >= 1:
        return features
    raise UnsupportedModel(
        f"Expected records with at least one value for `{family}`, got shape {tuple(shape)}.",
        remedy="Give each record an axis of features, for instance shape (1,) for a single column.",
    )


def outputs_checked(outputs: int) -> int:
    """The number of logits, refused below 1."""
    at_least("outputs", outputs, 1)
    return outputs
