import enum
import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from sfumato.canonical import array_digest, canonical_json, content_hash, plain
from sfumato.errors import UsageError


@dataclass(frozen=True)
class One:
    a: int = 1
    b: tuple[float, ...] = (0.1,)


@dataclass(frozen=True)
class Other:
    a: int = 1
    b: tuple[float, ...] = (0.1,)


class Stated:
    def spec(self):
        return {"mine": One()}


def test_a_dataclass_carries_its_class():
    assert plain(One())["class"].endswith("One")
    assert content_hash(One()) != content_hash(Other())
    assert content_hash(One()) == content_hash(One(1, (0.1,)))
    assert content_hash(One(2)) != content_hash(One())


def test_one_text_for_one_value():
    assert canonical_json({"b": 1, "a": [True, None, 0.1]}) == '{"a":[true,null,0.1],"b":1}'
    assert content_hash({"a": 1, "b": 2}) == content_hash({"b": 2, "a": 1})
    assert content_hash((1, 2)) == content_hash([1, 2])
    assert content_hash(np.float64(0.5)) == content_hash(0.5)
    assert plain(Stated()) == {"mine": plain(One())}


def test_values_that_differ_differ():
    values = [0, 0.0, False, None, "", "0", [], {}, [0], 1e-300, -1, math.nan, "nan", math.inf, -math.inf, np.zeros(1)]
    assert len({content_hash(value) for value in values}) == len(values)


def test_what_json_lacks_is_still_json():
    text = canonical_json([math.nan, math.inf, np.float32("nan")])
    assert json.loads(text, parse_constant=pytest.fail) == [{"float": "nan"}, {"float": "inf"}, {"float": "nan"}]


def test_keys_that_would_be_written_alike_are_refused():
    with pytest.raises(UsageError, match="keys that stay apart"):
        plain({1: "a", "1": "b"})


class Colour(enum.Enum):
    RED = 1


REFUSED = [object(), len, {1, 2}, b"bytes", Path("a"), One, Colour.RED, 1j]


@pytest.mark.parametrize("value", REFUSED, ids=lambda value: type(value).__name__)
def test_what_cannot_be_written_down_is_refused(value):
    with pytest.raises(UsageError, match="written down"):
        content_hash([value])


def test_array_digests_see_dtype_shape_and_content():
    base = np.arange(6, dtype=np.int64)
    variants = [base, base.astype(np.int32), base.reshape(2, 3), base.reshape(3, 2), base + 1, base.astype(float)]
    assert len({array_digest(v) for v in variants}) == len(variants)
    grid = base.reshape(2, 3)
    assert array_digest(np.asfortranarray(grid)) == array_digest(grid)
    assert array_digest(base[::2]) == array_digest(base[::2].copy())
    assert array_digest(np.zeros((0, 3))) != array_digest(np.zeros((3, 0)))
    assert array_digest(np.float32(1)) == array_digest(np.array(1, dtype=np.float32))


def test_text_arrays_do_not_run_together():
    assert array_digest(np.array(["a\x1fb", "c"])) != array_digest(np.array(["a", "b\x1fc"]))
    assert array_digest(np.array(["ab", ""])) != array_digest(np.array(["a", "b"]).astype("<U2"))
    assert array_digest(np.array(["1"], dtype=object)) != array_digest(np.array([1], dtype=object))
    with pytest.raises(UsageError, match="written down"):
        array_digest(np.array([object()]))
