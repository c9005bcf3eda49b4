import json
from dataclasses import replace

import numpy as np
import pytest

from sfumato.attacks.membership.gradient_norm import GradientNorm
from sfumato.attacks.membership.lira import LiRAOnline
from sfumato.attacks.membership.loss import LossThreshold
from sfumato.audit.findings import FEWEST_IN_GROUP, few, groups, judge, one_run_bounds
from sfumato.audit.game import Case, Game, Played, play
from sfumato.audit.settings import AuditSettings
from sfumato.data.membership import Membership
from sfumato.targets.answers import Answers

FOUR = "4 per record (1 variants, 4 repeats)"
SETTINGS = AuditSettings(attacks=(LossThreshold(),), fprs=(0.1, 0.01, 1e-5), replicates=30)


def given(scores, members):
    """A game and an attack on it with these scores [targets, units]."""
    targets, units = members.shape
    answers = Answers(np.zeros(units, dtype=np.int64), np.zeros((targets, units, 2)))
    everyone = np.ones(units, dtype=bool)
    cases = tuple(
        Case(answers.pick(np.array([t])), members[t], np.array([], dtype=np.int64)) for t in range(targets)
    )  # fmt: skip
    game = Game(answers.labels, np.arange(units), everyone, ~everyone, cases)
    return game, Played(LossThreshold(), scores, 1.5)


def fit_nothing(fit):
    raise AssertionError(f"Expected no model of an attack's own, got {fit}.")


@pytest.fixture
def leaking():
    rng = np.random.default_rng(0)
    members = rng.random((6, 300)) < 0.5
    return given(rng.normal(size=(6, 300)) + 2 * members, members)


def test_the_result_counts_units_and_names_its_settings(leaking):
    game, played = leaking
    judged = judge(game, played, SETTINGS)
    result = judged.result
    assert result.name == "loss"
    assert result.targets == 6
    assert result.references_per_target == 0
    assert result.seconds == 1.5
    auc = result.finding("auc")
    assert auc.n_members + auc.n_nonmembers == 6 * 300
    assert auc.value == pytest.approx(0.921, abs=0.03)  # Phi(2 / sqrt 2)
    assert auc.low < auc.value < auc.high


def test_a_rate_too_small_for_the_data_has_no_value(leaking):
    result = judge(*leaking, SETTINGS).result
    rare = result.finding("tpr_at_fpr", 1e-5)
    assert not rare.resolvable
    assert (rare.value, rare.low, rare.high) == (None, None, None)
    assert result.per_target["tpr_at_fpr@1e-05"] == [None] * 6
    assert result.curve.resolvable_from == pytest.approx(10 / result.finding("auc").n_nonmembers)


