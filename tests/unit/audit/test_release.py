from dataclasses import replace

import numpy as np
import pytest

from sfumato.attacks.membership.lira import LiRAOnline
from sfumato.attacks.membership.loss import LossThreshold
from sfumato.audit.release import Release, audit_release, release_design
from sfumato.audit.settings import AuditSettings
from sfumato.errors import UsageError
from sfumato.execution.store import Store
from sfumato.seeding import derive
from sfumato.training.preparation import Assignment, LoopOptions

SETTINGS = AuditSettings(attacks=(LossThreshold(), LiRAOnline()), models=6, replicates=30, fprs=(0.2,))


def membership_of(inside, units, seed=0):
    members = np.zeros(units, dtype=bool)
    members[np.random.default_rng(seed).permutation(units)[:inside]] = True
    return members


@pytest.mark.parametrize(("inside", "units"), [(50, 100), (80, 100), (20, 100), (97, 100), (51, 101), (2, 100)])
def test_references_have_the_released_models_size_and_never_see_public_units(inside, units):
    members = membership_of(inside, units)
    design = release_design(members, SETTINGS)
    assert (design.matrix.sum(axis=1) == inside).all()
    assert not design.matrix[:, design.public].any()
    assert not (members & design.public).any()
    playing = members[design.in_game]
    assert playing.sum() * 2 == len(playing)  # as many members as non-members
    assert (design.matrix[:, design.in_game].sum(axis=0) == 3).all()  # each in half of the references
    quiet = members & ~design.in_game
    assert design.matrix[:, quiet].all()
    assert (members | design.public | design.in_game).all()


@pytest.mark.parametrize("inside", [0, 1, 99, 100])
def test_without_two_members_and_two_nonmembers_there_is_no_game(inside):
    with pytest.raises(UsageError, match="at least two members and two non-members"):
        release_design(membership_of(inside, 100), SETTINGS)


@pytest.fixture(scope="module")
def release(population, recipes):
    members = membership_of(30, population.units)
    work = [Assignment(np.flatnonzero(population.rows_of(members)), derive(0, "release"))]
    return Release(recipes[0], recipes[0].fit(population, work, LoopOptions())[0], members, name="ward-model")


def test_the_released_module_itself_is_attacked(population, release, compared):
    run = audit_release(population, release, SETTINGS, compared.store, executor="inline")
    record = run.record
    (subject,) = record.subjects
    assert record.kind == "release"
    assert "released module itself" in subject.artefact
    assert record.design.targets == 1
    assert {a.name: a.references_per_target for a in subject.attacks} == {"loss": 0, "lira-online": 6}
    auc = subject.attack("loss").finding("auc")
    assert auc.n_members == auc.n_nonmembers <= 30
    assert auc.low > 0.5  # it memorised noise
    assert subject.guarantee.statement.startswith("none, because of ordinary training")
    assert record.arrays.keys() >= {"ward-model/loss/per_target/auc"}
    accuracy = next(f for f in subject.utility if f.name == "training-accuracy")
    assert accuracy.low < accuracy.value < accuracy.high
    assert subject.epsilon == []
    assert any("chosen on the scores" in n.text for n in record.notices)


def test_members_that_cannot_play_are_counted(population, recipes, compared):
    members = membership_of(50, population.units)
    work = [Assignment(np.flatnonzero(population.rows_of(members)), 77)]
    crowded = Release(recipes[0], recipes[0].fit(population, work, LoopOptions())[0], members)
    record = audit_release(population, crowded, SETTINGS, compared.store, executor="inline").record
    assert any("9 of the 50 members play" in notice.text for notice in record.notices)


@pytest.mark.parametrize(
    "wrong", [np.ones(60, dtype=int), np.ones(120, dtype=bool), np.ones(59, dtype=bool), np.ones((60, 1), dtype=bool)]
)
def test_membership_of_the_wrong_kind_is_refused(population, release, tmp_path, wrong):
    with pytest.raises(UsageError, match="one for each of 60 units"):
        audit_release(population, replace(release, members=wrong), SETTINGS, Store(tmp_path))


def test_a_reference_with_the_released_models_seed_is_refused(population, release, tmp_path):
    same = replace(release, trained=replace(release.trained, seed=derive(SETTINGS.seed, "model", 3)))
    with pytest.raises(UsageError, match="other seeds"):
        audit_release(population, same, SETTINGS, Store(tmp_path))
