import csv
from dataclasses import replace

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier

from sfumato.attacks.catalogue import default_attacks
from sfumato.attacks.membership.lira import LiRAOnline
from sfumato.attacks.membership.loss import LossThreshold
from sfumato.audit.predictions import audit_predictions, audit_scores
from sfumato.audit.settings import AuditSettings
from sfumato.errors import DataError, UsageError
from sfumato.targets.predictions import PredictionColumns, Predictions, read_predictions

SETTINGS = AuditSettings(attacks=tuple(default_attacks()), replicates=50)


@pytest.fixture(scope="module")
def by_sklearn(tmp_path_factory):
    """A table that scikit-learn and csv made by themselves."""
    x, y = load_digits(return_X_y=True)
    x, y = x[:600], y[:600]
    forest = RandomForestClassifier(n_estimators=20, random_state=0).fit(x[:300], y[:300])
    path = tmp_path_factory.mktemp("table") / "forest.csv"
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["label", "member", *(f"p{c}" for c in forest.classes_)])
        for i, p in enumerate(forest.predict_proba(x)):
            writer.writerow([y[i], int(i < 300), *p])
    return path


def test_a_table_made_by_scikit_learn_alone(by_sklearn):
    table = read_predictions(by_sklearn, PredictionColumns(), unit="example")
    record = audit_predictions(table, SETTINGS, command="sfumato audit --predictions forest.csv").record
    (subject,) = record.subjects
    auc = subject.attack("loss").finding("auc")
    assert 0.6 < auc.low <= auc.value <= auc.high <= 1
    assert auc.n_members == auc.n_nonmembers == 300
    assert record.kind == "predictions"
    assert "predictions only" in subject.artefact
    assert subject.guarantee.status == "none"
    assert subject.epsilon == []
    assert {one.attack for one in subject.not_run} == {"calibration", "lira-online", "rmia", "bavaria"}
    assert all(one.reasons for one in subject.not_run)
    assert "forest.csv/loss/per_target/auc" in record.arrays
    assert any("differ in more than membership" in notice.text for notice in record.notices)
    accuracy = next(f for f in subject.utility if f.name == "accuracy")
    assert accuracy.low < accuracy.value < accuracy.high


def made_up(scores=None, unit_of=None, groups=None):
    rng = np.random.default_rng(0)
    members = np.arange(200) % 2 == 0
    return Predictions(
        name="t.csv",
        unit="patient",
        members=members,
        unit_of=np.arange(200) if unit_of is None else unit_of,
        labels=rng.integers(0, 2, 200),
        log_probabilities=np.log(rng.dirichlet([1, 1], 200)),
        scores=scores,
        groups=groups or {},
    )


def test_scores_are_judged_as_they_are():
    members = made_up().members
    run = audit_scores(replace(made_up(scores=members.astype(float)), log_probabilities=None), SETTINGS)
    result = run.record.subjects[0].attack("given-scores")
    assert result.finding("auc").value == 1.0
    assert result.finding("auc").low < 1.0
    upside_down = audit_scores(made_up(scores=-members.astype(float)), SETTINGS).record
    assert upside_down.subjects[0].attack("given-scores").finding("auc").value == 0.0
    assert run.record.citations == {}


def test_units_are_counted_not_rows():
    unit_of = np.arange(200) // 4 * 2 + np.arange(200) % 2  # two rows each, both in or both out
    record = audit_predictions(made_up(unit_of=unit_of), SETTINGS).record
    auc = record.subjects[0].attack("loss").finding("auc")
    assert (auc.n_members, auc.n_nonmembers) == (50, 50)
    assert (record.data.units, record.data.records, record.data.unit) == (100, 200, "patient")


def test_a_unit_half_in_is_refused():
    with pytest.raises(DataError, match="wholly in or wholly out"):
        audit_predictions(made_up(unit_of=np.arange(200) // 2), SETTINGS)


def test_groups_are_reported():
    groups = {"sex": np.where(np.arange(200) < 100, "f", "m")}
    found = audit_predictions(made_up(groups=groups), SETTINGS).record.subjects[0].groups
    assert {(g.column, g.group) for g in found} == {("sex", "f"), ("sex", "m")}


def test_without_an_attack_that_can_run_nothing_is_reported():
    with pytest.raises(UsageError, match="lira-online: needs reference models"):
        audit_predictions(made_up(), AuditSettings(attacks=(LiRAOnline(),)))


def test_the_doors_are_not_mixed_up():
    with pytest.raises(UsageError, match="audit_scores"):
        audit_predictions(replace(made_up(), log_probabilities=None), SETTINGS)
    with pytest.raises(UsageError, match="audit_predictions"):
        audit_scores(made_up(), SETTINGS)


def test_null_predictions_are_not_accused():
    record = audit_predictions(made_up(), AuditSettings(attacks=(LossThreshold(),), replicates=100)).record
    auc = record.subjects[0].attack("loss").finding("auc")
    assert auc.low < 0.5 < auc.high
    assert record.verdict.against == []