def test_rates_calibrated_to_each_unit_stand_beside_the_pooled_ones():
    settings = AuditSettings(attacks=(LossThreshold(),), fprs=(0.3, 0.1, 1e-5), replicates=20)
    rng = np.random.default_rng(0)
    members = Membership.half_pairs(40, 8, rng).matrix
    labels, everyone = np.zeros(40, dtype=np.int64), np.ones(40, dtype=bool)
    logits = np.stack([np.where(members, 5.0, 0.0) + rng.normal(size=(8, 40)), np.zeros((8, 40))], axis=-1)
    answers = Answers(labels, logits)
    cases = tuple(
        Case(answers.pick(np.array([m])), members[m], np.array([k for k in range(8) if k // 2 != m // 2]))
        for m in range(8)
    )
    game = Game(labels, np.arange(40), everyone, ~everyone, cases, answers, members)
    result = judge(game, play(game, LossThreshold(), 0, fit_nothing), settings).result
    found = result.finding("tpr_at_fpr_calibrated", 0.3)
    assert found.value > 0.9
    assert "references" not in found.note
    assert "needs at least 9 models without it" in result.finding("tpr_at_fpr_calibrated", 0.1).note
    assert result.finding("tpr_at_fpr_calibrated", 1e-5) is None  # no number of models that anyone trains
    shared = judge(game, play(game, LiRAOnline(), 0, fit_nothing), settings).result
    assert "each other's references" in shared.finding("tpr_at_fpr_calibrated", 0.3).note
    alone = replace(game, cases=cases[:1])
    single = judge(alone, play(alone, LossThreshold(), 0, fit_nothing), settings).result
    assert single.finding("tpr_at_fpr_calibrated") is None


def test_arrays_are_the_per_target_values_with_nan_for_none(leaking):
    judged = judge(*leaking, SETTINGS)
    assert judged.arrays["loss/per_target/auc"].tolist() == judged.result.per_target["auc"]
    assert np.isnan(judged.arrays["loss/per_target/tpr_at_fpr@1e-05"]).all()
    json.dumps(judged.result.model_dump(), allow_nan=False)


def test_groups_of_few_units_lose_their_names(leaking):
    game, played = leaking
    site = np.array(["big"] * (300 - FEWEST_IN_GROUP + 1) + ["only-here"] * (FEWEST_IN_GROUP - 1))
    name = np.array([f"person-{i}" for i in range(300)])
    found = groups(game, played, {"site": site, "name": name}, SETTINGS)
    assert {g.group for g in found if g.column == "site"} == {"big", "groups of fewer than 10 units"}
    assert [g.group for g in found if g.column == "name"] == ["groups of fewer than 10 units"]
    assert not any("person-" in g.group for g in found)


def test_one_run_bounds_use_the_first_target_and_share_the_level_among_attacks():
    rng = np.random.default_rng(1)
    members = rng.random((4, 400)) < 0.5
    game, perfect = given(members.astype(float), members)
    blind = Played(LiRAOnline(), rng.normal(size=(4, 400)), 0.0)
    alone = one_run_bounds(game, [perfect], SETTINGS, 1e-5)
    both = one_run_bounds(game, [blind, perfect], SETTINGS, 1e-5)
    assert [bound.attack for bound in both] == ["loss", "loss"]
    for one, shared in zip(alone, both, strict=True):
        assert 0 < shared.value < one.value  # what was looked at twice certifies less
        assert shared.confidence == one.confidence == 0.95
        assert shared.value <= shared.ceiling
        assert shared.delta == 1e-5
        assert "coin" in shared.assumption
        assert "not a guarantee" in shared.note


def test_one_run_bounds_look_at_no_other_target():
    rng = np.random.default_rng(2)
    members = rng.random((4, 400)) < 0.5
    scores = members.astype(float)
    scores[0] = rng.normal(size=400)
    game, played = given(scores, members)
    assert all(bound.value < 0.5 for bound in one_run_bounds(game, [played], SETTINGS, 1e-5))


def test_no_attack_gives_no_bound(leaking):
    assert one_run_bounds(leaking[0], [], SETTINGS, 1e-5) == []


@pytest.mark.parametrize(
    ("attack", "told", "access"),
    [
        (LossThreshold(), "one per record", "scores"),
        (
            LossThreshold(queries=4, average="logits"),
            "4 per record (1 variants, 4 repeats), averaged as logits",
            "scores",
        ),
        (LossThreshold(noise="off"), "one per record, noise off", "weights"),
        (LossThreshold(queries=4, noise="common"), f"{FOUR}, common noise", "weights"),
        (GradientNorm(), "one per record, gradient norm, noise off", "weights"),
    ],
)
def test_the_record_says_how_was_asked_and_who_could(leaking, attack, told, access):
    game, played = leaking
    result = judge(game, Played(attack, played.scores, 0.0), SETTINGS).result
    assert (result.queries, result.access) == (told, access)


def test_a_group_is_judged_on_its_own_units_at_its_share_of_the_level(leaking):
    game, played = leaking
    half = np.arange(300) < 150
    auc, tenth = few(played, game, SETTINGS, (0.1,), only=half, among=2)
    assert auc.n_members + auc.n_nonmembers == 6 * 150
    assert (auc.confidence, tenth.at) == (pytest.approx(0.975), 0.1)
    whole = judge(game, played, SETTINGS).result
    assert few(played, game, SETTINGS, (0.1, 0.01, 1e-5))[0] == whole.finding("auc")


def test_units_outside_the_game_make_no_group(leaking):
    game, played = leaking
    kinds = np.where(np.arange(300) < 200, "none", "mislabelled")
    canaries = replace(game, in_game=kinds == "mislabelled")
    (only,) = groups(canaries, played, {"canary": kinds}, SETTINGS)
    assert only.group == "mislabelled"
    assert only.findings[0].n_members + only.findings[0].n_nonmembers == 6 * 100
