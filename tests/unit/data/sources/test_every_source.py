"""The contract that every discovered source keeps, on a small example of each."""

import dataclasses
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sfumato.canonical import content_hash
from sfumato.data.sources import Source, sources
from sfumato.data.sources.breast_cancer import BreastCancer
from sfumato.data.sources.cifar10 import CIFAR10
from sfumato.data.sources.csv import CSV
from sfumato.data.sources.digits import Digits
from sfumato.data.sources.fashion_mnist import FashionMNIST
from sfumato.data.sources.image_folder import ImageFolder
from sfumato.data.sources.image_zip import ImageZip
from sfumato.data.sources.location_30 import Location30
from sfumato.data.sources.npz import NPZ
from sfumato.data.sources.olivetti import Olivetti
from sfumato.data.sources.parquet import Parquet
from sfumato.data.sources.tensors import Tensors


def idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@pytest.fixture
def example(tmp_path, write, zipped, png) -> Callable[[str], Source]:
    """A source of each kind over small files."""

    def csv() -> Source:
        return CSV(str(write("y,a,who\n0,1,p\n1,2,q\n0,3,q\n")), label="y", unit="who")

    def parquet() -> Source:
        pq.write_table(pa.table({"y": [0, 1, 0], "a": [1.0, 2.0, 3.0]}), tmp_path / "t.parquet")
        return Parquet(str(tmp_path / "t.parquet"), label="y", unit="example")

    def npz() -> Source:
        np.savez(tmp_path / "d.npz", x=np.eye(3), y=[0, 1, 1])
        return NPZ(str(tmp_path / "d.npz"), unit="example")

    def fashion_mnist() -> Source:
        for name in ("train", "t10k"):
            (tmp_path / f"{name}-images-idx3-ubyte").write_bytes(idx(np.zeros((4, 28, 28), np.uint8)))
            (tmp_path / f"{name}-labels-idx1-ubyte").write_bytes(idx(np.arange(4, dtype=np.uint8)))
        return FashionMNIST(str(tmp_path), part="both")

    def cifar10() -> Source:
        (tmp_path / "test_batch.bin").write_bytes(bytes([1] * 3073 + [2] * 3073))
        return CIFAR10(str(tmp_path), part="test")

    def image_folder() -> Source:
        for name in ("cat/1.png", "dog/1.png"):
            (tmp_path / "images" / name).parent.mkdir(parents=True)
            (tmp_path / "images" / name).write_bytes(png())
        return ImageFolder(str(tmp_path / "images"), unit="example")

    def image_zip() -> Source:
        return ImageZip(str(zipped({"cat/1.png": png(1), "dog/1.png": png(2)})), unit="example")

    def olivetti() -> Source:
        faces = {f"images/image-{i}.png": png(i, (64, 64), "L") for i in (0, 1, 10)}
        return Olivetti(str(zipped(faces)), unit="person")

    def location_30() -> Source:
        return Location30(str(write("".join(f'"{i}"' + ",1" * 446 + "\n" for i in (1, 30)), "bangkok")))

    examples = {
        "breast-cancer": BreastCancer,
        "cifar10": cifar10,
        "csv": csv,
        "digits": Digits,
        "fashion-mnist": fashion_mnist,
        "image-folder": image_folder,
        "image-zip": image_zip,
        "location-30": location_30,
        "npz": npz,
        "olivetti": olivetti,
        "parquet": parquet,
        "tensors": lambda: Tensors(np.eye(3), np.array([0, 1, 1]), unit="example"),
    }
    return lambda name: examples[name]()


@pytest.mark.parametrize("name", list(sources()))
def test_a_source_keeps_the_contract(name, example):
    source = example(name)
    assert dataclasses.is_dataclass(source)
    with pytest.raises(dataclasses.FrozenInstanceError):
        source.path = "other"  # type: ignore[attr-defined]
    assert source.summary.endswith(".")
    assert source.kind in {"table", "image"}
    one, two = source.load(), source.load()
    assert one.fingerprint == two.fingerprint
    assert one.kind == ("image" if len(one.records.shape) == 3 else "table")
    assert one.unit.name
    taken = one.tensor(np.arange(2))
    assert taken.shape == (2, *one.records.shape)
    assert taken.dtype.is_floating_point
    assert taken.element_size() == 4
    assert one.label_array.max() < len(one.class_names)


@pytest.mark.parametrize("name", list(sources()))
def test_a_source_stands_in_the_file_of_its_name(name):
    assert Path(sources()[name].__module__.replace(".", "/")).name == name.replace("-", "_")


@pytest.mark.parametrize("name", list(sources()))
def test_a_source_is_named_by_its_content_hash(name, example):
    source = example(name)
    assert content_hash(source) == content_hash(dataclasses.replace(source))
    field = "part" if name in {"cifar10", "fashion-mnist", "npz"} else None
    changed = {"digits": {"as_images": True}, "tensors": {"title": "b"}}.get(name)
    changed = changed or ({field: "train"} if field else None)
    if changed is None and name != "breast-cancer":
        changed = {"path": "elsewhere"}
    if changed:
        assert content_hash(source) != content_hash(dataclasses.replace(source, **changed))
