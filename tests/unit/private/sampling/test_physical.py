"""Physical batches: one shape, each drawn record once, nothing that was not drawn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sfumato.errors import UsageError
from sfumato.private.noise import SeededNoise, SystemNoise
from sfumato.private.sampling import UnitRows, physical_batches

UNIT_OF = np.array([2, 2, 2, 0, 1, 1, 4, 2])  # unit 3 has no records


def cut(units, size, cap, unit_of=UNIT_OF, count=5, source=None):
    return list(
        physical_batches(
            np.array(units, dtype=np.int64), UnitRows.of(unit_of, count), size, cap, source or SystemNoise()
        )
    )


def test_the_records_of_each_unit():
    rows = UnitRows.of(UNIT_OF, 5)
    found = [rows.rows[rows.starts[u] : rows.starts[u + 1]].tolist() for u in range(5)]
    assert found == [[3], [4, 5], [0, 1, 2, 7], [], [6]]
    assert rows.sizes.tolist() == [1, 2, 4, 0, 1]
    with pytest.raises(UsageError, match="between 0 and 3"):
        UnitRows.of(UNIT_OF, 4)


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 12), st.integers(1, 4), st.integers(1, 7), st.integers(0, 10**6))
def test_every_drawn_unit_comes_once_with_as_many_records_as_the_cap_allows(count, cap, size, seed):
    rng = np.random.default_rng(seed)
    unit_of = rng.integers(0, count, size=rng.integers(0, 30))
    drawn = np.flatnonzero(rng.random(count) < 0.6)
    batches = cut(drawn, size, cap, unit_of, count)
    held = {u: np.flatnonzero(unit_of == u) for u in drawn}
    present = [u for u in drawn if len(held[u])]
    assert len(batches) == -(-len(present) // size)
    seen = []
    for batch in batches:
        assert batch.rows.shape == batch.mask.shape == (size, cap)
        assert batch.rows.dtype == batch.units.dtype == np.int64
        for rows, mask, unit in zip(batch.rows, batch.mask, batch.units, strict=True):
            if unit == -1:
                assert not mask.any()
                continue
            assert len(set(rows[mask])) == mask.sum() == min(cap, len(held[unit]))
            assert set(rows[mask]) <= set(held[unit])
            seen.append(unit)
        assert set(batch.rows.ravel()) <= {row for u in drawn for row in held[u]}  # no record is read undrawn
    assert seen == present


def test_an_empty_draw_gives_no_batch():
    assert cut([], 3, 2) == []
    assert cut([3], 3, 2) == []


def test_one_record_per_unit_is_the_simple_case():
    batches = cut([0, 2, 5], 2, 1, np.arange(6), 6)
    assert [b.rows.tolist() for b in batches] == [[[0], [2]], [[5], [5]]]
    assert [b.mask.tolist() for b in batches] == [[[True], [True]], [[True], [False]]]
    assert [b.units.tolist() for b in batches] == [[0, 2], [5, -1]]


def test_records_beyond_the_cap_are_chosen_anew_each_time():
    choices = {tuple(cut([2], 1, 2, source=SeededNoise(1).at(step))[0].rows[0]) for step in range(60)}
    assert choices == {(0, 1), (0, 2), (0, 7), (1, 2), (1, 7), (2, 7)}
    one, two = (cut([2], 1, 2, source=SeededNoise(1).at(4))[0].rows for _ in range(2))
    assert np.array_equal(one, two)


def test_a_unit_that_enters_twice_is_refused():
    with pytest.raises(UsageError, match="at most once"):
        cut([2, 2], 3, 2)


@pytest.mark.parametrize(("size", "cap"), [(0, 1), (1, 0)])
def test_shapes_have_at_least_one_place(size, cap):
    with pytest.raises(UsageError):
        cut([2], size, cap)
