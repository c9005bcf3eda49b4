from types import SimpleNamespace

import numpy as np
import pytest

from sfumato.attacks.membership.loss import LossThreshold
from sfumato.audit.curves import BOOTSTRAP, CORNERS
from sfumato.audit.frontier import Contended, frontier_of
from sfumato.audit.game import Played
from sfumato.audit.measured import Finding
from sfumato.audit.record import AuditRecord, DefenceSummary, GuaranteeSummary, Subject
from sfumato.audit.settings import AuditSettings

TARGETS, UNITS = 8, 400
SETTINGS = AuditSettings(attacks=(LossThreshold(),), replicates=60)


@pytest.fixture
def members():
    rng = np.random.default_rng(0)
    half = rng.random((TARGETS // 2, UNITS)) < 0.5
    return np.stack([half, ~half], axis=1).reshape(TARGETS, UNITS)


ALONE, TOGETHER = (1, "inline", 1), (8, "stacked", 2)  # ways to train


def contended(name, accuracy, power, members, *, seed=0, seconds=10.0, kinds=None, targets=TARGETS, ways=(ALONE,)):
    """A contender whose members score `power` higher; accuracies scatter by a tenth of a point."""
    rng = np.random.default_rng(seed)
    members = members[:targets]
    scores = rng.normal(size=members.shape) + power * members
    if kinds is not None:
        scores += members * np.where(kinds == "mislabelled", 2.0, 0.0)
    accuracies = accuracy + np.linspace(-0.001, 0.001, targets)
    defence = name.partition("@")[0]
    subject = Subject(
        name=name,
        artefact="siblings",
        defence=DefenceSummary(name=defence, family="empirical", reference=""),
        guarantee=GuaranteeSummary(status="none", statement="none"),
        utility=[Finding(name="accuracy", value=accuracy, low=accuracy - 0.005, high=accuracy + 0.005)],
        strongest="loss",
        training_seconds=seconds,
    )
    game = SimpleNamespace(members=members, in_game=np.ones(UNITS, dtype=bool))
    groups = {} if kinds is None else {"canary": kinds}
    played = {"loss": Played(LossThreshold(), scores, 0.0)}
    return Contended(subject, game, played, accuracies, groups, frozenset(ways))


@pytest.fixture
def two(members):
    return [
        contended("undefended", 0.90, 3.0, members, seconds=20.0),
        contended("a@1", 0.80, 0.5, members, seed=1),
        contended("a@2", 0.88, 2.0, members, seed=2, seconds=50.0),
        contended("b@1", 0.82, 0.5, members, seed=3),
        contended("b@2", 0.89, 0.6, members, seed=4),
    ]


def test_times_of_models_that_were_trained_in_different_ways_are_not_compared(members):
    def time_of(ways, reference=(ALONE,)):
        first = contended("undefended", 0.90, 3.0, members, seconds=20.0, ways=reference)
        found = frontier_of([first, contended("a@1", 0.80, 0.5, members, seconds=50.0, ways=ways)], SETTINGS)
        return found.groups[0].curves[0].points[0].relative_time

    assert time_of((ALONE,)) == 2.5
    assert time_of((TOGETHER,)) is None
    assert time_of((ALONE, TOGETHER), (ALONE, TOGETHER)) is None


def test_names_without_a_strength_give_no_curves(members):
    assert frontier_of([contended("undefended", 0.9, 1.0, members)], SETTINGS) is None


def test_points_stand_by_accuracy_with_their_cost_and_only_what_is_resolved(two):
    found = frontier_of(two[::-1], SETTINGS)
    (group,) = found.groups
    assert (found.reference, found.method, group.group) == ("undefended", BOOTSTRAP, "all")
    assert [curve.method for curve in group.curves] == ["b", "a"]
    points = group.curves[1].points
    assert [point.strength for point in points] == ["1", "2"]
    assert [point.relative_time for point in points] == [0.5, 2.5]
    assert points[0].measured("tpr_at_fpr", 0.01).low >= 0
    assert points[0].measured("tpr_at_fpr", 0.001) is None  # 1,600 non-members cannot show it


def test_the_difference_at_equal_accuracy_is_that_of_the_lines(two):
    (group,) = frontier_of(two, SETTINGS).groups
    (row,) = group.differences
    assert (row.subject, row.baseline, row.accuracy) == ("b", "a", pytest.approx(0.85))
    rates = {p.subject: p.measured("tpr_at_fpr", 0.01).value for c in group.curves for p in c.points}
    a = rates["a@1"] + (rates["a@2"] - rates["a@1"]) * (0.85 - 0.80) / 0.08
    b = rates["b@1"] + (rates["b@2"] - rates["b@1"]) * (0.85 - 0.82) / 0.07
    difference = row.differences[1]
    assert difference.value == pytest.approx(b - a)
    assert difference.high < 0  # b leaks less
    assert not row.differences[0].resolvable
    assert "not resolvable" in row.differences[0].note


def test_what_a_point_of_accuracy_buys_and_what_is_not_reached(two):
    (group,) = frontier_of(two, SETTINGS).groups
    read = {(row.method, row.below): row.leakage[1] for row in group.at_accuracies}
    assert read["a", 0.02].value is not None
    assert read["a", 0.01].value is None
    assert "not reached: all settings are less accurate" in read["a", 0.01].note
    assert read["b", 0.01].value is not None


def test_curves_without_a_common_accuracy_say_so(two, members):
    far = contended("c@1", 0.5, 0.1, members)
    rows = frontier_of([*two, far], SETTINGS).groups[0].differences
    row = next(r for r in rows if r.subject == "c")
    assert row.accuracy is None
    assert row.note == "every setting of a is more accurate"
    assert row.differences == []


def test_the_null_equal_methods_do_not_differ(members):
    rows = []
    for seed in range(4):
        pair = [
            contended(f"{m}@{i}", 0.8 + 0.05 * i, 0.5 + i, members, seed=100 * seed + 10 * k + i)
            for k, m in enumerate("ab")
            for i in (0, 1)
        ]
        rows += frontier_of(pair, SETTINGS).groups[0].differences
    covered = [f.low <= 0 <= f.high for row in rows for f in row.differences if f.value is not None]
    assert len(covered) == 8
    assert sum(covered) >= 7


def test_the_worst_kind_of_canaries_is_a_group_of_its_own(members):
    kinds = np.where(np.arange(UNITS) < UNITS // 2, "natural", "mislabelled")
    found = frontier_of(
        [contended(f"a@{i}", 0.8 + 0.05 * i, 0.5, members, seed=i, kinds=kinds) for i in (0, 1)], SETTINGS
    )
    worst, every = found.group("worst"), found.group("all")
    assert {point.kind for point in worst.curves[0].points} == {"mislabelled"}
    for one, other in zip(worst.curves[0].points, every.curves[0].points, strict=True):
        assert one.measured("auc", None).value > other.measured("auc", None).value
        assert other.kind == ""


def test_few_targets_have_intervals_from_those_of_the_points(members):
    pair = [
        contended(f"{m}@{i}", 0.8 + 0.05 * i, 0.5 + i, members, seed=10 * k + i, targets=2)
        for k, m in enumerate("ab")
        for i in (0, 1)
    ]
    found = frontier_of(pair, SETTINGS)
    assert found.method == CORNERS
    difference = found.groups[0].differences[0].differences[2]
    auc = {c.method: [p.measured("auc", None) for p in c.points] for c in found.groups[0].curves}
    assert difference.low == pytest.approx(min(f.low for f in auc["b"]) - max(f.high for f in auc["a"]))


def test_the_record_keeps_it(two, tmp_path):
    found = frontier_of(two, SETTINGS)
    assert type(found).model_validate_json(found.model_dump_json()) == found
    assert AuditRecord.model_fields["frontier"].default is None
