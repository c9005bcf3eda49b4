import pytest

from sfumato.data.sources import open_source, sources
from sfumato.data.sources.cifar10 import CIFAR10
from sfumato.data.sources.csv import CSV
from sfumato.data.sources.digits import Digits
from sfumato.data.sources.image_folder import ImageFolder
from sfumato.data.sources.npz import NPZ
from sfumato.errors import DataError, UsageError


def test_names_and_paths(write, tmp_path, zipped):
    roles = {"label": "y", "unit": "example"}
    assert open_source("digits", as_images=True) == Digits(as_images=True)
    assert open_source("cifar10:some/folder") == CIFAR10("some/folder")
    for name, kind in (("t.csv", "csv"), ("t.csv.gz", "csv"), ("t.CSV", "csv"), ("t.parquet", "parquet")):
        source = open_source(str(write("", name)), **roles)
        assert (source.name, source.path) == (kind, str(tmp_path / name))  # type: ignore[attr-defined]
    tabbed = open_source(str(write("", "t.tsv")), **roles)
    assert isinstance(tabbed, CSV)
    assert tabbed.delimiter == "\t"
    assert isinstance(open_source(str(write("", "a.npz")), unit="example"), NPZ)
    assert open_source(str(zipped({})), unit="example").name == "image-zip"
    assert isinstance(open_source(str(tmp_path), unit="example"), ImageFolder)
    assert open_source("csv:odd.name", **roles) == CSV("odd.name", **roles)


def test_text_options_as_on_a_command_line():
    source = open_source(
        "csv:t",
        label="y",
        unit="who",
        groups="sex, age",
        header="false",
        categories="job=clerk|nurse,town=York",
    )
    assert isinstance(source, CSV)
    assert (source.groups, source.header) == (("sex", "age"), False)
    assert source.categories == {"job": ("clerk", "nurse"), "town": ("York",)}
    images = open_source("image-folder:f", unit="example", size="32x48", records="100", seed="none")
    assert isinstance(images, ImageFolder)
    assert (images.size, images.records, images.seed) == ((32, 48), 100, None)


@pytest.mark.parametrize(
    ("option", "text", "form"),
    [("header", "maybe", "true or false"), ("categories", "job", "COLUMN=")],
)
def test_text_of_another_form_is_refused(option, text, form):
    with pytest.raises(UsageError, match=rf"`{option}` of csv as {form}"):
        open_source("csv:t", label="y", unit="example", **{option: text})
    with pytest.raises(UsageError, match=r"`size` of image-zip as HEIGHTxWIDTH, got '32'"):
        open_source("image-zip:t", unit="example", size="32")
    with pytest.raises(UsageError, match=r"`records` of cifar10 as a whole number or none"):
        open_source("cifar10:t", records="many")


@pytest.mark.parametrize(
    ("text", "near"),
    [
        ("digit", "digits"),
        ("fashion_mnist", "fashion-mnist"),
        ("cifar:x", "cifar10"),
        ("breast-cancr", "breast-cancer"),
    ],
)
def test_near_misses_are_suggested(text, near):
    with pytest.raises(UsageError, match=rf"Did you mean '{near}'"):
        open_source(text)


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("a.pkl", "pickle can run code"),
        ("model.PT", "pickle can run code"),
        ("x.npy", "numpy.savez"),
        ("book.xlsx", "as CSV"),
        ("cifar-10-binary.tar.gz", "cifar10:PATH"),
        ("train-images-idx3-ubyte.gz", "fashion-mnist:FOLDER"),
    ],
)
def test_kinds_that_are_not_read_come_with_the_remedy(text, remedy):
    with pytest.raises(DataError, match=remedy):
        open_source(text)


def test_absent_files_name_their_neighbours(write):
    path = write("a", "patients.csv")
    with pytest.raises(DataError, match=r"Did you mean '.*patients.csv'"):
        open_source(str(path).replace("patients", "patient"), label="y", unit="example")


def test_options_are_checked():
    with pytest.raises(UsageError, match=r"Did you mean 'label'"):
        open_source("csv:t", lable="y", unit="example")
    with pytest.raises(UsageError, match=r"`label` and `unit` for csv.*whose privacy counts"):
        open_source("csv:t")
    with pytest.raises(UsageError, match=r"`path` for cifar10.*cifar10:PATH"):
        open_source("cifar10")
    with pytest.raises(UsageError, match=r"it has none"):
        open_source("breast-cancer", part="x")
    with pytest.raises(UsageError, match=r"given in Python"):
        open_source("tensors")


def test_unknown_text_lists_what_is_known():
    with pytest.raises(UsageError, match=r"breast-cancer, cifar10, .*\.zip"):
        open_source("zzz")


def test_all_sources_are_found():
    assert set(sources()) >= {"breast-cancer", "cifar10", "csv", "digits", "fashion-mnist", "image-folder", "image-zip"}
    assert set(sources()) >= {"npz", "parquet", "tensors"}
