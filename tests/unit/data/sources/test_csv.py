import gzip

import numpy as np
import pytest

from sfumato.data.sources.csv import CSV
from sfumato.errors import DataError, UsageError

TEXT = """id,patient,sex,age,job,sick
r1,ann,f,30,nurse,yes
r2,ann,f,31,nurse,no
r3,bob,m,40,clerk,no
r4,cid,m,50,,yes
"""


def source(path, **more) -> CSV:
    roles = {"label": "sick", "unit": "patient", "id": "id", "groups": ("sex",), "missing": "indicator"}
    return CSV(str(path), **{**roles, **more})


def test_roles_of_columns(write):
    population = source(write(TEXT)).load()
    assert population.unit_names.tolist() == ["ann", "bob", "cid"]
    assert population.unit.name == "patient"
    assert population.id_array.tolist() == ["r1", "r2", "r3", "r4"]
    assert population.groups["sex"].tolist() == ["f", "f", "m", "m"]
    assert population.class_names == ("no", "yes")
    assert population.label_array.tolist() == [1, 0, 0, 1]
    assert population.tensor(np.arange(4)).tolist() == [[30, 0, 1, 0], [31, 0, 1, 0], [40, 1, 0, 0], [50, 0, 0, 1]]
    assert {event.stage for event in population.events} == {"data"}


def test_public_lists_leave_no_event(write):
    more = {"categories": {"job": ("clerk", "nurse", "(missing)")}, "classes": ("yes", "no")}
    population = source(write(TEXT), **more).load()
    assert population.events == ()
    assert population.label_array.tolist() == [0, 1, 1, 0]


def test_groups_are_features_only_if_kept(write):
    assert source(write(TEXT), drop=("job",)).load().records.shape == (1,)
    kept = source(write(TEXT), drop=("job",), keep="sex").load()
    assert kept.records.shape == (3,)
    assert kept.groups["sex"].tolist() == ["f", "f", "m", "m"]
    ages = source(write(TEXT), drop="job", groups=("age",), keep=("age",)).load()
    assert ages.groups["age"].tolist() == ["30", "31", "40", "50"]
    with pytest.raises(UsageError, match=r"columns of `groups`, got 'age'"):
        source(write(TEXT), keep=("age",))


def test_rows_with_missing_values_are_dropped_aloud(write):
    population = source(write(TEXT), missing="drop").load()
    assert population.id_array.tolist() == ["r1", "r2", "r3"]
    assert population.notes == ("1 of 4 rows with missing values left out",)
    assert population.unit_names.tolist() == ["ann", "bob"]
    with pytest.raises(DataError, match="row without missing values"):
        CSV(str(write("a,y\n,0\n,1\n")), label="y", unit="example", missing="drop").load()


def test_missing_values_are_refused_unless_a_choice_is_made(write):
    with pytest.raises(DataError, match=r"table.csv, line 5, column `job`.*drop, mean, most-frequent or indicator"):
        source(write(TEXT), missing="refuse").load()
    with pytest.raises(UsageError, match=r"Did you mean 'most-frequent'"):
        source("t.csv", missing="mostfrequent")


@pytest.mark.parametrize("choice", ["refuse", "drop", "mean", "most-frequent", "indicator"])
@pytest.mark.parametrize("column", ["unit", "id"])
def test_every_record_needs_its_unit_and_id(write, choice, column):
    text = "i,p,a,y\n1,ann,1,0\n2,bob,1,1\n" + {"unit": "3,,1,1\n", "id": ",bob,1,1\n"}[column]
    with pytest.raises(DataError, match=r"line 4, column `[ip]`.*needs its unit and id"):
        CSV(str(write(text)), label="y", unit="p", id="i", missing=choice).load()


@pytest.mark.parametrize("choice", ["refuse", "mean", "most-frequent", "indicator"])
def test_labels_are_never_filled_in(write, choice):
    with pytest.raises(DataError, match=r"line 4, column `y`"):
        CSV(str(write("a,y\n1,0\n2,1\n3,\n")), label="y", unit="example", missing=choice).load()


