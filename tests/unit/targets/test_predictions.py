import csv
import gzip

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sfumato.errors import DataError, SfumatoError, UsageError
from sfumato.targets.predictions import PredictionColumns, read_predictions

GOOD = [["label", "member", "p0", "p1"], [0, 1, 0.75, 0.25], [1, 0, 0.5, 0.5], [1, 1, 0.125, 0.875]]


def table(folder, rows, name="p.csv"):
    path = folder / name
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows(rows)
    return path


def read(path, unit="example", **columns):
    return read_predictions(path, PredictionColumns(**columns), unit=unit)


def with_cell(row, column, value):
    rows = [list(r) for r in GOOD]
    rows[row][column] = value
    return rows


def test_what_the_table_says(tmp_path):
    found = read(table(tmp_path, GOOD))
    assert found.name == "p.csv"
    assert found.members.tolist() == [True, False, True]
    assert found.labels.tolist() == [0, 1, 1]
    np.testing.assert_allclose(np.exp(found.log_probabilities), [[0.75, 0.25], [0.5, 0.5], [0.125, 0.875]])
    assert found.unit_of.tolist() == [0, 1, 2]
    assert found.scores is None


def test_gzip_and_parquet_say_the_same(tmp_path):
    plain = read(table(tmp_path, GOOD))
    packed = tmp_path / "p.csv.gz"
    packed.write_bytes(gzip.compress((tmp_path / "p.csv").read_bytes()))
    columns = {name: [row[i] for row in GOOD[1:]] for i, name in enumerate(GOOD[0])}
    pq.write_table(pa.table({**columns, "member": [True, False, True]}), tmp_path / "p.parquet")
    for other in (packed, tmp_path / "p.parquet"):
        assert read(other).fingerprint == plain.fingerprint


@pytest.mark.parametrize(
    ("words", "expected"),
    [(("1", "0", "1.0"), [1, 0, 1]), (("Member", "NONMEMBER", "in"), [1, 0, 1]), (("yes", "no", "TRUE"), [1, 0, 1])],
)
def test_words_for_membership(tmp_path, words, expected):
    rows = [GOOD[0], *([r[0], w, *r[2:]] for r, w in zip(GOOD[1:], words, strict=True))]
    assert read(table(tmp_path, rows)).members.tolist() == [bool(e) for e in expected]


def test_labels_may_be_the_names_of_the_probability_columns(tmp_path):
    rows = [["y", "member", "dog", "cat"], ["cat", 1, 0.1, 0.9], ["dog", 0, 0.4, 0.6]]
    found = read(table(tmp_path, rows), label="y", probabilities=("dog", "cat"))
    assert found.labels.tolist() == [1, 0]


def test_a_column_named_like_a_number_is_meant_by_its_name(tmp_path):
    rows = [["label", "member", "1", "0"], ["1", 1, 0.9, 0.1], ["0", 0, 0.4, 0.6]]
    found = read(table(tmp_path, rows), probabilities=("1", "0"))
    assert found.labels.tolist() == [0, 1]  # column "1" stands first


@pytest.mark.parametrize(
    ("row", "column", "value", "said"),
    [
        (1, 0, "2", "class from 0 to 1"),
        (1, 0, "-1", "class from 0 to 1"),
        (1, 0, "0.5", "class from 0 to 1"),
        (1, 0, "1_0", "class from 0 to 1"),
        (1, 0, "", "class from 0 to 1"),
        (1, 0, "cat", "got 'cat' at p.csv, line 2"),
        (2, 1, "maybe", "got 'maybe' at p.csv, line 3, column `member`"),
        (2, 1, "", "member/nonmember"),
        (1, 2, "", "missing or infinite"),
        (1, 2, "nan", "missing or infinite"),
        (1, 2, "inf", "missing or infinite"),
        (2, 2, "high", "got 'high'"),
        (1, 2, "-0.25", "sum"),
        (1, 2, "1.75", "sum"),
        (1, 2, "0.7", "sum"),
        (1, 2, "75", "not logits or percentages"),
    ],
)
def test_a_broken_cell_is_named_with_its_place(tmp_path, row, column, value, said):
    with pytest.raises(DataError) as error:
        read(table(tmp_path, with_cell(row, column, value)))
    assert said in str(error.value)
    assert error.value.remedy


