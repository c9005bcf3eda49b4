import numpy as np
import pytest

from sfumato.data.sources.image_zip import ImageZip
from sfumato.errors import DataError


def test_a_zip_reads_like_a_folder(zipped, png):
    path = zipped({"cat/1.png": png(7), "dog/2.png": png(8), "note.txt": b""})
    population = ImageZip(str(path), unit="example").load()
    assert population.id_array.tolist() == ["cat/1.png", "dog/2.png"]
    assert (population.tensor(np.arange(2))[:, 0, 0, 0] * 255).round().tolist() == [7, 8]


def test_hostile_and_damaged_zips_are_refused(zipped, png, tmp_path):
    with pytest.raises(DataError, match=r"'../evil.png': a name that leads out"):
        ImageZip(str(zipped({"cat/1.png": png(), "../evil.png": png()})), unit="example").load()
    path = zipped({"cat/1.png": png(), "dog/1.png": png()})
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(DataError, match=r"whole zip at '.*data.zip'"):
        ImageZip(str(path), unit="example").load()
    with pytest.raises(DataError, match=r"got a folder"):
        ImageZip(str(tmp_path), unit="example").load()


def test_an_unreadable_image_is_named(zipped, png):
    with pytest.raises(DataError, match=r"bytes of another kind|whole image at 'dog/1.png' in data.zip"):
        ImageZip(str(zipped({"cat/1.png": png(), "dog/1.png": b"MZ"})), unit="example").load()


@pytest.mark.data
def test_the_shared_zip(shared_file):
    path = str(shared_file("cifar10-jpeg.zip"))
    population = ImageZip(path, unit="example", inside="test", records=200).load()
    assert population.classes == 10
    assert population.id_array[0].startswith("airplane/")
