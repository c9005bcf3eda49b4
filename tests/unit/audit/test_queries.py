from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import nn

from sfumato.attacks.membership.entropy import Entropy
from sfumato.attacks.membership.gradient_norm import GradientNorm
from sfumato.attacks.membership.lira import LiRAOnline
from sfumato.attacks.membership.loss import LossThreshold
from sfumato.attacks.membership.predictive_variance import PredictiveVariance
from sfumato.attacks.membership.quantile import Quantile
from sfumato.attacks.membership.rmia import RMIA
from sfumato.audit.compare import compare
from sfumato.audit.game import Case, Game, Played, play
from sfumato.audit.measured import NOISE_ONLY
from sfumato.audit.plan import plan
from sfumato.audit.queries import (
    FPRS,
    asked_once,
    players_only,
    queries_for,
    queries_of_study,
    risk,
    study,
    threat_of,
    varied,
    ways,
)
from sfumato.audit.release import Release, audit_release
from sfumato.audit.settings import AuditSettings
from sfumato.audit.statistics import summarise
from sfumato.audit.verdict import strongest_row
from sfumato.data.canaries import with_canaries
from sfumato.data.population import Population
from sfumato.data.sources import open_source
from sfumato.defences.undefended import Undefended
from sfumato.execution.store import Store
from sfumato.models.mlp import MLP
from sfumato.models.sde_net import SDENet
from sfumato.sde.block import SDEBlock
from sfumato.sde.diffusions.additive import Additive
from sfumato.sde.drifts.dense import DenseDrift
from sfumato.sde.integrate import Grid
from sfumato.sde.integrators.euler_maruyama import EulerMaruyama
from sfumato.seeding import stream
from sfumato.targets.answers import STATISTICS, Answers
from sfumato.targets.queries import QuerySet
from sfumato.training.defence import Defence
from sfumato.training.preparation import Assignment, LoopOptions
from sfumato.training.recipe import Recipe
from sfumato.training.task import Optimizer, Task

SETTINGS = AuditSettings(attacks=(LossThreshold(), LiRAOnline()), models=8, replicates=30, draws=(1, 4, 64))


def no_fit(fit):
    raise AssertionError("nothing is trained here")


def synthetic(settings, units=80, targets=8, signal=1.0, seed=0):
    """A game in which one answer is drowned in noise: member + N(0, 1), and then N(0, 25 / answers) on top.

    The last ten records are outside the game and were not asked.
    """
    rng = np.random.default_rng(seed)
    members = np.zeros((targets, units), dtype=bool)
    for m in range(0, targets, 2):
        members[m] = rng.random(units) < 0.5
        members[m + 1] = ~members[m]
    in_game = np.arange(units) < units - 10
    members[:, ~in_game] = True
    base = signal * members + rng.normal(size=(targets, units))
    scalars = {}
    for queries in queries_of_study(settings):
        noise = 0.0 if queries.noise == "off" else 5 / np.sqrt(queries.repeats)
        values = base + noise * rng.normal(size=base.shape)
        if queries.scope == "game":
            values[:, ~in_game] = np.nan
        names = [*STATISTICS, *(f"{s}@{a}" for s in STATISTICS for a in ("logits", "probabilities"))]
        scalars[queries.key] = {name: values[..., None].astype(np.float32) for name in names}
        if queries.repeats > 1:
            scalars[queries.key]["deviation"] = np.exp(values[..., None]).astype(np.float32)
    logits = np.stack([np.zeros_like(base), base], axis=-1)
    answers = Answers(np.ones(units, dtype=np.int64), logits, scalars)
    cases = tuple(
        Case(answers.pick(np.array([m])), members[m], np.array([r for r in range(targets) if r not in (m, m ^ 1)]))
        for m in range(targets)
    )
    outside = np.zeros(units, dtype=bool)
    return Game(answers.labels, np.arange(units), in_game, outside, cases, answers, members)


def auc_of(rows, attack, **how):
    (row,) = [r for r in rows if r.attack == attack and all(getattr(r, key) == value for key, value in how.items())]
    return row.finding("auc").value


def test_an_attack_is_tried_with_every_number_of_answers_three_averages_and_the_weights():
    found = [(a.queries, a.noise, a.average) for a in ways(LossThreshold(), (1, 4, 64))]
    assert found == [
        (1, "fresh", "statistic"), (4, "fresh", "statistic"), (64, "fresh", "statistic"),
        (64, "fresh", "logits"), (64, "fresh", "probabilities"),
        (1, "off", "statistic"), (64, "common", "statistic"),
    ]  # fmt: skip
    assert [(a.queries, a.noise) for a in ways(LossThreshold(), (1,))] == [(1, "fresh"), (1, "off"), (1, "common")]


