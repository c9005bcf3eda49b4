from dataclasses import replace

import numpy as np
import pytest

from sfumato.attacks.membership.confidence import Confidence
from sfumato.attacks.membership.loss import LossThreshold
from sfumato.audit.game import Played, siblings
from sfumato.audit.kinds import by_kind
from sfumato.audit.settings import AuditSettings
from sfumato.audit.verdict import verdict, worst_kind
from sfumato.targets.answers import Answers

SETTINGS = AuditSettings(attacks=(LossThreshold(),), models=8, fprs=(0.1, 0.01), replicates=20)


@pytest.fixture
def game(population):
    membership = SETTINGS.membership(population)
    logits = np.zeros((8, len(population), 3))
    return siblings(population, membership, Answers(population.label_array, logits), None)


@pytest.fixture
def kinds(game):
    """Every second unit in the game is mislabelled, the others are as they are."""
    names = np.full(len(game.in_game), "natural", dtype="<U20")
    names[np.flatnonzero(game.in_game)[::2]] = "mislabelled"
    return names


def played(attack, game, found):
    """Scores that tell members of the units in `found` from the others perfectly, and nothing of the rest."""
    rng = np.random.default_rng(0)
    scores = rng.normal(size=game.members.shape) + np.where(game.members & found, 100.0, 0.0)
    return Played(attack, np.where(game.in_game, scores, np.nan), 0.0)


def test_each_kind_is_told_with_the_attack_that_finds_it(game, kinds):
    several = [played(LossThreshold(), game, kinds == "natural"), played(Confidence(), game, kinds == "mislabelled")]
    rows = {row.group: row for row in by_kind(game, several, kinds, SETTINGS)}
    assert rows["natural"].attack == "loss"
    assert rows["mislabelled"].attack == "confidence"
    for row in rows.values():
        assert row.finding("auc").value == 1.0
        assert row.finding("auc").confidence == pytest.approx(0.975)  # two kinds share the level
        assert {found.at for found in row.findings if found.name == "tpr_at_fpr"} == {0.01}


def test_a_small_kind_of_ours_keeps_its_name_and_other_small_groups_do_not(game, kinds):
    kinds = kinds.copy()
    first, second = np.flatnonzero(game.in_game)[:3], np.flatnonzero(game.in_game)[3:6]
    kinds[first], kinds[second] = "blank", "zz-somebody"
    groups = {row.group for row in by_kind(game, [played(LossThreshold(), game, kinds == "x")], kinds, SETTINGS)}
    assert groups == {"natural", "mislabelled", "blank", "groups of fewer than 10 units"}


def test_the_worst_kind_is_in_the_verdict(game, kinds, compared):
    rows = by_kind(game, [played(LossThreshold(), game, kinds == "mislabelled")], kinds, SETTINGS)
    subject = compared.run.record.subjects[0].model_copy(update={"groups": rows})
    assert worst_kind(subject).group == "mislabelled"
    assert "of the worst kind of canary (mislabelled)" in verdict([subject], []).sentence
    alone = subject.model_copy(update={"groups": rows[:1]})
    assert worst_kind(alone) is None  # one kind is no comparison
    assert "worst kind" not in verdict([alone], []).sentence


def test_a_kind_without_members_is_said_to_have_none(game, kinds):
    alone = [replace(case, members=case.members & (kinds != "natural")) for case in game.cases]
    bare = replace(game, cases=tuple(alone))
    row = {row.group: row for row in by_kind(bare, [played(LossThreshold(), bare, kinds == "x")], kinds, SETTINGS)}
    assert row["natural"].attack == "none"
    assert not row["natural"].finding("auc").resolvable
    assert "has 0 member" in row["natural"].finding("auc").note
    assert row["mislabelled"].attack == "loss"
