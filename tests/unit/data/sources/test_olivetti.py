import zipfile

import numpy as np
import pytest

from sfumato.data.sources.olivetti import Olivetti
from sfumato.data.sources.opening import open_source
from sfumato.errors import DataError, UsageError


@pytest.fixture
def faces(png):
    """Three pictures of person 0, two of person 1 and one of person 39; grey is ten times the number, at most 255."""
    return {f"images/image-{i}.png": png(min(10 * i, 255), (64, 64), "L") for i in (0, 1, 2, 10, 12, 399)}


def fill(folder, members):
    for name, content in members.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return str(folder)


def test_zip_and_folder_read_alike_in_the_order_of_the_numbers(tmp_path, zipped, faces):
    one = Olivetti(str(zipped({"README.md": b"", **faces})), unit="person").load()
    two = Olivetti(fill(tmp_path / "f", faces), unit="person").load()
    assert one.fingerprint == two.fingerprint
    assert one.id_array.tolist() == [f"image-{i}" for i in (0, 1, 2, 10, 12, 399)]
    assert one.label_array.tolist() == [0, 0, 0, 1, 1, 39]
    assert one.class_names[1] == "person-01"
    assert len(one.class_names) == 40
    assert one.records.shape == (1, 64, 64)
    assert [round(255 * float(x)) for x in one.tensor(np.arange(6))[:, 0, 5, 7]] == [0, 10, 20, 100, 120, 255]
    assert one.notes == ("6 of the 400 faces are there.",)


def test_the_unit_is_the_users_choice(zipped, faces):
    path = str(zipped(faces))
    person = Olivetti(path, unit="person").load()
    assert (person.unit.name, person.units, person.unit_of.tolist()) == ("person", 3, [0, 0, 0, 1, 1, 2])
    assert Olivetti(path, unit="example").load().units == 6
    with pytest.raises(UsageError, match=r"`unit`.*patient"):
        Olivetti(path, unit="patient")
    with pytest.raises(UsageError, match=r"`unit` for olivetti"):
        open_source(f"olivetti:{path}")


def test_faces_are_shrunk(tmp_path, png, faces):
    half = png(0, (64, 64), "L")
    population = open_source(
        f"olivetti:{fill(tmp_path, {**faces, 'images/image-3.png': half})}", unit="person", size="32"
    )
    loaded = population.load()
    assert loaded.records.shape == (1, 32, 32)
    assert [round(255 * float(x)) for x in loaded.tensor(np.arange(3))[:, 0].mean((1, 2))] == [0, 10, 20]
    for size in (4, 65):
        with pytest.raises(UsageError, match=r"`size` from 8 to 64"):
            Olivetti("x", unit="person", size=size)


def test_what_is_not_the_set_is_refused(zipped, png, faces):
    def load(members):
        return Olivetti(str(zipped(members)), unit="person").load()

    with pytest.raises(DataError, match=r"image-399.png once, got 'images/image-400.png' in data.zip"):
        load({**faces, "images/image-400.png": png(0, (64, 64))})
    with pytest.raises(DataError, match=r"once, got 'images/image-0.png' in data.zip and 'again/image-0.png'"):
        load({**faces, "again/image-0.png": png(0, (64, 64))})
    with pytest.raises(DataError, match=r"of two people in data.zip, got 2"):
        load({name: faces[name] for name in list(faces)[:2]})
    with pytest.raises(DataError, match=r"64 x 64 pixels in data.zip, got 32 x 32"):
        load({f"image-{i}.png": png(0, (32, 32)) for i in (0, 10)})
    with pytest.raises(DataError, match=r"pixels at 'images/image-0.png'"):
        load({**faces, "images/image-0.png": png(0, (300, 300))})
    with pytest.raises(DataError, match=r"whole image at 'images/image-1.png'|image at 'images/image-1.png'"):
        load({**faces, "images/image-1.png": faces["images/image-1.png"][:40]})


def test_hostile_archives_are_refused(tmp_path, zipped, faces):
    with pytest.raises(DataError, match="leads out"):
        Olivetti(str(zipped({**faces, "../image-5.png": b"x"})), unit="person").load()
    bomb = tmp_path / "bomb.zip"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("images/image-0.png", b"\0" * (2 << 20))
    with pytest.raises(DataError, match=r"bytes for 'images/image-0.png' in bomb.zip"):
        Olivetti(str(bomb), unit="person").load()


@pytest.mark.data
def test_the_shared_zip(shared_file):
    population = Olivetti(str(shared_file("olivetti-faces.zip")), unit="person", size=32).load()
    assert (len(population), population.units, population.classes) == (400, 40, 40)
    assert np.bincount(population.label_array).tolist() == [10] * 40
    assert population.notes == ()
    assert 0.2 < float(population.tensor(np.arange(400)).mean()) < 0.8