def test_a_spread_is_never_taken_over_one_answer():
    assert {a.queries for a in ways(PredictiveVariance(), (1, 4, 64))} == {4, 64}
    assert {a.noise for a in ways(PredictiveVariance(), (1, 4, 64))} == {"fresh", "common"}


def test_all_is_asked_of_the_game_but_the_drift_alone():
    assert {q.key for q in queries_of_study(SETTINGS)} == {
        "none-x1-game", "none-x4-game", "none-x64-game", "none-x1-off", "none-x64-common-game",
    }  # fmt: skip


def test_attacks_that_train_or_ask_in_one_way_by_their_settings_are_not_varied():
    attacks = (LossThreshold(), Quantile(), LiRAOnline(noise="off"), GradientNorm())
    settings = replace(SETTINGS, attacks=attacks)
    assert [a.name for a in varied(settings)] == ["loss"]
    assert [a.name for a in varied(replace(settings, draws_attacks=("quantile",)))] == ["quantile"]


@pytest.mark.parametrize(
    ("attack", "threat"),
    [
        (LossThreshold(), "one query"),
        (LossThreshold(queries=4), "many queries"),
        (LossThreshold(augmentation="mirror"), "many queries"),
        (LossThreshold(noise="off"), "released weights"),
        (LossThreshold(queries=4, noise="common"), "released weights"),
        (GradientNorm(), "released weights"),
    ],
)
def test_who_could_ask_so(attack, threat):
    assert threat_of(attack) == threat


def test_risk_rises_with_the_number_of_answers_and_is_highest_without_noise():
    studied = study(synthetic(SETTINGS), {}, {}, SETTINGS, no_fit)
    assert studied.refused == []
    for attack in ("loss", "lira-online"):
        curve = [auc_of(studied.rows, attack, k=k, noise="fresh", average="statistic") for k in (1, 4, 64)]
        assert 0.5 < curve[0] < 0.6 < curve[2] - 0.02
        assert curve[0] < curve[1] < curve[2]
        assert auc_of(studied.rows, attack, noise="off") > curve[1]
    assert all([f.name for f in row.findings] == ["auc", *["tpr_at_fpr"] * 3] for row in studied.rows)
    assert [f.at for f in studied.rows[0].findings[1:]] == list(FPRS)


def test_the_numbers_are_those_of_any_other_attack():
    game = synthetic(SETTINGS)
    studied = study(game, {}, {}, SETTINGS, no_fit)
    values = game.references.scalars["none-x4-game"]["logit"][..., 0].astype(np.float64)
    seen = game.in_game
    expected = summarise(
        values[:, seen], game.members[:, seen], fprs=FPRS, replicates=30, rng=stream(0, "statistics", "loss")
    )
    (row,) = [r for r in studied.rows if (r.attack, r.k) == ("loss", 4)]
    assert row.finding("auc").value == pytest.approx(expected.auc.value)
    assert (row.finding("auc").low, row.finding("auc").high) == pytest.approx((expected.auc.low, expected.auc.high))
    assert row.finding("tpr_at_fpr", 0.1).value == pytest.approx(expected.tpr_at_fpr[0].value)


def test_records_that_were_not_asked_never_reach_an_attack():
    game = synthetic(SETTINGS)
    assert np.isnan(game.references.statistic("logit", QuerySet(repeats=4, scope="game"))).any()
    small = players_only(game, replace(SETTINGS, attacks=(RMIA(),)))
    assert small.in_game.all()
    assert np.isfinite(play(small, RMIA(queries=4), 0, no_fit).scores).all()  # it reads all records, known ones too
    np.testing.assert_array_equal(small.members, game.members[:, game.in_game])