def test_duplicate_ids_name_both_lines(write):
    with pytest.raises(DataError, match=r"column `id`, got 'r1' at lines 2 and 4"):
        source(write(TEXT.replace("r3", "r1"))).load()


def test_missing_columns_are_named_with_their_option(write):
    path = write(TEXT)
    for option in ("label", "unit", "id", "groups", "drop", "categorical"):
        with pytest.raises(DataError, match=rf"column 'jobb' \(option `{option}`\) in table.csv.*Did you mean 'job'"):
            source(path, **{option: "jobb"}).load()
    with pytest.raises(DataError, match=r"option `categories`"):
        source(path, categories={"jobb": ("a",)}).load()


def test_example_is_every_row_unless_a_column_is_called_so(write):
    assert CSV(str(write("a,y\n1,0\n2,1\n")), label="y", unit="example").load().units == 2
    population = CSV(str(write("a,y,example\n1,0,p\n2,1,p\n3,0,q\n")), label="y", unit="example").load()
    assert population.units == 2
    assert population.records.shape == (1,)


def test_the_unit_and_the_label_have_no_default(write):
    with pytest.raises(TypeError, match=r"label.*unit"):
        CSV("t.csv")  # type: ignore[call-arg]
    with pytest.raises(UsageError, match=r"`unit`"):
        CSV("t.csv", label=None, unit="")
    population = CSV(str(write("a\n1\n2\n")), label=None, unit="example").load()
    assert population.labels is None


def test_contradictions_are_refused(write):
    with pytest.raises(UsageError, match=r"`drop` to name unused columns, got 'sex'"):
        source("t.csv", drop=("sex",))
    with pytest.raises(UsageError, match=r"distinct words in `classes`"):
        source("t.csv", classes=("a", "a"))
    with pytest.raises(UsageError, match=r"two `classes`"):
        source("t.csv", classes=("a",))
    with pytest.raises(DataError, match=r"feature columns in table.csv, got none"):
        CSV(str(write("y\n0\n1\n")), label="y", unit="example").load()


def test_a_saved_row_number_is_not_taken_for_a_feature(write):
    path = write(",a,y\n0,1,0\n1,2,1\n")
    with pytest.raises(DataError, match=r"row number: give `drop=\('c0',\)`"):
        CSV(str(path), label="y", unit="example").load()
    assert CSV(str(path), label="y", unit="example", drop="c0").load().records.shape == (1,)
    assert CSV(str(path), label="y", unit="example", id="c0").load().id_array.tolist() == ["0", "1"]


def test_a_headerless_gzip_file_with_quoted_labels(tmp_path):
    path = tmp_path / "location.csv.gz"
    path.write_bytes(gzip.compress(b'"13",0,1\n"2",1,0\n"13",1,1\n'))
    population = CSV(str(path), label="c0", unit="example", header=False).load()
    assert population.class_names == ("2", "13")
    assert population.label_array.tolist() == [1, 0, 1]
    assert population.tensor(np.arange(3)).tolist() == [[0, 1], [1, 0], [1, 1]]
    with pytest.raises(DataError, match=r"header=False"):
        CSV(str(path), label="label", unit="example").load()


def test_categories_that_look_like_numbers(write):
    path = write("code,y\n01,0\n1,1\n")
    assert CSV(str(path), label="y", unit="example").load().records.shape == (1,)
    assert CSV(str(path), label="y", unit="example", categorical="code").load().records.shape == (2,)


@pytest.mark.data
def test_location_30(shared_file):
    path = str(shared_file("location-30.csv.gz"))
    population = CSV(path, label="c0", unit="example", header=False).load()
    assert (len(population), population.records.shape, population.classes) == (5010, (446,), 30)
    assert population.class_names[:3] == ("1", "2", "3")
