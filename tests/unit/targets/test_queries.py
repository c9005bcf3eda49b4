import pytest

from sfumato.errors import UsageError
from sfumato.targets.queries import AUGMENTATIONS, BASE, NOISY, SCALE, QuerySet, families
from sfumato.training.augment import query_variants


def test_the_base_query_is_the_record_once():
    assert (BASE.augmentation, BASE.repeats, BASE.per_record, BASE.key) == ("none", 1, 1, "none-x1")


def test_variants_times_repeats():
    queries = QuerySet("mirror-shift", 3)
    assert (queries.variants, queries.per_record, queries.key) == (18, 54, "mirror-shift-x3")


@pytest.mark.parametrize("augmentation", sorted(set(AUGMENTATIONS) - set(NOISY)))
def test_as_many_variants_as_are_really_asked(augmentation):
    assert QuerySet(augmentation).variants == len(query_variants(augmentation))


@pytest.mark.parametrize("repeats", [0, -1, 1.5, True, "2"])
def test_repeats_that_are_no_number_of_times_are_refused(repeats):
    with pytest.raises(UsageError, match="repeats"):
        QuerySet("none", repeats)


def test_an_unknown_augmentation_suggests_the_nearest():
    with pytest.raises(UsageError, match="Did you mean 'mirror'"):
        QuerySet("miror")


EVERY = (
    [
        QuerySet(augmentation, repeats, noise, scope=scope, signal=signal)
        for augmentation in AUGMENTATIONS
        for repeats in (1, 16)
        for noise in ("fresh", "common", "off")
        for scope in ("all", "game")
        for signal in ("answers", *(("gradient-norm", "input-gradient-norm") if noise == "off" else ()))
    ]
    + [
        QuerySet(augmentation, repeats, scope=scope, signal="boundary-distance", budget=budget)
        for augmentation in ("none", "mirror")
        for repeats in (1, 3)
        for scope in ("all", "game")
        for budget in (50, 1000)
    ]
    + [QuerySet("noise-16", scale=scale) for scale in (0.001, 0.12, 2, 100)]
)


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
        "none-x1-boundary-distance",
        "none-x1-boundary-distance-b49",
        "none-x1-common-boundary-distance-b500",
        "none-x1-b500",
        "noise-16-x1",
        "noise-16-s0.10-x1",
        "noise-16-s1.-x1",
        "noise-16-s0-x1",
        "mirror-s0.1-x1",
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


def test_noisy_views_have_a_scale_and_nothing_else_has():
    assert QuerySet("noise-16").scale == SCALE
    assert QuerySet("noise-16", 2, scale=0.25, scope="game").key == "noise-16-s0.25-x2-game"
    assert not QuerySet("noise-16").white_box
    for wrong in (
        {"scale": 0.1},
        {"augmentation": "mirror", "scale": 0.3},
        {"augmentation": "noise-16", "scale": 1 / 3},
    ):
        with pytest.raises(UsageError, match="scale"):
            QuerySet(**wrong)
    for scale in (-1, 0.0005, 101, float("nan")):
        with pytest.raises(UsageError, match="scale"):
            QuerySet("noise-16", scale=scale)


def test_a_walk_has_a_budget_sees_labels_only_and_is_no_white_box():
    walk = QuerySet("mirror", 3, scope="game", signal="boundary-distance", budget=200)
    assert (walk.per_record, walk.white_box) == (2 * 3 * 200, False)
    assert walk.key == "mirror-x3-game-boundary-distance-b200"
    for wrong in ({"budget": 100}, {"signal": "boundary-distance"}, {"signal": "boundary-distance", "budget": 1.5}):
        with pytest.raises(UsageError, match="budget"):
            QuerySet(**wrong)
    with pytest.raises(UsageError, match="fresh"):
        QuerySet(signal="boundary-distance", budget=100, noise="off")
    assert len(families([walk, QuerySet("mirror", scope="game", signal="boundary-distance", budget=100)])) == 2
