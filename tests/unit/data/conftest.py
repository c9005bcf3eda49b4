import io
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

WriteText = Callable[..., Path]


@pytest.fixture
def write(tmp_path) -> WriteText:
    """Write a text file in the test's folder."""

    def _write(text: str, name: str = "table.csv") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    return _write


@pytest.fixture
def png() -> Callable[..., bytes]:
    """The bytes of a small image of one colour."""

    def _png(value: int = 0, size: tuple[int, int] = (4, 4), mode: str = "RGB", kind: str = "PNG") -> bytes:
        array = np.full((*size, 3), value, dtype=np.uint8)
        stream = io.BytesIO()
        Image.fromarray(array).convert(mode).save(stream, kind)
        return stream.getvalue()

    return _png


@pytest.fixture
def zipped(tmp_path) -> Callable[..., Path]:
    """A zip with the given members."""

    def _zipped(members: dict[str, bytes], name: str = "data.zip") -> Path:
        path = tmp_path / name
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for member, content in members.items():
                archive.writestr(member, content)
        return path

    return _zipped


@pytest.fixture
def shared_file() -> Callable[[str], Path]:
    """A file of real data from SFUMATO_DATA or from `shared/data` beside the repository; skips where it is absent."""

    def _find(name: str) -> Path:
        given = [Path(folder) for folder in os.environ.get("SFUMATO_DATA", "").split(os.pathsep) if folder]
        beside = [parent.parent / "shared" / "data" for parent in Path(__file__).parents if (parent / ".git").exists()]
        found = [folder / name for folder in [*given, *beside] if (folder / name).exists()]
        if not found:
            pytest.skip(f"{name} is neither in SFUMATO_DATA nor in ../shared/data")
        return found[0]

    return _find
