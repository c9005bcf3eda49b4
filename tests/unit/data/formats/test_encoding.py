import numpy as np
import pytest

from sfumato.data.formats.encoding import complete_rows, encode_features, encode_labels
from sfumato.data.formats.table import Numbers, Table, Words
from sfumato.errors import DataError

NAN = np.nan


def table(**columns) -> Table:
    made = {}
    for name, values in columns.items():
        if any(isinstance(value, str) for value in values):
            vocabulary = tuple(dict.fromkeys(value for value in values if value is not None))
            codes = [vocabulary.index(value) if value is not None else -1 for value in values]
            made[name] = Words(np.array(codes), vocabulary)
        else:
            made[name] = Numbers(np.array(values, dtype=float))
    return Table(made, np.arange(2, 2 + len(values)), "t.csv")


def encode(data: Table, missing="refuse", categories=None, **more):
    return encode_features(data, list(data.columns), missing=missing, categories=categories or {}, **more)


def test_numbers_stay_and_words_become_one_hot_in_sorted_order():
    encoded = encode(table(age=[3, 1], job=["nurse", "clerk"]))
    assert encoded.names == ("age", "job=clerk", "job=nurse")
    assert encoded.matrix.tolist() == [[3, 0, 1], [1, 1, 0]]
    assert encoded.matrix.dtype == np.float32


def test_a_fitted_category_list_is_an_event_and_a_public_one_is_not():
    data = table(job=["b", "a"], town=["x", "y"])
    (event,) = encode(data).events
    assert (event.stage, event.private, event.records) == ("data", False, 2)
    assert event.purpose == "category lists fitted on the records (`job`, `town`)"
    (event,) = encode(data, categories={"job": ["a", "b", "c"]}).events
    assert "`job`" not in event.purpose
    encoded = encode(data, categories={"job": ["a", "b", "c"], "town": ["x", "y"]})
    assert encoded.events == ()
    assert encoded.matrix.tolist() == [[0, 1, 0, 1, 0], [1, 0, 0, 0, 1]]


def test_a_category_outside_its_public_list_is_named():
    with pytest.raises(
        DataError, match=r"'a' at t.csv, line 3, column `job`, got 'z'. Add it to `categories\['job'\]`"
    ):
        encode(table(job=["a", "z"]), categories={"job": ["a"]})


def test_missing_values_are_refused_by_line_and_column():
    with pytest.raises(DataError, match=r"t.csv, line 4, column `age`, got a missing one \(2 in this column\)"):
        encode(table(age=[1, 2, NAN, NAN]))
    with pytest.raises(DataError, match=r"line 3, column `job`"):
        encode(table(job=["a", None]))


def test_the_mean_is_an_event():
    encoded = encode(table(age=[1, NAN, 5], size=[1, 2, 3]), "mean")
    assert encoded.matrix[:, 0].tolist() == [1, 3, 5]
    assert [event.purpose for event in encoded.events] == [
        "the mean of columns with missing values fitted on the records (`age`)"
    ]


def test_the_most_frequent_fills_numbers_and_words():
    encoded = encode(table(age=[7, 7, 5, NAN], job=["b", "b", None, "a"]), "most-frequent")
    assert encoded.matrix.tolist() == [[7, 0, 1], [7, 0, 1], [5, 0, 1], [7, 1, 0]]
    assert len(encoded.events) == 3


def test_indicators_say_what_was_missing():
    encoded = encode(table(age=[1, NAN], job=[None, "a"]), "indicator")
    assert encoded.names == ("age", "age is missing", "job=a", "job=(missing)")
    assert encoded.matrix.tolist() == [[1, 0, 0, 1], [0, 1, 1, 0]]
    assert any("which columns have missing values" in event.purpose for event in encoded.events)


def test_a_public_category_for_missing_values_needs_no_event():
    encoded = encode(table(job=[None, "a"]), "indicator", categories={"job": ["a", "(missing)"]})
    assert encoded.events == ()
    assert encoded.matrix.tolist() == [[0, 1], [1, 0]]


@pytest.mark.parametrize("missing", ["mean", "most-frequent"])
def test_nothing_can_be_fitted_on_an_empty_column(missing):
    for values in ([NAN, NAN], [None, None]):
        data = (
            table(age=values)
            if values[0] is not None
            else Table({"age": Words(np.array([-1, -1]), ())}, np.array([2, 3]), "t.csv")
        )
        with pytest.raises(DataError, match=r"column `age`, got none to fit"):
            encode(data, missing)


@pytest.mark.parametrize("bad", [np.inf, -np.inf, 1e39])
def test_infinite_values_are_named(bad):
    with pytest.raises(DataError, match=r"finite number at t.csv, line 3, column `age`"):
        encode(table(age=[1, bad]))


def test_words_that_look_like_damaged_numbers_are_refused():
    values = [*map(str, range(150)), "12,5", "7"]
    with pytest.raises(
        DataError, match=r"151 different values; '12,5' at t.csv, line 152, column `dose` is not a number"
    ):
        encode(table(dose=values))
    assert encode(table(dose=values), declared=["dose"]).matrix.shape == (152, 151)


def test_complete_rows():
    assert complete_rows(table(a=[1, NAN, 3], b=["x", "y", None]), ["a", "b"]).tolist() == [True, False, False]


def test_labels_are_sorted_as_numbers_where_they_are():
    classes = encode_labels(table(y=["10", "2", "2"]), "y", ())
    assert classes.names == ("2", "10")
    assert classes.labels.tolist() == [1, 0, 0]
    assert classes.labels.dtype == np.int64
    assert "the class list of `y`" in classes.events[0].purpose


def test_labels_from_zero_and_public_lists_are_no_event():
    assert encode_labels(table(y=["1", "0"]), "y", ())[1:] == (("0", "1"), ())
    classes = encode_labels(table(y=["no", "yes"]), "y", ("yes", "no", "perhaps"))
    assert classes.labels.tolist() == [1, 0]
    assert classes.events == ()


def test_bad_labels_are_refused_with_their_place():
    with pytest.raises(DataError, match=r"line 3, column `y`, got a missing one"):
        encode_labels(table(y=["a", None]), "y", ())
    with pytest.raises(DataError, match=r"two or more classes in t.csv, column `y`, got 'a' only"):
        encode_labels(table(y=["a", "a"]), "y", ("a", "b"))
    with pytest.raises(DataError, match=r"line 3, column `y`, got 'b'. Add it to `classes`"):
        encode_labels(table(y=["a", "b"]), "y", ("a", "c"))
    with pytest.raises(DataError, match=r"40 different values in 40 rows"):
        encode_labels(table(y=[str(i / 7) for i in range(40)]), "y", ())
