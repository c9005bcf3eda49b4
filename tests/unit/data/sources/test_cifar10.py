import io
import pickle
import tarfile

import numpy as np
import pytest

from sfumato.data.sources.cifar10 import CIFAR10, CLASSES
from sfumato.errors import DataError, UsageError


def batch(*labels: int) -> bytes:
    """Records whose red, green and blue pixels are 10, 20 and 30 times one plus the label."""
    planes = [[label] + [c * 10 + label for c in (1, 2, 3) for _ in range(1024)] for label in labels]
    return np.array(planes, dtype=np.uint8).tobytes()


BINARY = {f"data_batch_{i}.bin": batch(i, 9) for i in range(1, 6)} | {"test_batch.bin": batch(0, 1, 2)}


def fill(folder, members=BINARY):
    folder.mkdir(exist_ok=True)
    for name, content in members.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return str(folder)


def tar(path, members):
    with tarfile.open(path, "w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return str(path)


def test_folder_and_archive_of_the_binary_version_read_alike(tmp_path):
    one = CIFAR10(fill(tmp_path / "c"), part="both").load()
    two = CIFAR10(tar(tmp_path / "c.tar.gz", BINARY), part="both").load()
    assert one.fingerprint == two.fingerprint
    assert one.label_array.tolist() == [1, 9, 2, 9, 3, 9, 4, 9, 5, 9, 0, 1, 2]
    assert one.groups["part"].tolist() == ["train"] * 10 + ["test"] * 3
    assert (one.tensor(np.array([2]))[0, :, 5, 7] * 255).round().tolist() == [12, 22, 32]
    assert one.class_names == CLASSES
    assert len(CIFAR10(fill(tmp_path / "c")).load()) == 10
    assert not (tmp_path / "cifar-10-batches-bin").exists()


def test_a_sample_is_seeded(tmp_path):
    path = fill(tmp_path / "c")
    one, two, other = (CIFAR10(path, records=4, seed=seed).load() for seed in (1, 1, 3))
    assert len(one) == 4
    assert one.id_array.tolist() == two.id_array.tolist() != other.id_array.tolist()


def test_images_in_folders_and_zips(tmp_path, zipped, png):
    members = {
        "README.md": b"",
        **{f"train/{name}/{i}.png": png(9 * i, (32, 32)) for name in ("cat", "truck") for i in range(3)},
        "test/cat/1.png": png(1, (32, 32)),
    }
    for path in (fill(tmp_path / "c", members), str(zipped(members))):
        population = CIFAR10(path).load()
        assert population.label_array.tolist() == [3, 3, 3, 9, 9, 9]
        assert population.id_array[1] == "train/cat/1.png"
        assert (population.tensor(np.array([1])) * 255).round().unique().tolist() == [9]
        assert len(CIFAR10(path, part="both").load()) == 7


@pytest.mark.parametrize("name", ["data_batch_1", "test_batch", "cifar.pkl"])
def test_the_pickled_version_is_refused_with_the_remedy(tmp_path, name):
    members = {name: pickle.dumps({"data": 1})}
    for path in (fill(tmp_path / "c", members), tar(tmp_path / "c.tar.gz", members)):
        with pytest.raises(DataError, match=rf"pickled batch '.*{name}' in c.*binary.tar.gz"):
            CIFAR10(path).load()


def test_damaged_binary_batches_are_named(tmp_path):
    cut = {**BINARY, "data_batch_3.bin": batch(1, 2)[:-5]}
    with pytest.raises(DataError, match=r"3073 bytes at 'data_batch_3.bin' in c, got 6141"):
        CIFAR10(fill(tmp_path / "c", cut)).load()
    with pytest.raises(DataError, match=r"labels 0 to 9 at 'data_batch_2.bin' in c, got 77 at record 1"):
        CIFAR10(fill(tmp_path / "c", {**BINARY, "data_batch_2.bin": batch(1, 77)})).load()
    (tmp_path / "c" / "data_batch_4.bin").unlink()
    fill(tmp_path / "c", {"data_batch_2.bin": batch(1), "data_batch_3.bin": batch(1)})
    with pytest.raises(DataError, match=r"one file 'data_batch_4.bin' in c, got 0"):
        CIFAR10(str(tmp_path / "c")).load()


def test_other_images_are_refused(zipped, png):
    with pytest.raises(DataError, match=r"32 x 32 pixels in data.zip, got 4 x 4"):
        CIFAR10(str(zipped({"train/cat/1.png": png(), "train/dog/1.png": png()}))).load()
    with pytest.raises(DataError, match=r"folder of 'train/lion/1.png' in data.zip, got 'lion'"):
        CIFAR10(str(zipped({"train/cat/1.png": png(0, (32, 32)), "train/lion/1.png": png(0, (32, 32))}))).load()
    with pytest.raises(DataError, match=r"neither `test_batch.bin` nor images `test/<class>/"):
        CIFAR10(str(zipped({"train/cat/1.png": png()})), part="test").load()
    with pytest.raises(DataError, match=r"whole image at 'train/cat/1.png' in data.zip"):
        CIFAR10(str(zipped({"train/cat/1.png": png(0, (32, 32))[:60], "train/dog/1.png": png(0, (32, 32))}))).load()
    with pytest.raises(UsageError, match=r"`part`"):
        CIFAR10("c", part="val")


@pytest.mark.data
def test_the_shared_zip(shared_file):
    path = str(shared_file("cifar10-jpeg.zip"))
    population = CIFAR10(path, records=300).load()
    assert population.records.shape == (3, 32, 32)
    assert len(population) == 300
    assert (np.bincount(population.label_array, minlength=10) > 10).all()