def test_logits_are_refused_with_the_remedy(tmp_path):
    rows = [GOOD[0], [0, 1, 2.3, -1.1], [1, 0, -0.4, 0.2]]
    with pytest.raises(DataError, match="softmax outputs, not logits"):
        read(table(tmp_path, rows))


@pytest.mark.parametrize("member", [0, 1])
def test_one_class_of_membership_is_refused(tmp_path, member):
    rows = [GOOD[0], *([r[0], member, *r[2:]] for r in GOOD[1:])]
    with pytest.raises(DataError, match="members and non-members"):
        read(table(tmp_path, rows))


def test_a_table_without_rows_is_refused(tmp_path):
    with pytest.raises(SfumatoError, match="Expected"):
        read(table(tmp_path, GOOD[:1]))


def test_a_missing_column_suggests_the_nearest(tmp_path):
    rows = [["lable", "member", "p0", "p1"], *GOOD[1:]]
    with pytest.raises(DataError, match="Did you mean 'lable'"):
        read(table(tmp_path, rows))


@pytest.mark.parametrize("header", [["label", "member", "p0", "p2"], ["label", "member", "p1", "p2"]])
def test_gaps_in_the_numbered_columns_are_refused(tmp_path, header):
    with pytest.raises(DataError, match="probability columns p0, p1"):
        read(table(tmp_path, [header, *GOOD[1:]]))


@pytest.mark.parametrize(
    "columns",
    [
        {"probabilities": ("p0",)},
        {"probabilities": ("p0", "p0")},
        {"score": "member"},
        {"label": "member"},
        {"probabilities": ("label", "p1")},
    ],
    ids=str,
)
def test_columns_with_two_roles_are_refused(columns):
    with pytest.raises(UsageError, match="Expected"):
        PredictionColumns(**columns)


def test_a_score_table_needs_no_labels(tmp_path):
    rows = [["member", "s"], [1, 0.5], [0, "-3e2"]]
    found = read(table(tmp_path, rows), score="s")
    assert found.scores.tolist() == [0.5, -300.0]
    assert found.labels is None
    with pytest.raises(DataError, match="infinite"):
        read(table(tmp_path, [["member", "s"], [1, "inf"], [0, 1]]), score="s")


def test_units_join_rows_and_may_not_be_half_in(tmp_path):
    rows = [[*GOOD[0], "who"], [*GOOD[1], "b"], [*GOOD[2], "a"], [*GOOD[3], "b"]]
    found = read(table(tmp_path, rows), groups=("who",))
    assert found.groups["who"].tolist() == ["b", "a", "b"]
    joined = read_predictions(table(tmp_path, rows), PredictionColumns(unit="who"), unit="patient")
    assert joined.unit_of.tolist() == [1, 0, 1]
    assert joined.unit_members.tolist() == [False, True]
    rows[3][1] = 0
    half = read_predictions(table(tmp_path, rows), PredictionColumns(unit="who"), unit="patient")
    with pytest.raises(DataError, match="Expected every patient wholly in or wholly out"):
        _ = half.unit_members


def test_a_row_without_its_unit_is_refused(tmp_path):
    rows = [[*GOOD[0], "who"], [*GOOD[1], "b"], [*GOOD[2], ""]]
    with pytest.raises(DataError, match=r"Expected a unit at p\.csv, line 3"):
        read_predictions(table(tmp_path, rows), PredictionColumns(unit="who"), unit="patient")


def test_the_fingerprint_follows_the_content(tmp_path):
    one = read(table(tmp_path, GOOD))
    assert one.fingerprint == read(table(tmp_path, GOOD, "other.csv")).fingerprint
    assert one.fingerprint != read(table(tmp_path, with_cell(1, 1, 0))).fingerprint


def test_printed_zero_and_one_stay_finite(tmp_path):
    rows = [GOOD[0], [0, 1, 1, 0], [1, 0, 1, 0]]
    assert np.isfinite(read(table(tmp_path, rows)).log_probabilities).all()
