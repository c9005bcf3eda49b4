from dataclasses import dataclass, replace

import numpy as np
import pytest

from sfumato.attacks.membership.lira import LiRAOnline
from sfumato.attacks.membership.loss import LossThreshold
from sfumato.audit.compare import compare, jobs_for, seeds_of
from sfumato.audit.game import Case, Game, Played
from sfumato.audit.record import AuditRecord, ReferenceRisk
from sfumato.audit.reference_data import NONE, by_role, reference_risk, roles_of_units
from sfumato.audit.settings import AuditSettings
from sfumato.defences.early_stopping import EarlyStopping
from sfumato.defences.undefended import Undefended
from sfumato.defences.werm import WERM
from sfumato.execution.store import Store
from sfumato.models.mlp import MLP
from sfumato.targets.answers import Answers
from sfumato.training.preparation import Assignment, LoopOptions, prepare
from sfumato.training.recipe import FunctionRecipe, Recipe
from sfumato.training.task import Optimizer, Task

TASK = Task(model=MLP(hidden=(16,)), optimizer=Optimizer(lr=0.1), epochs=8, batch_size=16)
NUMBERS = {"confidence": 0.9, "replicates": 20}


@pytest.fixture(scope="module")
def settings():
    return AuditSettings(attacks=(LossThreshold(), LiRAOnline()), models=8, fprs=(0.1, 0.01), replicates=20)


def made(rng, targets=4, units=60):
    """Scores in which members that were fitted stand out by 3, reference members by 1."""
    members = rng.random((targets, units)) < 0.5
    roles = np.where(members, np.where(rng.random(members.shape) < 0.4, "reference", "fit"), NONE)
    scores = rng.normal(size=members.shape) + 3.0 * (roles == "fit") + 1.0 * (roles == "reference")
    return scores, members, np.ones(units, bool), roles


def test_each_role_is_judged_by_its_own_members_against_all_non_members():
    rng = np.random.default_rng(1)
    scores, members, in_game, roles = made(rng)
    found = by_role(scores, members, in_game, roles, **NUMBERS, rng=rng)
    assert [one.role for one in found] == ["fit", "reference"]
    for one in found:
        wins = scores[roles == one.role][:, None] > scores[~members]
        assert one.auc.value == pytest.approx(wins.mean())
        assert one.auc.n_members == (roles == one.role).sum()
        assert one.auc.n_nonmembers == one.tpr.n_nonmembers == (~members).sum()
        assert one.units == pytest.approx((roles == one.role).sum() / 4)
        assert one.auc.confidence == pytest.approx(0.95)  # two roles share 0.9
    assert found[0].auc.low > found[1].auc.high
    assert found[1].auc.low > 0.5


def test_units_outside_the_game_do_not_count():
    rng = np.random.default_rng(2)
    scores, members, in_game, roles = made(rng)
    in_game[30:] = False
    scores[:, 30:] = np.nan
    found = by_role(scores, members, in_game, roles, **NUMBERS, rng=np.random.default_rng(3))
    alone = by_role(
        scores[:, :30], members[:, :30], in_game[:30], roles[:, :30], **NUMBERS, rng=np.random.default_rng(3)
    )
    assert [one.auc.value for one in found] == [one.auc.value for one in alone]
    assert [one.units for one in found] == [one.units for one in alone]


def test_a_rate_that_too_few_non_members_can_show_is_not_stated():
    rng = np.random.default_rng(4)
    scores, members, in_game, roles = made(rng, targets=2, units=20)
    for one in by_role(scores, members, in_game, roles, **NUMBERS, rng=rng):
        assert not one.tpr.resolvable
        assert one.tpr.value is None
        assert one.tpr.at == 0.01


def test_without_non_members_nothing_is_measured():
    rng = np.random.default_rng(5)
    scores, members, in_game, roles = made(rng, targets=1)
    in_game &= members[0]
    found = by_role(scores, members, in_game, roles, **NUMBERS, rng=rng)
    assert [(one.auc.value, one.auc.note) for one in found] == [(None, "There is no non-member score.")] * 2


def test_the_roles_are_those_of_the_trainings(population, settings):
    recipe = Recipe(TASK, WERM(inner=EarlyStopping(validation_fraction=0.2)))
    membership = settings.membership(population)
    roles = roles_of_units(recipe, population, membership.matrix, seeds_of(membership, settings))
    assert (roles[~membership.matrix] == NONE).all()
    for m, job in enumerate(jobs_for(population, [recipe], membership, settings)[0]):
        task = replace(TASK, patience=3, validation_fraction=0.2)
        run = prepare(task, recipe.defence, population, [Assignment(job.rows, job.seed)], LoopOptions())
        for role, rows in (
            ("fit", run.fit_rows),
            ("validation", run.validation_rows),
            ("reference", run.reference_rows),
        ):
            assert set(np.flatnonzero(roles[m] == role)) == set(population.unit_of[rows[0].numpy()])


@dataclass(frozen=True)
class Own:
    """A training function of the user's own."""

    def __call__(self, x, y, seed):
        raise AssertionError("nobody trains here")


def played_game(population, settings):
    rng = np.random.default_rng(6)
    membership = settings.membership(population)
    answers = Answers(population.label_array, rng.normal(size=(1, len(population), 3)), {})
    cases = tuple(Case(answers, inside, np.arange(0)) for inside in membership.matrix)
    game = Game(population.label_array, population.unit_of, membership.in_game, membership.public, cases)
    scores = np.where(membership.in_game, rng.normal(size=membership.matrix.shape), np.nan)
    return membership, game, Played(LossThreshold(), scores, 0.0)


def test_a_function_of_the_users_own_is_told_as_not_known(population, settings):
    membership, game, played = played_game(population, settings)
    seeds = seeds_of(membership, settings)
    [risk] = reference_risk(FunctionRecipe(Own(), "own", WERM()), population, game, played, seeds, settings)
    assert (risk.role, risk.units, risk.findings) == ("reference", None, [])
    assert "not known" in risk.note


def test_without_reference_data_or_an_attack_there_is_nothing(population, settings):
    membership, game, played = played_game(population, settings)
    seeds = seeds_of(membership, settings)
    assert reference_risk(Recipe(TASK, Undefended()), population, game, played, seeds, settings) == []
    assert reference_risk(Recipe(TASK, WERM()), population, game, None, seeds, settings) == []
    roles = [one.role for one in reference_risk(Recipe(TASK, WERM()), population, game, played, seeds, settings)]
    assert roles == ["fit", "reference"]


def test_a_comparison_reports_it_and_the_record_keeps_it(population, settings, tmp_path):
    """At weight 0 reference records are not learned from: fitted members are found, reference members are not."""
    recipe, few = (
        Recipe(TASK, WERM(weight=0.0, reference_fraction=0.5)),
        replace(settings, attacks=(LossThreshold(),), models=6),
    )
    record = compare(population, [recipe], few, Store(tmp_path / "store"), executor="inline").record
    fit, reference = record.subjects[0].reference_risk
    assert (fit.role, reference.role) == ("fit", "reference")
    assert fit.attack == record.subjects[0].strongest
    assert fit.units == pytest.approx(reference.units, rel=0.2)
    assert fit.finding("auc").value > reference.finding("auc").value + 0.1
    assert reference.finding("auc").low < 0.5 < reference.finding("auc").high
    assert AuditRecord.load(record.save(tmp_path / "record")).subjects[0].reference_risk == [fit, reference]
    assert isinstance(fit, ReferenceRisk)
