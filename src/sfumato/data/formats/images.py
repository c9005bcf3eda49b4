"""Image files to arrays of bytes, with errors that name the file."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, UnidentifiedImageError

from sfumato.data.formats.archives import Files
from sfumato.data.formats.files import GIBIBYTE
from sfumato.errors import DataError, UsageError
from sfumato.types import Ints
from sfumato.validate import one_of

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".pgm", ".ppm", ".gif")
FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "TIFF", "PPM", "GIF")
MODES = {"rgb": "RGB", "grey": "L"}
# Modes with more than 8 bits a channel, which a conversion would clip.
DEEP_MODES = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")


@dataclass(frozen=True)
class Decoding:
    """How images are read.

    Args:
        colour: "rgb" (3 channels) or "grey" (1); an alpha channel is left out.
        size: (height, width) to resize to, bilinear; None keeps sizes, which must then agree.
        max_pixels: refuse larger images before they are decoded.
        max_bytes: refuse a set that would take more memory.
    """

    colour: str = "rgb"
    size: tuple[int, int] | None = None
    max_pixels: int = 50_000_000
    max_bytes: int = 16 * GIBIBYTE

    def __post_init__(self) -> None:
        one_of("colour", self.colour, MODES)
        if self.size is not None and (len(self.size) != 2 or min(self.size) < 1):
            raise UsageError(f"Expected `size` as (height, width), got {self.size}.", remedy="E.g. size=(64, 64).")


def decode(data: bytes, place: str, how: Decoding) -> Ints:
    """uint8 [channels, height, width] from the bytes of an image file; `place` names it in errors."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(data), formats=FORMATS)
            _check_kind(image, place, how)
            pixels = image.convert(MODES[how.colour])
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise _too_many_pixels(place, how.max_pixels, "more") from error
    except UnidentifiedImageError as error:
        raise DataError(
            f"Expected an image at {place}, got bytes of another kind.",
            remedy=f"Remove the file, or save it as one of {', '.join(FORMATS)}.",
        ) from error
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise DataError(
            f"Expected a whole image at {place}, got: {error}.", remedy="Replace or remove the file."
        ) from error
    if how.size is not None:
        height, width = how.size
        pixels = pixels.resize((width, height), Image.Resampling.BILINEAR)
    array = np.asarray(pixels)
    return array[None] if array.ndim == 2 else array.transpose(2, 0, 1)


def read_images(files: Files, names: Sequence[str], how: Decoding) -> Ints:
    """uint8 [n, channels, height, width]: the images called `names`, all of one size.

    Raises:
        DataError: for an unreadable image, mixed sizes, or a set that would take more than `how.max_bytes`.
    """
    first = decode(files.read(names[0]), files.place(names[0]), how)
    if len(names) * first.size > how.max_bytes:
        raise DataError(
            f"Expected images of at most {how.max_bytes} bytes together, got {len(names)} of {first.size}.",
            remedy="Give a smaller `size`, or `records` to read a sample.",
        )
    stacked = np.empty((len(names), *first.shape), dtype=np.uint8)
    for row, name in enumerate(names):
        image = decode(files.read(name), files.place(name), how)
        if image.shape != first.shape:
            raise DataError(
                f"Expected images of one size, got {_size(first)} at {files.place(names[0])} and {_size(image)} at "
                f"{files.place(name)}.",
                remedy="Give `size=(height, width)` to resize all of them.",
            )
        stacked[row] = image
    return stacked


def _check_kind(image: Image.Image, place: str, how: Decoding) -> None:
    if image.width * image.height > how.max_pixels:
        raise _too_many_pixels(place, how.max_pixels, f"{image.width} x {image.height}")
    if image.mode in DEEP_MODES:
        raise DataError(
            f"Expected an image of 8 bits a channel at {place}, got mode {image.mode}.",
            remedy="Rescale it to 8 bits, or save the arrays as .npz.",
        )
    if getattr(image, "n_frames", 1) > 1:
        raise DataError(f"Expected a still image at {place}, got several frames.", remedy="Save each as a file.")


def _too_many_pixels(place: str, limit: int, got: str) -> DataError:
    return DataError(
        f"Expected at most {limit} pixels at {place}, got {got}.",
        remedy="Shrink the image; a small file with a huge declared size is an attack.",
    )


def _size(image: Ints) -> str:
    return f"{image.shape[1]} x {image.shape[2]}"
