import numpy as np
import pytest

from sfumato.data import ArrayRecords, Membership, Population, Unit
from sfumato.errors import UsageError


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize(("units", "models", "public"), [(10, 2, 0.0), (11, 8, 0.0), (100, 16, 0.25), (37, 6, 0.1)])
def test_half_pairs_have_exact_rows_and_columns(units, models, public):
    design = Membership.half_pairs(units, models, rng(), public=public)
    game = int(design.in_game.sum())
    assert game % 2 == 0
    assert game + design.public.sum() == units
    assert design.public.sum() - round(public * units) in (0, 1)
    assert (design.matrix.sum(axis=1) == game // 2).all()
    assert (design.matrix[:, design.in_game].sum(axis=0) == models // 2).all()
    assert not design.matrix[:, design.public].any()
    assert (design.matrix[0::2] ^ design.matrix[1::2])[:, design.in_game].all()


@pytest.mark.parametrize("make", [Membership.half_pairs, Membership.coin_pairs])
def test_pairs_differ_from_each_other_and_with_the_seed(make):
    design = make(40, 8, rng())
    assert len({row.tobytes() for row in design.matrix}) == 8
    assert (design.matrix != make(40, 8, rng(1)).matrix).any()


def test_earlier_pairs_do_not_change_when_models_are_added():
    few, many = (Membership.half_pairs(51, models, rng(), public=0.2) for models in (4, 12))
    assert (few.matrix == many.matrix[:4]).all()
    assert (few.in_game == many.in_game).all()
    canaries = np.arange(10, 20)
    few, many = (Membership.canary_pairs(51, canaries, models, rng()) for models in (4, 12))
    assert (few.matrix == many.matrix[:4]).all()


@pytest.mark.parametrize("target", [0, 3, 7])
def test_every_unit_in_the_game_has_equally_many_in_and_out_references(target):
    for design in (
        Membership.half_pairs(30, 8, rng()),
        Membership.coin_pairs(30, 8, rng()),
        Membership.canary_pairs(30, np.arange(8), 8, rng()),
    ):
        references = design.references_for(target)
        assert len(references) == 6
        assert not {target, target ^ 1} & set(references.tolist())
        inside = design.matrix[references][:, design.in_game].sum(axis=0)
        assert (inside == 3).all()


def test_references_exist_only_for_models_of_the_design():
    design = Membership.half_pairs(10, 4, rng())
    for target in (-1, 4):
        with pytest.raises(UsageError, match="`target` between 0 and 3"):
            design.references_for(target)


def test_references_without_pairs_leave_out_the_target_only():
    matrix = np.array([[True, False], [True, True], [False, True]])
    none = np.zeros(2, dtype=bool)
    assert Membership(matrix, ~none, none, "own", paired=False).references_for(1).tolist() == [0, 2]


def test_coins_are_fair_and_complementary():
    design = Membership.coin_pairs(2000, 20, rng(), public=0.25)
    assert design.public.sum() == 500
    assert (design.matrix[0::2] ^ design.matrix[1::2])[:, design.in_game].all()
    share = design.matrix[0::2][:, design.in_game].mean()
    assert abs(share - 0.5) < 4.5 * 0.5 / np.sqrt(1500 * 10)
    assert len(set(design.matrix.sum(axis=1).tolist())) > 2  # exact halves would not be independent


def test_canaries_are_in_half_of_the_models_and_the_others_always():
    canaries, public = np.array([2, 5, 7, 11]), np.array([0, 1])
    design = Membership.canary_pairs(20, canaries, 6, rng(), public=public)
    assert (design.matrix[:, canaries].sum(axis=0) == 3).all()
    assert (design.matrix[:, canaries].sum(axis=1) == 2).all()
    ordinary = np.setdiff1d(np.arange(20), [*canaries, *public])
    assert design.matrix[:, ordinary].all()
    assert not design.matrix[:, public].any()
    assert np.flatnonzero(design.in_game).tolist() == canaries.tolist()


def test_an_odd_canary_is_dropped_from_the_game_and_from_training():
    design = Membership.canary_pairs(10, np.array([1, 2, 3]), 4, rng())
    assert np.flatnonzero(design.in_game).tolist() == [1, 2]
    assert not design.matrix[:, 3].any()
    assert not design.public[3]


@pytest.mark.parametrize("canaries", [[], [3], [3, 3], [1, 2, 2], [1, 2, 99], [-1, 1]])
def test_bad_canaries_are_refused(canaries):
    with pytest.raises(UsageError, match="two distinct canaries"):
        Membership.canary_pairs(10, np.array(canaries, dtype=int), 4, rng())


@pytest.mark.parametrize("models", [0, 1, 3])
def test_models_come_in_pairs(models):
    with pytest.raises(UsageError, match="even number of models"):
        Membership.half_pairs(10, models, rng())


def test_a_game_needs_two_units():
    with pytest.raises(UsageError, match="two units in the game"):
        Membership.half_pairs(10, 2, rng(), public=0.9)


def test_designs_that_contradict_themselves_are_refused():
    none = np.zeros(4, dtype=bool)
    half = np.array([True, True, False, False])
    good = np.stack([half, ~half])
    Membership(good, ~none, none, "own")
    with pytest.raises(UsageError, match=r"\[models, units\]"):
        Membership(good[0], ~none, none, "own")
    with pytest.raises(UsageError, match=r"\[models, units\]"):
        Membership(good, ~none, none[:1], "own")
    with pytest.raises(UsageError, match="public units outside"):
        Membership(good, ~half, half, "own")
    with pytest.raises(UsageError, match="even number"):
        Membership(good[:1], ~none, none, "own")
    with pytest.raises(UsageError, match="complements"):
        Membership(good[[0, 0]], ~none, none, "own")


def test_rows_are_whole_units():
    unit = np.array(list("aabbccddee"))
    population = Population(ArrayRecords(np.zeros((10, 1))), Unit("who", unit))
    design = Membership.half_pairs(population.units, 4, rng())
    assert (design.models, design.units) == (4, 5)
    for model in range(4):
        rows = design.rows(population, model)
        assert len(rows) == 4
        assert (np.unique(unit[rows], return_counts=True)[1] == 2).all()
        assert (np.flatnonzero(design.of_records(population)[model]) == rows).all()
