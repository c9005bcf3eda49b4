from dataclasses import dataclass

import pytest

from sfumato.cli.fields import make, names, read, shown
from sfumato.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Sample:
    whole: int = 1
    real: float = 0.5
    truth: bool = False
    word: str = "a"
    several: tuple[str, ...] = ()
    numbers: tuple[float, ...] = ()
    perhaps: float | None = None
    either: float | tuple[float, ...] = 0.5


def test_text_is_read_as_the_type_of_the_field() -> None:
    made = make(
        Sample,
        {"whole": "3", "real": "1e-3", "truth": "true", "several": "a, b", "numbers": "0.1,1", "perhaps": "none"},
        "sample",
    )
    assert made == Sample(whole=3, real=1e-3, truth=True, several=("a", "b"), numbers=(0.1, 1.0), perhaps=None)


def test_one_number_stays_one_where_several_may_be_given() -> None:
    assert make(Sample, {"either": "0.5"}, "sample") == Sample()
    assert make(Sample, {"either": "0.5,0.25"}, "sample").either == (0.5, 0.25)
    assert make(Sample, {"numbers": "2"}, "sample").numbers == (2.0,)


def test_plain_values_stay_what_they_are() -> None:
    assert make(Sample, {"numbers": [1, 2], "perhaps": 3, "word": "none"}, "x") == Sample(
        numbers=(1.0, 2.0), perhaps=3.0, word="none"
    )


def test_unknown_key_is_refused_with_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"'wohle'.*'whole'"):
        make(Sample, {"wohle": 1}, "[sample]")
    with pytest.raises(UsageError, match="Known: whole"):
        make(Sample, {"zzz": 1}, "[sample]")


@pytest.mark.parametrize(("key", "value"), [("whole", "1.5"), ("real", "x"), ("truth", "maybe"), ("word", 3)])
def test_a_value_of_another_type_is_refused(key: str, value: object) -> None:
    with pytest.raises(UsageError, match=f"sample {key}"):
        make(Sample, {key: value}, "sample")


def test_fields_left_out_cannot_be_given() -> None:
    with pytest.raises(UsageError, match="word"):
        read(Sample, {"word": "b"}, "sample", without=("word",))


def test_shown_is_the_inverse_of_make() -> None:
    value = Sample(whole=2, several=("x",))
    assert "perhaps" not in shown(value)
    assert make(Sample, shown(value), "x") == value
    assert names(Sample)[0] == "whole"
