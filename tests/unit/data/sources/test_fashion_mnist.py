import gzip
import io
import struct
from pathlib import Path

import numpy as np
import pytest

from sfumato.data.sources import fashion_mnist
from sfumato.data.sources.fashion_mnist import CONTENT, FashionMNIST, search_folders
from sfumato.errors import DataError, UsageError


def idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@pytest.fixture
def folder(tmp_path) -> Path:
    """IDX files of 20 training and 5 test images; each pixel holds the image's number."""
    where = tmp_path / "fashion-mnist"
    where.mkdir()
    for prefix, size in (("train", 20), ("t10k", 5)):
        images = np.repeat(np.arange(size, dtype=np.uint8), 784).reshape(size, 28, 28)
        (where / f"{prefix}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(images)))
        (where / f"{prefix}-labels.idx1-ubyte").write_bytes(idx(np.arange(size, dtype=np.uint8) % 10))
    return where


@pytest.fixture
def nowhere(tmp_path, monkeypatch):
    """No folder of this machine holds the set."""
    monkeypatch.delenv("SFUMATO_DATA", raising=False)
    monkeypatch.setattr(fashion_mnist, "search_folders", lambda: (tmp_path / "empty",))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_parts_ids_and_pixels(folder):
    both = FashionMNIST(str(folder), part="both").load()
    assert len(both) == 25
    assert both.id_array[[0, 24]].tolist() == ["train-0", "t10k-4"]
    assert (both.groups["part"] == "test").sum() == 5
    assert both.records.shape == (1, 28, 28)
    assert both.tensor(np.array([7]))[0, 0, 0, 0].item() == pytest.approx(7 / 255)
    assert FashionMNIST(str(folder), part="test").load().class_names[9] == "Ankle boot"


def test_a_sample_is_seeded_and_none_takes_the_first(folder):
    one, two, other = (FashionMNIST(str(folder), records=8, seed=seed).load() for seed in (1, 1, 2))
    assert one.fingerprint == two.fingerprint != other.fingerprint
    first = FashionMNIST(str(folder), records=8, seed=None).load()
    assert first.id_array.tolist() == [f"train-{i}" for i in range(8)]
    assert len(FashionMNIST(str(folder), records=99).load()) == 20
    with pytest.raises(UsageError, match=r"`records` of at least 2"):
        FashionMNIST(str(folder), records=1).load()


def test_the_environment_names_folders(folder, monkeypatch):
    for given in (folder, folder.parent):
        monkeypatch.setenv("SFUMATO_DATA", str(given))
        assert len(FashionMNIST().load()) == 20


def test_share_folders_follow_the_specification(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_DATA_DIRS", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folders = search_folders()
    assert tmp_path / "datasets" / "fashion-mnist" in folders
    assert folders[-1] == tmp_path / "cache" / "sfumato" / "fashion-mnist"


@pytest.mark.usefixtures("nowhere")
def test_nothing_is_downloaded_unless_asked(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("no download was asked for")

    monkeypatch.setattr(fashion_mnist, "download_gzip", refuse)
    with pytest.raises(DataError, match=r"dataset-fashion-mnist.*SFUMATO_DATA.*download=True"):
        FashionMNIST().load()


@pytest.mark.usefixtures("nowhere")
def test_a_download_asks_for_each_file_by_checksum(monkeypatch, folder):
    asked = {}

    def fetch(url, target, *, sha256, size):
        asked[target.name] = (size, sha256)
        target.parent.mkdir(parents=True, exist_ok=True)
        source = next(path for path in folder.iterdir() if path.name.replace(".idx", "-idx").startswith(target.name))
        content = source.read_bytes()
        target.write_bytes(gzip.decompress(content) if source.suffix == ".gz" else content)
        assert url.startswith("https://")
        assert url.endswith(f"/{target.name}.gz")

    monkeypatch.setattr(fashion_mnist, "download_gzip", fetch)
    assert len(FashionMNIST(part="both", download=True).load()) == 25
    assert asked == CONTENT


def test_absent_cut_off_and_foreign_files_are_named(folder):
    labels = folder / "train-labels.idx1-ubyte"
    whole = labels.read_bytes()
    labels.write_bytes(whole[:-3])
    with pytest.raises(DataError, match=r"'train-labels.idx1-ubyte', got 17 bytes"):
        FashionMNIST(str(folder)).load()
    labels.write_bytes(idx(np.arange(19, dtype=np.uint8) % 10))
    with pytest.raises(DataError, match=r"images \[n, 28, 28\] and labels \[n\] for 'train'"):
        FashionMNIST(str(folder)).load()
    labels.write_bytes(idx(np.full(20, 11, dtype=np.uint8)))
    with pytest.raises(DataError, match=r"labels 0 to 9 for 'train'.*got 11 at record 0"):
        FashionMNIST(str(folder)).load()
    labels.unlink()
    with pytest.raises(DataError, match=r"'train-labels-idx1-ubyte' \(or"):
        FashionMNIST(str(folder)).load()
    with pytest.raises(DataError, match=r"Did you mean"):
        FashionMNIST(str(folder) + "s").load()
    with pytest.raises(UsageError, match=r"`part`"):
        FashionMNIST(part="val")


@pytest.mark.data
def test_the_real_set():
    try:
        population = FashionMNIST(part="both").load()
    except DataError as absent:
        pytest.skip(str(absent))
    assert len(population) == 70_000
    assert (np.bincount(population.label_array) == 7_000).all()


@pytest.mark.data
def test_the_checksums_are_those_of_the_real_files():
    import hashlib

    folder = next((f for f in search_folders() if (f / "train-images-idx3-ubyte.gz").is_file()), None)
    if folder is None:
        pytest.skip("Fashion-MNIST is in none of the folders searched")
    for name, (size, digest) in CONTENT.items():
        content = gzip.GzipFile(fileobj=io.BytesIO((folder / f"{name}.gz").read_bytes())).read()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (size, digest)