def test_units_of_several_records_stay_together():
    game = synthetic(SETTINGS)
    pairs = replace(
        game,
        unit_of=np.arange(80) // 2,
        in_game=game.in_game[::2],
        public=game.public[::2],
        cases=tuple(Case(c.target, c.members[::2], c.references) for c in game.cases),
        membership=game.membership[:, ::2],
    )
    small = players_only(pairs, SETTINGS)
    assert (len(small.labels), len(small.in_game)) == (70, 35)
    np.testing.assert_array_equal(small.unit_of, np.arange(70) // 2)
    assert play(small, LossThreshold(queries=4), 0, no_fit).scores.shape == (8, 35)


def test_kinds_of_canaries_are_judged_by_themselves_at_a_shared_level():
    kinds = np.where(np.arange(80) < 35, "mislabelled", "natural")
    studied = study(synthetic(SETTINGS), {}, {"canary": kinds}, SETTINGS, no_fit)
    rows = {r.group: r for r in studied.rows if (r.attack, r.k, r.average) == ("loss", 64, "statistic")
            and r.noise == "fresh"}  # fmt: skip
    assert set(rows) == {"all", "canary=mislabelled", "canary=natural"}
    assert rows["canary=natural"].finding("auc").confidence == pytest.approx(0.975)
    counts = [rows[g].finding("auc").n_members for g in ("canary=mislabelled", "canary=natural", "all")]
    assert counts[0] + counts[1] == counts[2]


def test_names_of_few_units_are_not_written_down():
    names = np.array([f"person-{i}" for i in range(80)])
    studied = study(synthetic(SETTINGS), {}, {"canary": names}, SETTINGS, no_fit)
    assert not any("person" in row.group for row in studied.rows)


def test_an_average_that_an_attack_does_not_read_is_no_further_row():
    settings = replace(SETTINGS, attacks=(PredictiveVariance(),))
    rows = study(synthetic(settings), {}, {}, settings, no_fit).rows
    assert [(row.k, row.noise) for row in rows] == [(4, "fresh"), (64, "fresh"), (64, "common")]


def test_a_group_without_members_or_without_others_has_no_row():
    game = synthetic(SETTINGS)
    alone = replace(game, cases=game.cases[:1])
    played = Played(LossThreshold(), np.random.default_rng(0).normal(size=(1, 80)), 0.0)
    kinds = np.where(game.cases[0].members, "inside", "outside")
    assert [row.group for row in risk(alone, played, {"canary": kinds}, SETTINGS)] == ["all"]


def test_what_cannot_be_asked_again_is_said_once():
    settings = replace(SETTINGS, attacks=(Entropy(),))
    studied = study(synthetic(settings), {}, {}, settings, no_fit)
    assert [(row.k, row.threat) for row in studied.rows] == [(1, "one query")]
    (missing,) = studied.refused
    assert missing.attack == "entropy, asked in other ways"
    assert "full posteriors" in missing.reasons[0]
    assert "64 answers under common noise" in missing.reasons[0]


def test_attacks_that_are_not_varied_stand_beside_the_others_as_they_were_played():
    game = synthetic(SETTINGS)
    settings = replace(SETTINGS, attacks=(LossThreshold(), LiRAOnline()), draws_attacks=("lira-online",))
    played = {"loss": play(game, LossThreshold(), 0, no_fit)}
    rows = [row for row in study(game, played, {}, settings, no_fit).rows if row.attack == "loss"]
    assert [(row.k, row.noise, row.threat) for row in rows] == [(1, "fresh", "one query")]
    assert rows[0].finding("auc").value > 0.7  # the base answers of this game have no noise on top


@dataclass(frozen=True, kw_only=True)
class Drowned(Defence):
    """Noise in front of the network that hides what one answer shows."""

    name = "drowned"

    def prepare(self, model):
        diffusion = Additive(sigma=2.0)
        return nn.Sequential(SDEBlock(DenseDrift(8, 4), Grid(steps=1), EulerMaruyama(), diffusion), model)


TASK = Task(model=MLP(hidden=(16,)), optimizer=Optimizer(lr=0.1), epochs=20, batch_size=16)
HOW = AuditSettings(attacks=(LossThreshold(),), models=4, replicates=30, fprs=(0.1,), draws=(1, 16))


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return Store(tmp_path_factory.mktemp("random"))


@pytest.fixture(scope="module")
def random_run(population, store):
    recipes = [Recipe(TASK, Undefended()), Recipe(TASK, Drowned())]
    return compare(population, recipes, HOW, store, executor="inline").record


def test_only_subjects_that_answer_at_random_are_asked_more(random_run, population, store):
    always, random = random_run.subjects
    assert (always.random_answers, always.query_risk) == (False, [])
    assert random.random_answers
    assert {row.threat for row in random.query_risk} == {"one query", "many queries", "released weights"}
    assert queries_for(Recipe(TASK, Undefended()), population, HOW) == HOW.queries
    found = plan(population, [Recipe(TASK, Undefended()), Recipe(TASK, Drowned())], HOW, store)
    assert (found.cost.models_to_train, found.cost.requeries, found.retraining) == (0, 0, {})


def test_the_plan_counts_what_random_models_are_asked_besides(population, tmp_path):
    one, other = (plan(population, [Recipe(TASK, kind())], HOW, Store(tmp_path)).cost for kind in (Undefended, Drowned))
    asked = HOW.membership(population).in_game.sum() * 2  # records, two a unit
    assert other.forward_passes - one.forward_passes == 4 * (16 * asked + len(population) + 16 * asked)


def test_the_verdict_names_the_way_of_asking_that_found_most(random_run):
    subject = random_run.subject("drowned")
    row = strongest_row(subject)
    assert f"({row.label})" in random_run.verdict.sentence
    lows = [one.finding("auc").low for one in (*subject.attacks, *subject.query_risk)]  # few units: the AUC decides
    assert row.finding("auc").low == max(lows)
    assert max(lows) > subject.attack("loss").finding("auc").low


def test_attacks_with_the_weights_are_no_longer_untested_where_some_were_tried(random_run, compared):
    assert random_run.not_tested[0].startswith("further attacks with access to the weights")
    assert compared.run.record.not_tested[0].startswith("attacks with access to the weights")


def test_accuracy_is_told_for_one_draw_for_the_mean_and_for_the_drift(random_run):
    names = [f.name for f in random_run.subject("drowned").utility]
    assert names[-3:] == ["accuracy-one-draw", "accuracy-mean-of-16-draws", "accuracy-drift-alone"]
    assert not any(f.name.startswith("accuracy-") for f in random_run.subject("undefended").utility)


def test_a_random_model_that_was_asked_once_is_a_critical_notice(population, store):
    run = compare(population, [Recipe(TASK, Drowned())], replace(HOW, draws=(1,)), store, executor="inline")
    (notice,) = [n for n in run.record.notices if n.severity == "critical"]
    assert NOISE_ONLY in notice.text
    assert "drowned" in notice.text
    assert asked_once(run.record.subjects) == [notice]


def test_a_released_random_model_is_asked_as_its_references_are(population, store):
    recipe = Recipe(TASK, Drowned())
    members = np.zeros(population.units, dtype=bool)
    members[np.random.default_rng(0).permutation(population.units)[:30]] = True
    trained = recipe.fit(population, [Assignment(np.flatnonzero(population.rows_of(members)), 99)], LoopOptions())[0]
    settings = replace(HOW, attacks=(LossThreshold(), LiRAOnline()))
    run = audit_release(population, Release(recipe, trained, members), settings, store, executor="inline")
    (subject,) = run.record.subjects
    assert subject.random_answers
    assert {(row.attack, row.threat) for row in subject.query_risk} == {
        (attack, threat)
        for attack in ("loss", "lira-online")
        for threat in ("one query", "many queries", "released weights")
    }
    assert subject.utility[-1].name == "accuracy-drift-alone"
    assert subject.utility[-1].low < subject.utility[-1].value < subject.utility[-1].high


def test_canaries_in_digits_are_the_game_of_a_small_sde_net(tmp_path):
    torch.set_num_threads(1)
    digits = open_source("digits").load()
    data = with_canaries(digits.take_units(np.arange(120)), {"natural": 24, "mislabelled": 24}, seed=0)
    assert isinstance(data, Population)
    task = Task(model=SDENet(channels=4, width=4, steps=2, sigma=0.5), epochs=2, batch_size=32)
    settings = replace(HOW, design="canaries", attacks=(LossThreshold(), GradientNorm(calibration="none")))
    run = compare(data, [Recipe(task, Undefended())], settings, Store(tmp_path))
    (subject,) = run.record.subjects
    assert run.record.data.game_units == 48
    assert {row.group for row in subject.query_risk} == {"all", "canary=mislabelled", "canary=natural"}
    assert ("gradient-norm", "released weights") in {(row.attack, row.threat) for row in subject.query_risk}
    accuracy = subject.utility[0]
    assert accuracy.name == "accuracy"
    assert "24 records of canaries are not counted" in accuracy.note
    assert accuracy.n_members + accuracy.n_nonmembers == 4 * (120 - 24)
    assert subject.groups
    assert {group.column for group in subject.groups} == {"canary"}
