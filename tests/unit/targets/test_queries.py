import pytest

from sfumato.errors import UsageError
from sfumato.targets.queries import AUGMENTATIONS, BASE, QuerySet, families
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


EVERY = [
    QuerySet(augmentation, repeats, noise, scope=scope, signal=signal)
    for augmentation in AUGMENTATIONS
    for repeats in (1, 16)
    for noise in ("fresh", "common", "off")
    for scope in ("all", "game")
    for signal in ("answers", *(("gradient-norm",) if noise == "off" else ()))
]


def test_keys_are_distinct_and_can_be_read_back():
    keys = [q.key for q in EVERY]
    assert len(set(keys)) == len(keys)
    assert [QuerySet.from_key(key) for key in keys] == EVERY
    assert QuerySet("mirror", 4, "common", scope="game").key == "mirror-x4-common-game"
    for wrong in (
        "",
        "none",
        "none-x0",
        "none-x01",
        "none-x2-",
        "none-x1-fresh",
        "none-x1-gradient-norm",
        "../none-x1",
    ):
        with pytest.raises(UsageError):
            QuerySet.from_key(wrong)


def test_the_average_is_no_part_of_what_is_asked():
    one, other = QuerySet("none", 4, average="logits"), QuerySet("none", 4)
    assert one == other
    assert hash(one) == hash(other)
    assert one.key == other.key
    assert QuerySet(average="probabilities") == BASE


def test_query_sets_that_differ_in_repeats_are_one_family():
    some = [QuerySet("none", 16), QuerySet("none", 4), QuerySet("none", 4, "common"), QuerySet("mirror"), BASE]
    found = families([*some, QuerySet("none", 4, average="logits")])
    assert {family.key: [q.repeats for q in members] for family, members in found.items()} == {
        "none-x1": [4, 16],
        "none-x1-common": [4],
        "mirror-x1": [1],
    }


def test_gradients_are_read_without_noise_only():
    with pytest.raises(UsageError, match="off"):
        QuerySet(signal="gradient-norm")
    assert QuerySet(noise="off", signal="gradient-norm").white_box
    assert [QuerySet(noise=noise).white_box for noise in ("fresh", "common", "off")] == [False, True, True]
