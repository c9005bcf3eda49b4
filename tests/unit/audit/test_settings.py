from dataclasses import replace

import numpy as np
import pytest

from sfumato.attacks.membership.lira import LiRAOnline
from sfumato.attacks.membership.loss import LossThreshold
from sfumato.audit.settings import AuditSettings, designated
from sfumato.data.membership import COINS
from sfumato.errors import UsageError
from sfumato.targets.queries import BASE, QuerySet

ATTACKS = (LossThreshold(),)


@pytest.mark.parametrize(
    "wrong",
    [
        {"attacks": ()},
        {"attacks": (LiRAOnline(), LiRAOnline(variance="per-example"))},
        {"attacks": (LiRAOnline(called="mine"), LossThreshold(called="mine"))},
        {"attacks": (LossThreshold(called="lira-online"),)},
        {"strength": "strong"},
        {"models": 3},
        {"models": 0},
        {"design": "half"},
        {"design": "canaries", "canaries": 1},
        {"draws": ()},
        {"draws": (0, 4)},
        {"draws": (4, 4)},
        {"draws": (16, 4)},
        {"draws": (True, 4)},
        {"draws_attacks": ("rmia",)},
        {"design": "coins"},
        {"design": "coins", "delta": 0.0},
        {"delta": 1.0},
        {"delta": float("nan")},
        {"public": 1.0},
        {"confidence": 95},
        {"fprs": (0.1, 2.0)},
        {"replicates": 1},
        {"dtype": "float16"},
    ],
    ids=str,
)
def test_wrong_settings_are_refused_at_construction(wrong):
    with pytest.raises(UsageError, match="Expected"):
        AuditSettings(**{"attacks": ATTACKS, **wrong})


def test_variants_of_one_method_stand_side_by_side_under_names_of_their_own():
    several = (LiRAOnline(), LiRAOnline(statistic="hinge", called="lira-hinge"), LossThreshold(called="loss"))
    made = AuditSettings(attacks=several, draws_attacks=("lira-hinge",))
    assert [attack.name for attack in made.attacks] == ["lira-online", "lira-hinge", "loss"]


def test_queries_are_listed_once():
    attacks = (LossThreshold(), LiRAOnline(augmentation="mirror"))
    assert AuditSettings(attacks=attacks).queries == (BASE, QuerySet("mirror", 1))


def test_designs_are_what_they_say(population):
    halves = AuditSettings(attacks=ATTACKS, models=4).membership(population)
    assert (halves.matrix[:, halves.in_game].sum(axis=0) == 2).all()
    coins = AuditSettings(attacks=ATTACKS, models=4, design="coins", delta=1e-5).membership(population)
    assert coins.design == COINS
    canary = AuditSettings(attacks=ATTACKS, models=4, design="canaries", canaries=10).membership(population)
    assert canary.in_game.sum() == 10
    assert canary.matrix[:, ~canary.in_game & ~canary.public].all()
    assert canary.public.sum() == round(0.1 * population.units)


def test_the_design_depends_on_the_seed_and_not_on_the_attacks(population):
    first = AuditSettings(attacks=ATTACKS, models=4, seed=1).membership(population)
    again = AuditSettings(attacks=(LiRAOnline(),), models=4, seed=1).membership(population)
    other = AuditSettings(attacks=ATTACKS, models=4, seed=2).membership(population)
    np.testing.assert_array_equal(first.matrix, again.matrix)
    assert (first.matrix != other.matrix).any()


def test_more_canaries_than_units_are_refused(population):
    with pytest.raises(UsageError, match="between 2 and 60 canaries"):
        AuditSettings(attacks=ATTACKS, design="canaries", canaries=62).membership(population)


def marked(population, kinds):
    """The population with a canary column: its first units are canaries of these kinds."""
    column = np.full(population.units, "none", dtype="<U12")
    column[: len(kinds)] = kinds
    return replace(population, groups={**population.groups, "canary": column[population.unit_of]})


def test_designated_canaries_are_the_game_and_public_units_come_from_the_rest(population):
    data = marked(population, ["natural"] * 4 + ["mislabelled"] * 6)
    np.testing.assert_array_equal(designated(data), np.arange(10))
    for count in (0, 10):
        found = AuditSettings(attacks=ATTACKS, models=4, design="canaries", canaries=count).membership(data)
        np.testing.assert_array_equal(np.flatnonzero(found.in_game), np.arange(10))
        assert found.public.sum() == round(0.1 * data.units)
        assert found.matrix[:, 10:][:, ~found.public[10:]].all()
    with pytest.raises(UsageError, match="0 or 10"):
        AuditSettings(attacks=ATTACKS, models=4, design="canaries", canaries=8).membership(data)


def test_without_designated_canaries_their_number_must_be_given(population):
    assert len(designated(population)) == 0
    with pytest.raises(UsageError, match="between 2 and 60"):
        AuditSettings(attacks=ATTACKS, models=4, design="canaries").membership(population)
    with pytest.raises(UsageError, match="between 2 and 60"):
        AuditSettings(attacks=ATTACKS, models=4, design="canaries", canaries=61).membership(population)
