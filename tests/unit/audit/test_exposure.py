import numpy as np
import pytest
from scipy.stats import mannwhitneyu

from sfumato.attacks.membership.lira import LiRAOnline
from sfumato.attacks.membership.loss import LossThreshold
from sfumato.audit.exposure import (
    SIGNAL,
    exposure,
    held_out_worst,
    rates_of_units,
    unit_signals,
    vulnerability,
    worst_of,
)
from sfumato.audit.game import Case, Game, play
from sfumato.audit.statistics import unit_vulnerability
from sfumato.data.membership import Membership
from sfumato.targets.answers import Answers


def made_up(models, units, gap, seed=0):
    """A game of one record per unit; the first tenth of the units gain `gap` when trained on."""
    rng = np.random.default_rng(seed)
    membership = Membership.half_pairs(units, models, rng)
    logits = rng.normal(size=(models, units, 2))
    logits[:, : units // 10, 0] += gap * membership.matrix[:, : units // 10]
    labels = np.zeros(units, dtype=np.int64)
    answers = Answers(labels, logits)
    cases = tuple(
        Case(answers.pick(np.array([m])), membership.matrix[m], membership.references_for(m)) for m in range(models)
    )
    return Game(
        labels, np.arange(units), membership.in_game, membership.public, cases, answers, membership.matrix
    )  # fmt: skip


def test_signals_are_the_mean_logit_of_a_units_records():
    game = made_up(4, 40, 0.0)
    signals = unit_signals(game)
    difference = game.references.logits[..., 0] - game.references.logits[..., 1]
    np.testing.assert_allclose(signals, difference, rtol=1e-12)


def test_exposure_is_the_mann_whitney_auc_of_each_unit():
    game = made_up(8, 40, 1.0)
    units, signals = exposure(game), unit_signals(game)
    for u in range(40):
        inside = game.members[:, u]
        expected = mannwhitneyu(signals[inside, u], signals[~inside, u]).statistic / 16
        assert units.auc[u] == pytest.approx(expected)


def test_the_hit_units_are_found_and_named_as_worst():
    game = made_up(32, 100, 3.0)
    found = vulnerability(game, 0.95)
    assert found.attack == SIGNAL
    assert sum(found.counts) == 100
    assert 0.7 < found.worst_decile.low < found.worst_decile.value < 1
    worst = worst_of(exposure(game), game.in_game)
    assert len(set(worst) & set(range(10))) >= 8


def test_without_leakage_scores_with_shared_references_would_accuse_the_worst_tenth_and_signals_do_not():
    game = made_up(4, 200, 0.0)
    played = play(game, LiRAOnline(), 0, lambda fit: fit.run())
    choosing = np.array([True, True, False, False])
    chooser = unit_vulnerability(played.scores[choosing], game.members[choosing], game.in_game).auc
    measured = unit_vulnerability(played.scores[~choosing], game.members[~choosing], game.in_game).auc
    assert measured[chooser == 1].mean() == 1.0  # the defect that this module is there for
    means = [made_up(8, 200, 0.0, seed) for seed in range(5)]
    values = [vulnerability(game, 0.95).worst_decile.value for game in means]
    assert abs(np.mean(values) - 0.5) < 0.1


def test_the_units_that_leak_are_found_again_and_again_and_the_others_are_not():
    game = made_up(16, 200, 30.0)
    found = rates_of_units(game, play(game, LiRAOnline(), 0, lambda fit: fit.run()), 0.95)
    assert found.at == 0.01  # 1,600 scores of non-members
    assert found.attack == "lira-online"
    assert sum(found.counts) == 200
    assert found.counts[-1] >= 20
    assert found.worst.value == 1.0
    assert found.worst.low == 0.0  # the targets share their references
    assert "0 of 8 models without it" in found.note
    assert "no lower end is claimed" in found.note
    alone = rates_of_units(game, play(game, LossThreshold(), 0, lambda fit: fit.run()), 0.95)
    assert 0.3 < alone.worst.low < 0.5  # 8 of 8 models, for the best of 200 units
    assert "no lower end" not in alone.note
    assert found.quantiles["0.5"] < 0.2
    assert rates_of_units(made_up(2, 40, 1.0), play(made_up(2, 40, 1.0), LossThreshold(), 0, None), 0.95) is None


def test_without_leakage_no_unit_is_claimed_to_be_found():
    lows, values = [], []
    for seed in range(3):
        game = made_up(16, 300, 0.0, seed)
        found = rates_of_units(game, play(game, LiRAOnline(), 0, lambda fit: fit.run()), 0.95)
        lows.append(found.worst.low)
        values.append(found.worst.value)
    assert min(values) > 0.2  # chance, read as independent trials, would exclude the 1% that is the truth
    assert max(lows) <= found.at


def test_few_models_are_not_resolved_and_say_why():
    assert vulnerability(made_up(2, 40, 0.0), 0.95) is None
    worst = vulnerability(made_up(4, 40, 0.0), 0.95).worst_decile
    assert not worst.resolvable
    assert worst.value is None
    assert "8 models" in worst.note


def test_perfect_separation_is_no_certainty():
    game = made_up(8, 40, 100.0)
    worst = vulnerability(game, 0.95).worst_decile
    assert worst.value == 1.0
    assert worst.low == pytest.approx(0.025**0.5)  # two pairs of models that all agree


def test_the_interval_counts_model_pairs_not_units():
    """Units of one model share its offset: many units do not make the mean certain."""
    rng = np.random.default_rng(3)
    membership = Membership.half_pairs(400, 8, rng)
    tilt = np.repeat(rng.choice([-3.0, 3.0], 4), 2)[:, None] * np.where(membership.matrix, 1, -1)
    found = held_out_worst(tilt + rng.normal(size=(8, 400)), membership.matrix, membership.in_game, 0.95)
    assert found.high - found.low > 0.5
