"""A zip of images, one folder per class."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from sfumato.data.formats.files import existing_file
from sfumato.data.sources.images import ImageSource
from sfumato.errors import DataError


@dataclass(frozen=True)
class ImageZip(ImageSource):
    """Images in a zip as `<class>/<image>`, read in memory; see `ImageSource` for the options."""

    name: ClassVar[str] = "image-zip"
    kind: ClassVar[str] = "image"
    summary: ClassVar[str] = "Your own images in a zip, one folder per class; never unpacked onto the disk."

    def location(self) -> Path:
        found = existing_file(self.path, what="a zip of images")
        if not zipfile.is_zipfile(found):
            raise DataError(
                f"Expected a whole zip at {self.path!r}, got a cut-off one or another kind of file.",
                remedy="Copy or pack it again.",
            )
        return found
