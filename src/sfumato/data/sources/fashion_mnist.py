"""Fashion-MNIST from its IDX files."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from sfumato.data.download import cache_folder, download_gzip
from sfumato.data.formats.files import existing
from sfumato.data.formats.idx import read_idx
from sfumato.data.population import Population, Unit
from sfumato.data.records import ArrayRecords
from sfumato.data.sources.base import Source, chosen_rows
from sfumato.errors import DataError
from sfumato.validate import one_of

CLASSES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
HOST = "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/"
# File -> (bytes, SHA-256) of the unpacked content; packers compress the same content differently.
CONTENT = {
    "train-images-idx3-ubyte": (47040016, "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888"),
    "train-labels-idx1-ubyte": (60008, "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9"),
    "t10k-images-idx3-ubyte": (7840016, "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b"),
    "t10k-labels-idx1-ubyte": (10008, "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34"),
}
PARTS = {"train": ("train",), "test": ("t10k",), "both": ("train", "t10k")}


@dataclass(frozen=True)
class FashionMNIST(Source):
    """70,000 grey 28x28 photographs of clothes in 10 classes (H. Xiao, K. Rasul, R. Vollgraf, arXiv 1708.07747).

    The set does not say who wore what, so the unit of privacy is the example.

    Args:
        path: folder with the four IDX files, gzip or plain. By default the folders of `SFUMATO_DATA`, the usual share
            folders (Debian's package `dataset-fashion-mnist` puts them there) and the user's cache are searched.
        part: "train" (60,000), "test" (10,000) or "both".
        records: how many to take; all by default.
        seed: of the sample; None takes the first ones.
        download: fetch missing files from the owners' repository into the user's cache. Never done unless asked.
    """

    name: ClassVar[str] = "fashion-mnist"
    kind: ClassVar[str] = "image"
    summary: ClassVar[str] = "70,000 grey 28x28 images of clothes, 10 classes; from IDX files or downloaded on request."
    path: str | None = None
    part: str = "train"
    records: int | None = None
    seed: int | None = 0
    download: bool = False

    def __post_init__(self) -> None:
        one_of("part", self.part, PARTS)
        object.__setattr__(self, "path", None if self.path is None else str(self.path))

    def load(self) -> Population:
        folder = self._folder()
        parts = [(prefix, *_read_part(folder, prefix)) for prefix in PARTS[self.part]]
        origin = np.concatenate([np.full(len(labels), "test" if p == "t10k" else p) for p, _, labels in parts])
        ids = np.concatenate([np.char.add(f"{p}-", np.arange(len(labels)).astype(str)) for p, _, labels in parts])
        rows = chosen_rows(len(ids), self.records, self.seed)
        return Population(
            ArrayRecords(np.concatenate([images for _, images, _ in parts])[rows][:, None]),
            Unit("example"),
            labels=np.concatenate([labels for _, _, labels in parts])[rows],
            ids=ids[rows],
            groups={"part": origin[rows]} if len(parts) > 1 else {},
            class_names=CLASSES,
            name="fashion-mnist",
            kind="image",
        )

    def _folder(self) -> Path:
        if self.path is not None:
            return existing(self.path, what="a folder with Fashion-MNIST's IDX files")
        wanted = [
            f"{prefix}-{kind}" for prefix in PARTS[self.part] for kind in ("images-idx3-ubyte", "labels-idx1-ubyte")
        ]
        for folder in search_folders():
            if all(_find(folder, name) for name in wanted):
                return folder
        if self.download:
            return _download(wanted)
        raise DataError(
            "Expected Fashion-MNIST's IDX files, got none in the folders searched "
            f"({', '.join(map(str, search_folders()))}).",
            remedy="Install Debian's package dataset-fashion-mnist, name the folder (fashion-mnist:FOLDER or "
            "SFUMATO_DATA), or allow the download with `download=True`.",
        )


def search_folders() -> tuple[Path, ...]:
    """Where Fashion-MNIST is looked for, in order, without repeats."""
    return tuple(dict.fromkeys(_search_folders()))


def _search_folders() -> Iterator[Path]:
    for given in filter(None, os.environ.get("SFUMATO_DATA", "").split(os.pathsep)):
        yield from (Path(given) / "fashion-mnist", Path(given))
    # The second half is the default that the XDG base directory specification gives.
    shares = (os.environ.get("XDG_DATA_DIRS") or "/usr/local/share:/usr/share").split(os.pathsep)
    roots = [Path(root) / "share" for root in (sys.prefix, sys.base_prefix)] + [
        Path("/usr/local/share"),
        Path("/usr/share"),
    ]
    for share in [*map(Path, filter(None, shares)), *roots]:
        yield share / "datasets" / "fashion-mnist"
    yield cache_folder("fashion-mnist")


def _find(folder: Path, name: str) -> Path | None:
    spellings = [name, f"{name}.gz", name.replace("-idx", ".idx"), f"{name.replace('-idx', '.idx')}.gz"]
    return next((folder / spelling for spelling in spellings if (folder / spelling).is_file()), None)


def _read_part(folder: Path, prefix: str) -> tuple[np.ndarray, np.ndarray]:
    images, labels = (_read(folder, f"{prefix}-{kind}") for kind in ("images-idx3-ubyte", "labels-idx1-ubyte"))
    if images.ndim != 3 or images.shape[1:] != (28, 28) or labels.shape != images.shape[:1]:
        raise DataError(
            f"Expected images [n, 28, 28] and labels [n] for {prefix!r} in {folder.name}, got {images.shape} and "
            f"{labels.shape}.",
            remedy="Check that all files are Fashion-MNIST's own.",
        )
    if len(labels) and labels.max() >= len(CLASSES):
        raise DataError(
            f"Expected labels 0 to 9 for {prefix!r} in {folder.name}, got {labels.max()} at record {labels.argmax()}.",
            remedy="Check that all files are Fashion-MNIST's own.",
        )
    return images, labels


def _read(folder: Path, name: str) -> np.ndarray:
    found = _find(folder, name)
    if found is None:
        raise DataError(
            f"Expected {name!r} (or {name + '.gz'!r}) in {str(folder)!r}, got no such file.",
            remedy="Name the folder that holds all four IDX files.",
        )
    return read_idx(found)


def _download(wanted: list[str]) -> Path:
    folder = cache_folder("fashion-mnist")
    for name in wanted:
        if _find(folder, name) is None:
            size, digest = CONTENT[name]
            download_gzip(f"{HOST}{name}.gz", folder / name, sha256=digest, size=size)
    return folder
