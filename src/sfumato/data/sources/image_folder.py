"""A folder of images, one folder per class."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from sfumato.data.formats.files import existing
from sfumato.data.sources.images import ImageSource
from sfumato.errors import DataError


@dataclass(frozen=True)
class ImageFolder(ImageSource):
    """Images on disk as `<class>/<image>`; see `ImageSource` for the options."""

    name: ClassVar[str] = "image-folder"
    kind: ClassVar[str] = "image"
    summary: ClassVar[str] = "Your own images in a folder, one folder per class."

    def location(self) -> Path:
        found = existing(self.path, what="a folder of images")
        if not found.is_dir():
            raise DataError(
                f"Expected a folder of images at {self.path!r}, got a file.", remedy="For a zip use image-zip:PATH."
            )
        return found
