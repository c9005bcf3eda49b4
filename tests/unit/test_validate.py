import math

import pytest

from sfumato.errors import UsageError
from sfumato.validate import at_least, in_range, one_of, positive, same_length


@pytest.mark.parametrize("value", [0, -1, math.nan, -math.inf])
def test_positive_refuses(value):
    with pytest.raises(UsageError, match="`lr` above 0"):
        positive("lr", value)


@pytest.mark.parametrize("value", [1.9, math.nan])
def test_at_least_refuses(value):
    with pytest.raises(UsageError, match="`n` of at least 2"):
        at_least("n", value, 2)


@pytest.mark.parametrize("value", [-0.1, 1.1, math.nan, math.inf])
def test_in_range_refuses(value):
    with pytest.raises(UsageError, match="`p` between 0 and 1"):
        in_range("p", value, 0, 1)


def test_ends_are_included():
    positive("a", 1e-300)
    at_least("a", 2, 2)
    in_range("a", 0, 0, 1)
    in_range("a", 1, 0, 1)
    one_of("a", "x", ["x"])
    same_length(a=2, b=2)
    same_length()


def test_one_of_suggests_the_nearest_or_lists_all():
    with pytest.raises(UsageError, match="Did you mean 'cosine'") as near:
        one_of("schedule", "cosin", ("constant", "cosine"))
    assert "got 'cosin'" in near.value.message
    with pytest.raises(UsageError, match="Choose one of 'constant', 'cosine'"):
        one_of("schedule", 7, ("constant", "cosine"))


def test_same_length_names_the_arrays():
    with pytest.raises(UsageError, match="`labels` 3, `ids` 4"):
        same_length(labels=3, ids=4)
