"""What an attacker would see: one HTML file that shows people from the training data, for this machine only."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from sfumato.atomic import write_atomic
from sfumato.audit.inversion.gallery import Gallery, GalleryRow
from sfumato.report.page import page_parts
from sfumato.report.render import html_environment
from sfumato.report.wording import number
from sfumato.types import Floats

MOST_BYTES = 3_000_000
COLUMNS = ("target", "reconstruction", "nearest", "control")
_FRAME = 60_000  # style, script, head
_ROW = 1_500  # markup of a row, besides its pictures and texts
_SIDE = 192  # pixels; larger pictures are shrunk
_VALUES = 40  # numbers of a record without pixels


class Shown(NamedTuple):
    """One cell: a picture as a data URI with its size in pixels, or text."""

    uri: str
    width: int
    height: int
    text: str


class Line(NamedTuple):
    """One row of the page."""

    question: str
    cells: list[Shown]


class Group(NamedTuple):
    """The rows of one attack on one subject, and how many of them were left out."""

    subject: str
    attack: str
    lines: list[Line]
    left_out: int


def write_gallery(gallery: Gallery, path: Path) -> Path:
    """Write the page, at most 3 MB, atomically, readable by its owner only; rows are left out evenly and counted.

    Args:
        gallery: what to show; pictures of shape [1, height, width] or [3, height, width] with values 0 to 1 are drawn,
            all other records are listed as numbers.
        path: of the HTML file; its folder must exist.

    Returns:
        The path.
    """
    write_atomic(Path(path), gallery_html(gallery).encode(), private=True)
    return Path(path)


def gallery_html(gallery: Gallery) -> str:
    """The page as text; it loads nothing and its content policy forbids the network."""
    named = _grouped(gallery.rows)
    groups = [Group(subject, attack, [_line(row) for row in rows], 0) for (subject, attack), rows in named.items()]
    kept = _fitting(groups)
    return (
        html_environment()
        .get_template("gallery.html")
        .render(
            page=page_parts(),
            groups=kept,
            rows=sum(len(group.lines) for group in kept),
            left_out=sum(group.left_out for group in kept),
            columns=COLUMNS,
            shrunk=any(max(_sides(row.target), default=0) > _SIDE for row in gallery.rows),
            side=_SIDE,
        )
    )


def png_uri(picture: Floats) -> str:
    """A PNG as a data URI from float [1 or 3, height, width]; values are held in 0 to 1, 8 bits each."""
    return _encoded(_image(picture))


def _grouped(rows: Sequence[GalleryRow]) -> dict[tuple[str, str], list[GalleryRow]]:
    found: dict[tuple[str, str], list[GalleryRow]] = {}
    for row in rows:
        found.setdefault((row.subject, row.attack), []).append(row)
    return found


def _line(row: GalleryRow) -> Line:
    return Line(row.question, [_shown(np.asarray(getattr(row, name))) for name in COLUMNS])


def _shown(record: Floats) -> Shown:
    if record.size and np.isnan(record).all():
        return Shown("", 0, 0, "none")
    if not _sides(record) or not np.isfinite(record).all():
        return Shown("", 0, 0, _listed(record.ravel()))
    image = _image(record)
    return Shown(_encoded(image), image.width, image.height, "")


def _sides(record: Floats) -> tuple[int, ...]:
    """Height and width of a picture, () for a record of another kind."""
    drawable = record.ndim == 3 and record.shape[0] in (1, 3) and record.size > 0
    return record.shape[1:] if drawable else ()


def _listed(values: Floats) -> str:
    text = ", ".join(number(float(value)) for value in values[:_VALUES])
    return f"{text} and {len(values) - _VALUES} more" if len(values) > _VALUES else text


def _image(picture: Floats) -> Image.Image:
    pixels = np.round(np.clip(picture, 0, 1) * 255).astype(np.uint8)
    image = Image.fromarray(pixels[0] if len(pixels) == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0)))
    if max(image.size) > _SIDE:
        image.thumbnail((_SIDE, _SIDE), Image.Resampling.BILINEAR)
    return image


def _encoded(image: Image.Image) -> str:
    stream = io.BytesIO()
    image.save(stream, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode()}"


def _fitting(groups: Sequence[Group]) -> list[Group]:
    """As many rows as fit, the same share of every group, spread over each of them."""
    most = max((len(group.lines) for group in groups), default=0)
    low, high = 0, most  # a share of `low / most` fits
    if _size(groups) <= MOST_BYTES - _FRAME:
        return list(groups)
    while high - low > 1:
        middle = (low + high) // 2
        fits = _size([_thinned(group, middle / most) for group in groups]) <= MOST_BYTES - _FRAME
        low, high = (middle, high) if fits else (low, middle)
    return [_thinned(group, low / most) for group in groups]


def _thinned(group: Group, share: float) -> Group:
    keep = int(share * len(group.lines))
    places = np.linspace(0, len(group.lines) - 1, keep).round().astype(int) if keep else []
    return group._replace(lines=[group.lines[i] for i in places], left_out=len(group.lines) - keep)


def _size(groups: Sequence[Group]) -> int:
    """Bytes at most: text may take six times its length where it is escaped."""
    texts = sum(
        6 * len((group.subject + group.attack).encode()) * (1 + 4 * len(group.lines)) + _ROW for group in groups
    )
    lines = [line for group in groups for line in group.lines]
    own = sum(30 * len(line.question.encode()) + _ROW for line in lines)
    return texts + own + sum(len(cell.uri) + 6 * len(cell.text.encode()) for line in lines for cell in line.cells)
