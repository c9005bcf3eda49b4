from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest

from sfumato.attacks.membership.base import MembershipAttack
from sfumato.attacks.membership.lira import LiRAOnline
from sfumato.attacks.membership.loss import LossThreshold
from sfumato.audit.game import Case, Game
from sfumato.audit.settings import AuditSettings
from sfumato.audit.subject import SEVERAL, attack_all, defence_summary, group_of_each_unit
from sfumato.defences.label_smoothing import LabelSmoothing
from sfumato.errors import NotApplicable
from sfumato.targets.answers import Answers


@dataclass(frozen=True, kw_only=True)
class GivesUp(MembershipAttack):
    """Finds out too late that it cannot."""

    name: ClassVar[str] = "gives-up"

    def score(self, evidence, fitted=()):
        raise NotApplicable("Expected a moon, got none.")


@pytest.fixture
def game():
    rng = np.random.default_rng(0)
    labels, members = rng.integers(0, 2, 40), rng.random(40) < 0.5
    everyone = np.ones(40, dtype=bool)
    case = Case(Answers(labels, rng.normal(size=(1, 40, 2))), members, np.array([], dtype=np.int64))
    return Game(labels, np.arange(40), everyone, ~everyone, (case,))


def test_attacks_that_cannot_run_are_kept_with_their_reasons(game):
    settings = AuditSettings(attacks=(GivesUp(), LiRAOnline(), LossThreshold()), replicates=10, fprs=(0.5,))
    tried = attack_all(game, settings, lambda fit: fit.run())
    assert [result.name for result in tried.results] == ["loss"]
    assert tried.best == "loss"
    assert {one.attack: one.reasons for one in tried.refused} == {
        "gives-up": ["Expected a moon, got none."],
        "lira-online": ["needs reference models trained in the same way, got none"],
    }


def test_without_any_attack_nothing_is_strongest(game):
    tried = attack_all(game, AuditSettings(attacks=(GivesUp(),)), lambda fit: fit.run())
    assert (tried.best, tried.results, tried.arrays) == ("", [], {})
    assert tried.groups(game, {"a": np.array(["x"] * 40)}, AuditSettings(attacks=(GivesUp(),))) == []


def test_a_unit_in_two_groups_is_in_neither():
    columns = {"site": np.array(["n", "n", "n", "s", "s"])}
    found = group_of_each_unit(columns, np.array([0, 0, 1, 1, 2]))
    assert found["site"].tolist() == ["n", SEVERAL, "s"]


def test_a_defence_is_described_by_its_fields():
    summary = defence_summary(LabelSmoothing(smoothing=0.25))
    assert summary.name == "label-smoothing"
    assert summary.family == "empirical"
    assert summary.settings["smoothing"] == 0.25
