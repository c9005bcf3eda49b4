import numpy as np
import pytest

from sfumato.data.formats.table import Numbers, Table, Words, check_columns, is_number
from sfumato.errors import DataError


def test_words_join_after_blanks_are_stripped():
    words = Words.from_raw(np.array([0, 1, 2, 3, -1]), ["a", " a", "b", " ?"], ("?",))
    assert words.text().tolist() == ["a", "a", "b", "(missing)", "(missing)"]
    assert words.vocabulary == ("a", "b")


def test_taking_rows_forgets_words_that_are_gone():
    words = Words(np.array([0, 1, 2, -1]), ("a", "b", "c")).take(np.array([False, True, True, True]))
    assert words.vocabulary == ("b", "c")
    assert words.codes.tolist() == [0, 1, -1]


def test_a_table_of_some_rows_keeps_their_lines():
    table = Table({"a": Numbers(np.array([1.0, 2.0, 3.0]))}, np.array([2, 3, 7]), "t.csv").take(np.array([0, 2]))
    assert table.place(1) == "t.csv, line 7"
    assert len(table) == 2
    with pytest.raises(TypeError):
        table.words("a")


@pytest.mark.parametrize(
    ("present", "delimiter", "remedy"),
    [
        (["diagnosis", "age"], ",", "Did you mean 'diagnosis'"),
        (["a;b"], ",", "right `delimiter`"),
        (["1", "0"], ",", "header=False"),
        (["x", "z"], "", "one of the columns"),
    ],
)
def test_a_missing_column_gets_the_likely_remedy(present, delimiter, remedy):
    with pytest.raises(DataError, match=remedy):
        check_columns({"label": ["diagnoses"]}, present, "t.csv", delimiter)


def test_case_is_suggested():
    with pytest.raises(DataError, match=r"Did you mean 'SEX'"):
        check_columns({"groups": ["sex"]}, ["SEX", "age"], "t.csv")


def test_numbers_are_known():
    assert [is_number(word) for word in ("1", "-2e5", "1_2", "x", "")] == [True, True, False, False, False]
