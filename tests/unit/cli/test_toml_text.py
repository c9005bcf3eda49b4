import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sfumato.cli.toml_text import toml_text
from sfumato.errors import UsageError

PRINTABLE = st.text(st.characters(exclude_categories=("Cs",)))
SCALARS = st.one_of(st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False), PRINTABLE)
VALUES = st.recursive(
    st.one_of(SCALARS, st.lists(SCALARS, max_size=3)),
    lambda inner: st.one_of(
        st.dictionaries(PRINTABLE, inner, max_size=3),
        st.lists(st.dictionaries(PRINTABLE, inner, max_size=2), min_size=1, max_size=2),
    ),
    max_leaves=8,
)


@given(st.dictionaries(PRINTABLE, VALUES, max_size=4))
def test_tomllib_reads_back_the_same(document: dict) -> None:
    assert tomllib.loads(toml_text(document)) == document


def test_keys_stand_before_tables() -> None:
    text = toml_text({"t": {"x": 1}, "a": 2, "rows": [{"name": "n", "inner": {"y": True}}]})
    assert text == 'a = 2\n\n[t]\nx = 1\n\n[[rows]]\nname = "n"\n\n[rows.inner]\ny = true\n'


def test_what_toml_cannot_hold_is_refused() -> None:
    with pytest.raises(UsageError, match="TOML"):
        toml_text({"x": None})
