"""`summarise`, the bootstrap under it, groups, vulnerability, stability, units."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from sfumato.audit import statistics as stats
from sfumato.errors import UsageError


def game(targets, units, shift, seed=0):
    rng = np.random.default_rng(seed)
    members = rng.random((targets, units)) < 0.5
    return rng.normal(size=(targets, units)) + shift * members, members


def test_values_are_those_of_the_plain_functions():
    scores, members = game(8, 300, 1.0)
    found = stats.summarise(scores, members, rng=np.random.default_rng(0), replicates=20)
    pair = stats.by_membership(scores, members)
    assert found.auc.value == pytest.approx(stats.auc(*pair))
    assert found.advantage.value == pytest.approx(stats.advantage(*pair))
    assert found.balanced_accuracy.value == pytest.approx(stats.balanced_accuracy(*pair))
    assert found.tpr_at_fpr[1].value == pytest.approx(stats.tpr_at_fpr(*pair, 0.01))
    assert found.tnr_at_fnr[0].value == pytest.approx(stats.tnr_at_fnr(*pair, 0.1))
    one = stats.by_membership(scores[2], members[2])
    assert found.per_target.auc[2] == pytest.approx(stats.auc(*one))
    assert found.per_target.tpr_at_fpr[2, 0] == pytest.approx(stats.tpr_at_fpr(*one, 0.1))
    assert np.isnan(found.per_target.tpr_at_fpr[2, 1])  # About 150 nonmembers cannot resolve 1 %.
    assert found.per_target.auc_mean.mean == pytest.approx(found.per_target.auc.mean())
    tpr = stats.tpr_at_fpr(*pair, 0.01)
    assert found.ppv[2].value == pytest.approx(tpr / (tpr + 0.01), rel=0.1)
    assert found.ppv[0].at == 0.01


def test_every_estimate_lies_in_its_interval_and_in_range():
    scores, members = game(8, 300, 1.0)
    found = stats.summarise(scores, members, rng=np.random.default_rng(0), replicates=50)
    shown = [e for e in found.estimates if e.resolvable]
    assert len(shown) >= 12
    for estimate in shown:
        assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1
        assert estimate.low < estimate.high
        assert "targets and units" in estimate.method
    assert np.all((found.roc.low <= found.roc.tpr) & (found.roc.tpr <= found.roc.high))
    assert np.all(np.diff(found.roc.tpr) >= 0)


def test_a_rate_below_resolution_has_no_value_and_says_what_is_missing():
    scores, members = game(2, 300, 1.0)
    found = stats.summarise(scores, members, rng=np.random.default_rng(0), replicates=20)
    lowest = found.tpr_at_fpr[-1]
    assert (lowest.value, lowest.low, lowest.high, lowest.resolvable) == (None, None, None, False)
    assert "1,000,000 nonmember" in lowest.note
    assert not found.roc.resolvable[0]
    assert found.roc.resolvable[-1]


def test_the_same_generator_state_gives_the_same_summary():
    scores, members = game(5, 100, 0.5)
    first, second = (stats.summarise(scores, members, rng=np.random.default_rng(4), replicates=20) for _ in range(2))
    assert first.estimates == second.estimates


def test_interval_widens_when_scores_of_a_target_move_together():
    rng = np.random.default_rng(0)
    members = rng.random((8, 200)) < 0.5
    noise = rng.normal(size=(8, 200))
    width = [
        (e := stats.summarise(noise + members * shift, members, rng=np.random.default_rng(0)).auc).high - e.low
        for shift in (1.0, 1.0 + rng.normal(size=(8, 1)))
    ]
    assert width[1] > 3 * width[0]


def test_few_targets_are_not_resampled_and_the_note_says_so():
    scores, members = game(1, 200, 1.0)
    alone = stats.summarise(scores[0], members[0], rng=np.random.default_rng(0), replicates=20)
    assert "One target model" in alone.auc.note
    assert alone.auc.method == "bootstrap over units (BCa)"
    draws = stats.draw_resamples(3, 10, 5, np.random.default_rng(0))
    assert np.all(draws.targets == 1)
    assert np.all(draws.units.sum(1) == 10)
    assert np.all(stats.draw_resamples(4, 10, 5, np.random.default_rng(0)).targets.sum(1) == 4)


def test_units_outside_the_game_do_not_count():
    scores, members = game(5, 120, 1.0)
    played = np.arange(120) < 100
    hidden = np.where(played, scores, np.nan)
    rng = [np.random.default_rng(0) for _ in range(2)]
    masked = stats.summarise(hidden, members, played, rng=rng[0], replicates=20)
    cut = stats.summarise(scores[:, :100], members[:, :100], rng=rng[1], replicates=20)
    assert masked.auc.value == cut.auc.value
    assert masked.auc.n_members == cut.auc.n_members


def test_perfect_separation_is_not_reported_as_certain():
    members = np.tile([True, False], (5, 30))
    found = stats.summarise(members * 1.0, members, rng=np.random.default_rng(0), replicates=20)
    for estimate in (found.auc, found.advantage, found.advantage_crossfitted, found.tpr_at_fpr[0]):
        assert estimate.value == 1.0
        assert estimate.low < 0.98


def test_one_member_has_no_crossfitted_advantage_and_an_advantage_that_may_be_zero():
    members = np.array([True, False, False, False])
    found = stats.summarise([3.0, 1, 2, 0], members, rng=np.random.default_rng(0), replicates=20)
    assert found.advantage_crossfitted.value is None
    assert found.balanced_accuracy_crossfitted.value is None
    assert found.advantage.low == 0


@pytest.mark.parametrize(
    ("scores", "members", "message"),
    [
        ([[1.0, 2.0]], [[True, True]], "nonmembers"),
        ([[1.0, np.nan]], [[True, False]], "NaN"),
        ([[1.0, 2.0]], [[True]], "shape"),
        (np.zeros((2, 0)), np.zeros((2, 0), bool), "at least one"),
    ],
)
def test_games_that_cannot_be_scored_are_refused(scores, members, message):
    with pytest.raises(UsageError, match=message):
        stats.summarise(scores, members, rng=np.random.default_rng(0))


@pytest.mark.parametrize("arguments", [{"fprs": (1.5,)}, {"priors": (-0.1,)}, {"confidence": 95}, {"replicates": 1}])
def test_options_out_of_range_are_refused(arguments):
    scores, members = game(2, 20, 0.0)
    with pytest.raises(UsageError, match="Expected"):
        stats.summarise(scores, members, rng=np.random.default_rng(0), **arguments)


def test_crossed_variance_sees_row_and_column_effects():
    rng = np.random.default_rng(0)
    rows = np.broadcast_to(rng.normal(size=(200, 1)), (200, 150))
    found = stats.crossed_variance(rows)
    assert found.targets == pytest.approx(150**2 * rows[:, 0].var(ddof=1) * 200)
    assert found.total == found.targets  # Never below either clustering alone.
    both = stats.crossed_variance(rows + rng.normal(size=(1, 150)))
    assert both.total == pytest.approx(both.targets + both.units - both.cells)
    assert both.total > max(both.targets, both.units)
    noise = stats.crossed_variance(rng.normal(size=(200, 150)))
    assert noise.total == pytest.approx(200 * 150, rel=0.4)
    assert stats.crossed_scale(noise_like := rng.normal(size=(200, 150)), 0.95) < 0.8
    assert stats.crossed_scale(noise_like[:3], 0.95) == 1.0


def test_groups_have_their_own_values_and_simultaneous_levels():
    scores, members = game(4, 300, 0.0)
    labels = np.repeat(["a", "b", "c"], 100)
    scores += 2.0 * members * (labels == "b")
    members[:, labels == "c"] = False
    found = stats.by_group(scores, members, {"kind": labels}, fpr=0.1, replicates=40, rng=np.random.default_rng(0))
    assert [g.group for g in found] == ["a", "b", "c"]
    assert found[1].auc.value == pytest.approx(stats.auc(*stats.by_membership(scores[:, 100:200], members[:, 100:200])))
    assert found[1].auc.low > found[0].auc.high
    assert found[0].auc.confidence == pytest.approx(1 - 0.05 / 3)
    assert found[2].auc.value is None
    assert "0 member" in found[2].auc.note
    with pytest.raises(UsageError, match="one label per unit"):
        stats.by_group(scores, members, {"kind": labels[:5]}, rng=np.random.default_rng(0))


def test_vulnerability_needs_models_on_both_sides():
    found = stats.unit_vulnerability(
        [[1.0, 5], [2, 6], [0, 7], [0, 8]], np.array([[1, 1], [1, 1], [0, 1], [0, 1]], bool)
    )
    assert found.auc[0] == 1.0
    assert np.isnan(found.auc[1])
    assert found.separation[0] == pytest.approx(1.5 / np.sqrt(0.5))
    assert found.n_in.tolist() == [2, 4]
    constant = stats.unit_vulnerability([[1.0], [1], [0], [0]], np.array([[1], [1], [0], [0]], bool))
    assert constant.separation[0] == np.inf


def test_worst_share_and_histogram():
    values = np.r_[np.arange(20.0), np.nan]
    worst = stats.worst_share(values, 0.1)
    assert worst.units.tolist() == [19, 18]
    assert (worst.lowest, worst.mean, worst.overall_mean) == (18, 18.5, 9.5)
    bars = stats.histogram(values, bins=4)
    assert bars.counts.tolist() == [5, 5, 5, 5]
    assert bars.left_out == 1
    assert stats.histogram([np.nan]).counts.sum() == 0
    with pytest.raises(UsageError, match="NaN for all"):
        stats.worst_share([np.nan])


def test_stability_finds_units_that_are_always_exposed():
    rng = np.random.default_rng(0)
    members = rng.random((32, 400)) < 0.5
    noise, exposed = rng.normal(size=(32, 400)), 4.0 * (np.arange(400) < 40)
    stable = stats.split_half_stability(noise + members * exposed, members, rng=np.random.default_rng(0))
    chance = stats.split_half_stability(noise, members, rng=np.random.default_rng(0))
    assert stable.jaccard > 0.8
    assert stable.n_flagged == 40
    assert chance.jaccard < 0.2
    assert chance.jaccard_by_chance == pytest.approx(4 / 76)
    assert abs(chance.spearman) < 0.2
    same = stats.compare_rankings(np.arange(50), np.arange(50))
    assert (same.jaccard, same.spearman) == (1.0, pytest.approx(1.0))
    with pytest.raises(UsageError, match="at least 4"):
        stats.split_half_stability(noise[:3], members[:3], rng=np.random.default_rng(0))


def test_combining_refuses_gaps_and_unknown_rules():
    assert stats.combine([1.0, 2, 3], [0, 1, 0], "max").tolist() == [3, 2]
    with pytest.raises(UsageError, match="Did you mean 'median'"):
        stats.combine([1.0], [0], "medain")
    for codes in ([0, 2], [-1, 0], [0.0, 1.0], [0]):
        with pytest.raises(UsageError, match="Expected"):
            stats.combine([1.0, 2.0], codes, "mean")


def test_the_rooms_import_without_torch():
    code = "import sys, sfumato.audit.statistics, sfumato.audit.epsilon; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
