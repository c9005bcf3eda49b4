import numpy as np
import pytest

from sfumato.data.sources.image_folder import ImageFolder
from sfumato.errors import DataError, UsageError


@pytest.fixture
def fill(tmp_path, png):
    """A folder of images; the value of each is given."""

    def _fill(images: dict[str, int], **more: bytes) -> str:
        members = {name: png(value) for name, value in images.items()} | more
        for name, content in members.items():
            path = tmp_path / "images" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return str(tmp_path / "images")

    return _fill


PATIENTS = {"dog/p1_a.png": 1, "dog/p1_b.png": 2, "cat/p2_a.png": 3, "cat/p1_c.png": 4, "cat/p3_a.png": 5}


def test_classes_are_folders_and_ids_are_names(fill):
    population = ImageFolder(fill(PATIENTS), unit="example").load()
    assert population.class_names == ("cat", "dog")
    assert population.id_array.tolist() == sorted(PATIENTS)
    assert population.label_array.tolist() == [0, 0, 0, 1, 1]
    assert population.units == 5
    assert (population.tensor(np.array([0])) * 255).round().unique().tolist() == [4]
    assert "class list" in population.events[0].purpose
    listed = ImageFolder(fill(PATIENTS), unit="example", classes=("dog", "cat", "cow")).load()
    assert listed.events == ()
    assert listed.label_array.tolist() == [1, 1, 1, 0, 0]


def test_units_by_pattern_and_by_file(fill, write):
    pattern = ImageFolder(fill(PATIENTS), unit="patient", unit_pattern=r"(p\d+)_").load()
    rows = "\n".join(f"{name},{name.split('/')[1][:2]}" for name in PATIENTS)
    file = str(write(f"file,patient\n{rows}\n", "units.csv"))
    listed = ImageFolder(fill(PATIENTS), unit="patient", unit_file=file).load()
    for population in (pattern, listed):
        assert population.unit.name == "patient"
        assert population.units == 3
        assert population.unit_names[population.unit_of].tolist() == ["p1", "p2", "p3", "p1", "p1"]


def test_units_that_cannot_be_told_are_named(fill, write):
    path = fill({**PATIENTS, "dog/other.png": 1})
    with pytest.raises(DataError, match=r"unit of 'dog/other.png' in images, got no match"):
        ImageFolder(path, unit="patient", unit_pattern=r"(p\d+)_").load()
    file = write("file,patient\ncat/p1_c.png,p1\n", "units.csv")
    with pytest.raises(DataError, match=r"got none for 'cat/p2_a.png' \(5 are missing\)"):
        ImageFolder(path, unit="patient", unit_file=str(file)).load()
    with pytest.raises(DataError, match=r"units.csv, line 2, column `patient`"):
        ImageFolder(path, unit="patient", unit_file=str(write("file,patient\ncat/p1_c.png,\n", "units.csv"))).load()
    with pytest.raises(DataError, match=r"column 'person' \(option `unit_file`\)"):
        ImageFolder(path, unit="person", unit_file=str(file)).load()


@pytest.mark.parametrize(
    "more",
    [
        {"unit": "patient"},
        {"unit": "example", "unit_pattern": "(p)"},
        {"unit": ""},
        {"unit": "patient", "unit_pattern": "(p)", "unit_file": "u.csv"},
        {"unit": "patient", "unit_pattern": "p"},
        {"unit": "patient", "unit_pattern": "("},
        {"unit": "example", "colour": "gray"},
        {"unit": "example", "size": (0, 1)},
    ],
)
def test_contradictions_are_refused_at_once(more):
    with pytest.raises(UsageError):
        ImageFolder("images", **more)


def test_a_sample_takes_whole_units(fill):
    path = fill(PATIENTS)
    sample = {"unit": "patient", "unit_pattern": r"(p\d+)_", "records": 2}
    first = ImageFolder(path, **sample, seed=None).load()
    assert first.id_array.tolist() == ["cat/p1_c.png", "dog/p1_a.png", "dog/p1_b.png"]
    big = fill({f"{c}/{i}.png": i for c in ("cat", "dog") for i in range(30)})
    one, two, other = (ImageFolder(big, unit="example", records=20, seed=seed).load() for seed in (0, 0, 1))
    assert len(one) == 20
    assert one.id_array.tolist() == two.id_array.tolist() != other.id_array.tolist()


def test_inside_colour_and_size(fill):
    path = fill({"train/cat/1.png": 10, "train/dog/1.png": 20, "test/cat/2.png": 30})
    source = ImageFolder(path, unit="example", inside="train", colour="grey", size=[6, 5])  # type: ignore[arg-type]
    population = source.load()
    assert population.records.shape == (1, 6, 5)
    assert population.id_array.tolist() == ["cat/1.png", "dog/1.png"]


def test_files_beside_the_class_folders_are_noted(fill):
    population = ImageFolder(fill(PATIENTS, **{"README.md": b"x"}), unit="example").load()
    assert population.notes == ("1 files outside class folders not read, e.g. 'README.md'",)


def test_bad_folders_are_named(fill, tmp_path):
    with pytest.raises(DataError, match=r"at least two class folders in images, got images in 'cat' only"):
        ImageFolder(fill({"cat/1.png": 1}), unit="example").load()
    path = fill({"dog/1.png": 1}, **{"dog/notes.txt": b"x"})
    with pytest.raises(DataError, match=r"only in class folders, got 'dog/notes.txt' in images"):
        ImageFolder(path, unit="example").load()
    (tmp_path / "images" / "dog" / "notes.txt").unlink()
    with pytest.raises(DataError, match=r"class of 'cat' for 'dog/1.png' in images, got 'dog'"):
        ImageFolder(path, unit="example", classes=("cat",)).load()
    fill({}, **{"dog/2.png": b"\x89PNG\r\n\x1a\n123"})
    with pytest.raises(DataError, match=r"'dog/2.png' in images"):
        ImageFolder(path, unit="example").load()
    with pytest.raises(DataError, match=r"class folders with images in images/val"):
        ImageFolder(path, unit="example", inside="val").load()
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match=r"got a file.*image-zip"):
        ImageFolder(str(tmp_path / "file"), unit="example").load()
