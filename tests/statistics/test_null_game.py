"""The whole game without leakage: what each model answers does not depend on its training set.

Each of the 63 settings (21 attacks x 3 design sizes) is played `RUNS` times on fresh data. At confidence 0.99 an honest
interval misses 0.5 in 1% of runs; a setting fails where it misses more often than a binomial count at 2% exceeds with
probability `ALPHA`, so all of them together fail by chance with probability below 63 * ALPHA < 0.002.
"""

import re
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binom

from sfumato.attacks.catalogue import attacks
from sfumato.audit.compare import compare
from sfumato.audit.exposure import held_out_worst
from sfumato.audit.game import play, siblings, why_not
from sfumato.audit.paired import aucs, difference_of_scores
from sfumato.audit.settings import AuditSettings
from sfumato.audit.statistics import summarise
from sfumato.data.membership import Membership
from sfumato.data.population import Population, Unit
from sfumato.data.sources.digits import Digits
from sfumato.defences.undefended import Undefended
from sfumato.execution.store import Store
from sfumato.models.mlp import MLP
from sfumato.targets.answers import Answers
from sfumato.training.recipe import Recipe
from sfumato.training.task import Optimizer, Task

pytestmark = pytest.mark.statistical
RUNS, ALPHA, CONFIDENCE = 30, 2e-5, 0.99
MOST = int(binom.isf(ALPHA, RUNS, 0.02))
FITTED = {"quantile", "shadow-classifier"}
CORRELATED = ("loss", "lira-online", "bavaria", "rmia", "calibration")


def null_game(attack_evidence, models, units, per_unit, seed):
    """Logits with a record effect, a unit effect, and a model effect, none of which knows who was trained on."""
    rng = np.random.default_rng(seed)
    unit_of = np.repeat(np.arange(units), per_unit)
    n = len(unit_of)
    labels = rng.integers(0, 3, n)
    population = Population(
        rng.normal(size=(n, 4)).astype(np.float32), Unit("person", unit_of), labels=labels, class_names=("a", "b", "c")
    )
    own = rng.normal(size=n) + rng.normal(size=(models, 1)) + rng.normal(size=(models, units))[:, unit_of]
    logits = rng.normal(size=(models, n, 3)) * 0.5
    logits[:, np.arange(n), labels] += own
    membership = Membership.half_pairs(units, models, rng, public=0.35)
    return siblings(
        population, membership, attack_evidence.answered(labels, logits).with_base_statistics(), MLP(hidden=(4,))
    )


def auc_of(game, attack, seed):
    played = play(game, attack, seed, lambda fit: fit.run())
    rng = np.random.default_rng(seed)
    found = summarise(
        played.scores, game.members, game.in_game, fprs=(0.1,), confidence=CONFIDENCE, replicates=400, rng=rng
    )
    return found.auc


def misses(attack_evidence, attack, models, units, per_unit):
    count = 0
    for run in range(RUNS):
        game = null_game(attack_evidence, models, units, per_unit, 1000 * models + run)
        game = replace(game, kind="image")  # the answers are made up: whoever asks of mirrored views gets some
        if reasons := why_not(game, attack):  # 4 models leave one reference without each record
            assert models == 4
            assert all(re.fullmatch("needs 2 references with(out)? each record, got 1", reason) for reason in reasons)
            return 0
        auc = auc_of(game, attack, run)
        count += not auc.low <= 0.5 <= auc.high
    return count


@pytest.mark.parametrize("models", [4, 8, 16])
@pytest.mark.parametrize("name", [name for name in attacks() if name not in FITTED])
def test_without_leakage_the_interval_of_every_attack_holds_one_half(name, models, attack_evidence):
    assert misses(attack_evidence, attacks()[name](), models, 100, 1) <= MOST


@pytest.mark.parametrize("name", sorted(FITTED))
def test_attacks_that_train_something_too(name, attack_evidence):
    assert misses(attack_evidence, attacks()[name](), 4, 160, 1) <= MOST


@pytest.mark.parametrize("models", [4, 8, 16])
@pytest.mark.parametrize("name", CORRELATED)
def test_ten_correlated_records_per_unit_are_one_unit(name, models, attack_evidence):
    assert misses(attack_evidence, attacks()[name](), models, 60, 10) <= MOST


@pytest.mark.parametrize("models", [8, 16, 32])
def test_the_worst_tenth_is_not_accused_without_leakage(models):
    """300 runs at 95%: more than 32 misses have probability below 1e-4 at the stated rate."""
    count, values = 0, []
    for run in range(300):
        rng = np.random.default_rng(run)
        membership = Membership.half_pairs(100, models, rng)
        signals = rng.normal(size=(models, 100)) + rng.normal(size=(models, 1)) + rng.normal(size=100)
        found = held_out_worst(signals, membership.matrix, membership.in_game, 0.95)
        values.append(found.value)
        count += not found.low <= 0.5 <= found.high
    assert count <= binom.isf(1e-4, 300, 0.05)
    assert np.mean(values) == pytest.approx(0.5, abs=4 * np.std(values) / np.sqrt(300))


@pytest.mark.parametrize("models", [8, 16])
def test_two_recipes_that_leak_alike_are_not_told_apart(models):
    """AUC of LiRA on two independent sets of models; 200 runs, 95%. A t interval over pairs alone misses in 14%."""
    attack, count = attacks()["lira-online"](), 0
    for run in range(200):
        games = [leaking_game(models, 60, run, recipe) for recipe in range(2)]
        scores = [play(game, attack, run, lambda fit: fit.run()).scores for game in games]
        difference = difference_of_scores(*scores, games[0].members, games[0].in_game, aucs, "auc", 0.95)
        count += not difference.low <= 0 <= difference.high
    assert count <= binom.isf(1e-4, 200, 0.05)


def test_a_network_that_memorised_is_caught_by_attacks_with_references(tmp_path):
    """Power, on real input: 16 MLPs fitted to the end on halves of 400 digits with a fifth of the labels wrong."""
    digits = Digits().load().sample(400, np.random.default_rng(0))
    labels, rng = digits.label_array.copy(), np.random.default_rng(1)
    wrong = rng.random(len(labels)) < 0.2
    labels[wrong] = (labels[wrong] + rng.integers(1, 10, wrong.sum())) % 10
    task = Task(model=MLP(hidden=(64,)), optimizer=Optimizer(lr=0.1), epochs=60, batch_size=32)
    names = ("lira-online", "bavaria", "rmia")
    settings = AuditSettings(attacks=tuple(attacks()[name]() for name in names), models=16, fprs=(0.01,))
    record = compare(replace(digits, labels=labels), [Recipe(task, Undefended())], settings, Store(tmp_path)).record
    for result in record.subjects[0].attacks:
        assert result.finding("auc").low > 0.6, result.name
        assert result.finding("tpr_at_fpr", 0.01).low > 0.01, result.name
    assert record.verdict.against


def leaking_game(models, units, run, recipe):
    """One population and design per run; the models of each recipe are noise of their own around the same leak."""
    rng = np.random.default_rng(run)
    membership = Membership.half_pairs(units, models, rng)
    difficulty = rng.normal(size=units)
    population = Population(np.zeros((units, 1), dtype=np.float32), "example", labels=np.arange(units) % 2)
    noise = np.random.default_rng([run, recipe]).normal(size=(models, units))
    own = difficulty + noise + 1.0 * membership.matrix
    logits = np.zeros((models, units, 2))
    logits[:, np.arange(units), population.label_array] = own
    return siblings(population, membership, Answers(population.label_array, logits).with_base_statistics(), None)
