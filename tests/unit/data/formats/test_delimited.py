import gzip

import numpy as np
import pytest

from sfumato.data.formats import delimited
from sfumato.data.formats.delimited import Dialect, column_names, read_delimited
from sfumato.data.formats.table import Numbers, Words
from sfumato.errors import DataError, UsageError


def numbers(table, name) -> list[float]:
    column = table.columns[name]
    assert isinstance(column, Numbers)
    return column.values.tolist()


def test_numbers_and_words_are_told_apart(write):
    table = read_delimited(write('a,b,c\n1,x,"1,5"\n-2e3, y ,x\n'), Dialect())
    assert numbers(table, "a") == [1.0, -2000.0]
    assert table.words("b").text().tolist() == ["x", "y"]
    assert table.words("c").vocabulary == ("1,5", "x")
    assert table.lines.tolist() == [2, 3]


def test_a_column_asked_for_as_words_keeps_leading_zeros(write):
    table = read_delimited(write("zip,n\n01,1\n1,2\n"), Dialect(), words=["zip"])
    assert table.words("zip").text().tolist() == ["01", "1"]


def test_a_late_word_turns_the_whole_column_into_words(write, monkeypatch):
    monkeypatch.setattr(delimited, "ROWS_PER_BLOCK", 2)
    table = read_delimited(write("a,b\n01,1\n2,2\n3,3\nx,4\n"), Dialect())
    assert table.words("a").text().tolist() == ["01", "2", "3", "x"]
    assert numbers(table, "b") == [1, 2, 3, 4]
    assert table.lines.tolist() == [2, 3, 4, 5]


@pytest.mark.parametrize("cell", ["", "NA", "?", " nan ", "null"])
def test_missing_cells_are_known(write, cell):
    table = read_delimited(write(f"a,b\n1,x\n{cell},{cell}\n"), Dialect())
    assert np.isnan(numbers(table, "a")[1])
    words = table.columns["b"]
    assert isinstance(words, Words)
    assert words.missing.tolist() == [False, True]


def test_a_number_can_be_declared_missing(write):
    table = read_delimited(write("a\n1\n-9\n"), Dialect(missing_values=("-9",)))
    assert np.isnan(numbers(table, "a")[1])


def test_an_underscore_is_not_part_of_a_number(write):
    assert read_delimited(write("a,b\n1_2,1\n12,2\n"), Dialect()).words("a").vocabulary == ("1_2", "12")


def test_files_without_a_header_and_with_other_delimiters(write):
    table = read_delimited(write('"13";0;1\n"2";1;0\n'), Dialect(delimiter=";", header=False), words=["c0"])
    assert list(table.columns) == ["c0", "c1", "c2"]
    assert table.words("c0").text().tolist() == ["13", "2"]
    assert table.lines.tolist() == [1, 2]


def test_gzip_byte_order_mark_and_quoted_line_breaks(tmp_path):
    path = tmp_path / "t.csv.gz"
    path.write_bytes(gzip.compress(b'\xef\xbb\xbfa,b\r\n"x\r\ny",1\r\n\r\nz,2\r\n'))
    table = read_delimited(path, Dialect())
    assert list(table.columns) == ["a", "b"]
    assert table.lines.tolist() == [3, 5]  # where each row ends
    assert table.place(1, "b") == "t.csv.gz, line 5, column `b`"


def test_skipped_columns_are_not_read(write):
    assert list(read_delimited(write("a,b\n1,2\n"), Dialect(), skip=["a"]).columns) == ["b"]


def test_columns_without_a_name_are_known(write):
    assert read_delimited(write(",b\n1,2\n"), Dialect()).unnamed == ("c0",)
    assert read_delimited(write("1,2\n"), Dialect(header=False)).unnamed == ()


def test_a_row_of_another_length_is_named(write):
    with pytest.raises(DataError, match=r"2 cells in table.csv, line 3, got 1\. .*cut off"):
        read_delimited(write("a,b\n1,2\n3\n"), Dialect())


def test_a_quote_that_never_closes_is_named(write):
    with pytest.raises(DataError, match=r"got at line 3"):
        read_delimited(write('a,b\n1,2\n3,"4\n'), Dialect())


def test_a_cut_off_gzip_table_is_named(tmp_path):
    path = tmp_path / "t.csv.gz"
    path.write_bytes(gzip.compress(b"a,b\n" + b"1,2\n" * 9999)[:-9])
    with pytest.raises(DataError, match=r"whole gzip file"):
        read_delimited(path, Dialect())


def test_a_pickle_or_another_encoding_is_refused_with_the_remedy(tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes("a,b\ncaf\u00e9,1\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"utf-8 text in t.csv.*latin-1.*pickled"):
        read_delimited(path, Dialect())
    assert read_delimited(path, Dialect(encoding="latin-1")).words("a").text().tolist() == ["caf\u00e9"]


def test_duplicate_names_and_empty_files_are_refused(write):
    with pytest.raises(DataError, match=r"'a' more than once"):
        column_names(write("a,b,a\n"), Dialect())
    with pytest.raises(DataError, match=r"empty file"):
        column_names(write(""), Dialect())
    with pytest.raises(DataError, match=r"rows below the header"):
        read_delimited(write("a,b\n"), Dialect())


@pytest.mark.parametrize("delimiter", ["", ";;", '"', "\n"])
def test_a_delimiter_is_one_character(delimiter):
    with pytest.raises(UsageError, match=r"one character"):
        Dialect(delimiter=delimiter)
