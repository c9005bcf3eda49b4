from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest

from sfumato.attacks.evidence import Needs
from sfumato.attacks.membership.base import MembershipAttack
from sfumato.attacks.membership.lira import LiRAOnline
from sfumato.attacks.membership.loss import LossThreshold
from sfumato.attacks.membership.quantile import Quantile
from sfumato.audit.game import fits_needed, play, siblings, why_not
from sfumato.audit.settings import AuditSettings
from sfumato.data.membership import Membership
from sfumato.errors import SfumatoError
from sfumato.targets.answers import Answers


@dataclass(frozen=True, kw_only=True)
class Fixed(MembershipAttack):
    """Scores that the test chose, and what evidence it was shown."""

    name: ClassVar[str] = "fixed"
    unit_rule: ClassVar[str] = "max"

    values: tuple[float, ...] = ()
    seen: list | None = None

    def needs(self):
        return Needs(references="in-out", minimum_references=1)

    def score(self, evidence, fitted=()):
        if self.seen is not None:
            self.seen.append(evidence)
        return np.array(self.values)


def run_fit(fit):
    return fit.run()


@pytest.fixture
def game(population):
    membership = AuditSettings(attacks=(LossThreshold(),), models=6).membership(population)
    logits = np.random.default_rng(1).normal(size=(6, len(population), 3))
    return siblings(population, membership, Answers(population.label_array, logits), None)


def test_references_leave_out_the_target_and_its_partner(game):
    for target, case in enumerate(game.cases):
        assert set(case.references) == set(range(6)) - {target, target ^ 1}
    assert game.references_per_target == 4


def test_every_unit_has_as_many_in_as_out_references_whatever_its_membership(game):
    for target in range(6):
        evidence = game.evidence(target, 0)
        counts = evidence.membership[:, evidence.game].sum(axis=0)
        np.testing.assert_array_equal(counts, 2)


def test_references_and_membership_belong_together(game):
    for target in (0, 3):
        evidence = game.evidence(target, 0)
        for k, model in enumerate(game.cases[target].references):
            np.testing.assert_array_equal(evidence.references.logits[k], game.references.logits[model])
            np.testing.assert_array_equal(evidence.membership[k], game.membership[model][game.unit_of])
        np.testing.assert_array_equal(evidence.target.logits[0], game.references.logits[target])
        np.testing.assert_array_equal(game.members[target], game.membership[target])


def test_units_are_judged_by_the_attacks_rule_and_nothing_is_scored_outside_the_game(game):
    values = np.random.default_rng(2).normal(size=len(game.labels))
    values[~game.in_game[game.unit_of]] = np.nan  # an attack may answer anything there
    played = play(game, Fixed(values=tuple(values)), 0, run_fit)
    assert played.scores.shape == (6, game.unit_of.max() + 1)
    for unit in range(played.scores.shape[1]):
        if game.in_game[unit]:
            assert (played.scores[:, unit] == values[game.unit_of == unit].max()).all()
        else:
            assert np.isnan(played.scores[:, unit]).all()


def test_an_attack_sees_only_what_it_needs_and_its_own_seed_per_target(game):
    seen = []
    play(game, Fixed(values=(0.0,) * len(game.labels), seen=seen), 5, run_fit)
    assert len({evidence.seed for evidence in seen}) == 6
    assert all(evidence.records is None and not evidence.public.any() for evidence in seen)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_score_in_the_game_that_is_not_finite_is_an_error(game, value):
    values = np.zeros(len(game.labels))
    values[np.flatnonzero(game.in_game[game.unit_of])[0]] = value
    with pytest.raises(SfumatoError, match="finite scores from fixed"):
        play(game, Fixed(values=tuple(values)), 0, run_fit)


def test_scores_of_another_shape_are_an_error(game):
    with pytest.raises(SfumatoError, match="one score per record"):
        play(game, Fixed(values=(0.0, 1.0)), 0, run_fit)


def test_two_models_leave_no_references(population):
    membership = Membership.half_pairs(population.units, 2, np.random.default_rng(0))
    answers = Answers(population.label_array, np.zeros((2, len(population), 3)))
    game = siblings(population, membership, answers, None)
    assert game.references_per_target == 0
    assert "reference" in why_not(game, LiRAOnline())[0]
    assert why_not(game, LossThreshold()) == ()


def test_fits_are_counted_for_every_target():
    attacks = (LossThreshold(), Quantile())
    assert fits_needed(attacks, 6) == 6 * Quantile().needs().fits_per_target
    assert fits_needed(attacks[:1], 6) == 0
