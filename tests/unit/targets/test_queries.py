import pytest

from sfumato.errors import UsageError
from sfumato.targets.queries import AUGMENTATIONS, BASE, QuerySet
from sfumato.training.augment import query_variants


def test_the_base_query_is_the_record_once():
    assert (BASE.augmentation, BASE.repeats, BASE.per_record, BASE.key) == ("none", 1, 1, "none-x1")


def test_variants_times_repeats():
    queries = QuerySet("mirror-shift", 3)
    assert (queries.variants, queries.per_record, queries.key) == (18, 54, "mirror-shift-x3")


@pytest.mark.parametrize("augmentation", AUGMENTATIONS)
def test_as_many_variants_as_are_really_asked(augmentation):
    assert QuerySet(augmentation).variants == len(query_variants(augmentation))


@pytest.mark.parametrize("repeats", [0, -1, 1.5, True, "2"])
def test_repeats_that_are_no_number_of_times_are_refused(repeats):
    with pytest.raises(UsageError, match="repeats"):
        QuerySet("none", repeats)


def test_an_unknown_augmentation_suggests_the_nearest():
    with pytest.raises(UsageError, match="Did you mean 'mirror'"):
        QuerySet("miror")
