"""Models that answer at random: what noise they are asked with, and how repeats are averaged."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import nn

from sfumato.attacks.evidence import Evidence
from sfumato.attacks.membership.gradient_norm import GradientNorm
from sfumato.attacks.membership.lira_two_features import LiRATwoFeatures
from sfumato.attacks.membership.loss import LossThreshold
from sfumato.attacks.membership.predictive_variance import PredictiveVariance
from sfumato.data.population import Population
from sfumato.data.records import ArrayRecords
from sfumato.defences.undefended import Undefended
from sfumato.errors import DataError, NotApplicable, SfumatoError, UsageError
from sfumato.models.sde_net import SDENet
from sfumato.sde.streams import random_layers, set_noise
from sfumato.targets import asking
from sfumato.targets.answers import STATISTICS, Answers, scalar_names, statistic
from sfumato.targets.asking import COMMON, ask
from sfumato.targets.queries import BASE, QuerySet
from sfumato.training.defence import Defence
from sfumato.training.draws import Draws
from sfumato.training.recipe import ModulePredict

N = 30
FRESH, COMMON_16 = QuerySet("none", 16), QuerySet("none", 16, "common")
OFF, GRADIENTS = QuerySet(noise="off"), QuerySet(noise="off", signal="gradient-norm")


@dataclass(frozen=True, kw_only=True)
class Rounding(Defence):
    """A guard, if not a random one."""

    name = "rounding"

    def guard(self, logits, draws, behind):
        return torch.round(logits, decimals=1)


@dataclass(frozen=True, kw_only=True)
class Noisy(Defence):
    """A guard that answers at random."""

    name = "noisy"

    def guard(self, logits, draws, behind):
        return logits + draws.normal("noise", *logits.shape)[0]


class Counting(nn.Module):
    """Counts its calls."""

    def __init__(self, inner):
        super().__init__()
        self.inner, self.calls = inner, 0

    def forward(self, x):
        self.calls += 1
        return self.inner(x)


class Drawing(nn.Linear):
    """Draws where nobody can see it."""

    def forward(self, x):
        return super().forward(x) + torch.randn(len(x), self.out_features)


def population(n=N):
    x = np.random.default_rng(0).normal(size=(n, 5)).astype(np.float32)
    return Population(ArrayRecords(x), "example", labels=np.arange(n) % 3)


def six_times_the_same():
    x, names = np.ones((6, 5), np.float32), ("a", "b", "c")
    return Population(ArrayRecords(x), "example", labels=np.zeros(6, np.int64), class_names=names)


@pytest.fixture(scope="module")
def records():
    return population()


def network(sigma=1.0, seed=0):
    torch.manual_seed(seed)
    return SDENet(width=8, steps=2, sigma=sigma).build((5,), 3).eval()


@pytest.fixture(scope="module")
def net():
    return network()


def answers_of(net, records, queries, seed=1, **options):
    return ask(ModulePredict(net), Undefended(), records, queries, seed, **options)


def draws_by_hand(net, records, repeats, noise="fresh", seed=1):
    """[repeats, records, classes]: one pass after the other, all records at once."""
    found = []
    for repeat in range(repeats):
        fresh = Draws((seed,), ("noise", "none", 0, repeat, 0))
        set_noise(net, fresh if noise == "fresh" else Draws((COMMON,), ("common noise", "none", 0, repeat)), noise)
        with torch.no_grad():
            found.append(net(records.tensor(np.arange(len(records)))).numpy())
    set_noise(net, None)
    return np.stack(found)


def test_repeats_share_their_draws_with_more_repeats(net, records):
    many = [QuerySet("none", k) for k in (1, 4, 16, 64)]
    together = answers_of(net, records, many).scalars
    alone = answers_of(net, records, [FRESH]).scalars
    for name in scalar_names(FRESH):
        np.testing.assert_array_equal(together[FRESH.key][name], alone[FRESH.key][name])
    by_hand = draws_by_hand(net, records, 16)
    np.testing.assert_allclose(
        together[FRESH.key]["logit"][:, 0], statistic("logit", by_hand, records.labels).mean(0), rtol=1e-5, atol=1e-5
    )
    np.testing.assert_allclose(answers_of(net, records, []).logits, by_hand[0], rtol=1e-6)


@pytest.mark.parametrize("queries", [FRESH, COMMON_16], ids=lambda q: q.noise)
def test_three_averages_and_the_deviation_equal_naive_loops(net, records, queries):
    table = answers_of(net, records, [queries]).scalars[queries.key]
    z = draws_by_hand(net, records, 16, queries.noise).astype(np.float64)
    p = np.exp(z) / np.exp(z).sum(-1, keepdims=True)
    phi = [[np.log(p[k, i, y] / (1 - p[k, i, y])) for i, y in enumerate(records.labels)] for k in range(16)]
    expected = {
        "logit": np.mean(phi, axis=0),
        "deviation": np.std(phi, axis=0, ddof=1),
        "correct": (z.argmax(-1) == records.labels).mean(axis=0),
        **{f"{name}@logits": statistic(name, z.mean(0), records.labels) for name in STATISTICS},
        **{f"{name}@probabilities": statistic(name, np.log(p.mean(0)), records.labels) for name in STATISTICS},
        **{name: statistic(name, z, records.labels).mean(0) for name in STATISTICS[1:]},
    }
    assert expected.keys() == table.keys()
    for name, values in expected.items():
        np.testing.assert_allclose(table[name][:, 0], values, rtol=2e-5, atol=2e-5, err_msg=name)


def test_each_average_is_served_under_its_name(net, records):
    asked = answers_of(net, records, [FRESH])
    scalars = {key: {name: values[None] for name, values in table.items()} for key, table in asked.scalars.items()}
    answers = Answers(records.label_array, asked.logits[None], scalars)
    served = [answers.statistic("hinge", replace(FRESH, average=a)) for a in ("statistic", "logits", "probabilities")]
    for found, name in zip(served, ("hinge", "hinge@logits", "hinge@probabilities"), strict=True):
        np.testing.assert_array_equal(found[0], asked.scalars[FRESH.key][name])
    assert not np.allclose(served[0], served[2])
    np.testing.assert_array_equal(answers.statistic("logit", QuerySet(average="logits")), answers.statistic("logit"))
    with pytest.raises(NotApplicable, match="deviation"):
        answers.statistic("deviation", BASE)


def test_fresh_noise_differs_between_records_repeats_and_models(net):
    twins = six_times_the_same()
    one, other = (answers_of(net, twins, [QuerySet("none", 2)], seed=seed) for seed in (1, 2))
    assert len(np.unique(one.logits[:, 0])) == 6
    assert not np.allclose(one.logits, other.logits)
    assert (one.scalars["none-x2"]["deviation"] > 0).all()
    np.testing.assert_array_equal(one.logits, answers_of(net, twins, [], seed=1).logits)


def test_fresh_noise_differs_between_chunks_of_the_network_and_of_a_guard(net, monkeypatch):
    monkeypatch.setattr(asking, "CHUNK", 3)
    twins = six_times_the_same()
    steady = network(sigma=0.0)
    for logits in (answers_of(net, twins, []).logits, ask(ModulePredict(steady), Noisy(), twins, [], 1).logits):
        assert len(np.unique(logits[:, 0])) == 6


def test_common_noise_is_the_same_for_all_records_and_models(net, monkeypatch):
    twins = six_times_the_same()
    common = QuerySet("none", 3, "common")
    table = answers_of(net, twins, [common], seed=1).scalars[common.key]
    assert np.ptp(table["logit"]) < 1e-6
    assert (table["deviation"] > 1e-3).all()
    for name, values in answers_of(net, twins, [common], seed=2).scalars[common.key].items():
        np.testing.assert_array_equal(values, table[name])
    monkeypatch.setattr(asking, "CHUNK", 4)
    np.testing.assert_allclose(answers_of(net, twins, [common]).scalars[common.key]["logit"], table["logit"], rtol=1e-5)


def test_with_the_noise_off_the_drift_alone_answers(net, records):
    table = answers_of(net, records, [OFF]).scalars[OFF.key]
    silent = network(sigma=0.0)
    silent.load_state_dict(net.state_dict())
    assert not random_layers(silent)
    expected = statistic("logit", answers_of(silent, records, []).logits, records.labels)
    np.testing.assert_allclose(table["logit"][:, 0], expected, rtol=1e-5, atol=1e-5)
    assert answers_of(net, records, [replace(OFF, repeats=3)]).scalars["none-x3-off"]["deviation"].max() == 0


def test_whoever_runs_the_network_meets_no_guard(net, records):
    guarded = ask(ModulePredict(net), Rounding(), records, [OFF, GRADIENTS, FRESH], 1).scalars
    plain = answers_of(net, records, [OFF, GRADIENTS, FRESH]).scalars
    np.testing.assert_array_equal(guarded[OFF.key]["logit"], plain[OFF.key]["logit"])
    np.testing.assert_array_equal(guarded[GRADIENTS.key]["gradient_norm"], plain[GRADIENTS.key]["gradient_norm"])
    assert not np.array_equal(guarded[FRESH.key]["logit"], plain[FRESH.key]["logit"])


def test_a_network_that_draws_nothing_is_asked_once_whatever_the_repeats(records):
    counting = Counting(network(sigma=0.0)).eval()
    queries = [FRESH, QuerySet("none", 256), COMMON_16]
    scalars = ask(ModulePredict(counting), Undefended(), records, queries, 1).scalars
    probe = 2
    assert counting.calls == 1 + probe + 2  # the base query, a look for hidden noise, fresh and common
    for queries in scalars.values():
        np.testing.assert_array_equal(queries["logit"], scalars[FRESH.key]["logit"])
        np.testing.assert_allclose(queries["logit@logits"], queries["logit"], rtol=1e-6)
        assert (queries["deviation"] == 0).all()


def test_a_random_network_is_asked_as_often_as_the_most_repeats_say(records):
    counting = Counting(network()).eval()
    ask(ModulePredict(counting), Undefended(), records, [QuerySet("none", 4), FRESH], 1)
    assert counting.calls == 1 + 16


def test_what_comes_before_the_first_draw_is_run_once(records):
    net = network()
    stem, head = Counting(net[1]), Counting(net[-1])
    counted = nn.Sequential(net[0], stem, *net[2:-1], head).eval()
    found = answers_of(counted, records, [FRESH, COMMON_16]).scalars
    hidden = 2
    assert (stem.calls, head.calls) == (1 + hidden + 2, 1 + hidden + 2 * 16)  # the base query, the look, two families
    for key, table in answers_of(Counting(net).eval(), records, [FRESH, COMMON_16]).scalars.items():
        for name, values in table.items():
            np.testing.assert_allclose(found[key][name], values, rtol=1e-5, atol=1e-6)


def test_a_chain_that_draws_before_its_known_noise_is_run_whole(records):
    torch.manual_seed(0)
    net = network()
    stem = Counting(Drawing(5, 8))
    counted = nn.Sequential(net[0], stem, *net[2:]).eval()
    answers_of(counted, records, [FRESH])
    assert stem.calls == 1 + 2 + 16


def test_noise_that_nobody_can_stop_is_found_and_averaged_but_never_called_off(records):
    torch.manual_seed(0)
    hidden = Drawing(5, 3).eval()
    scalars = answers_of(hidden, records, [FRESH, OFF, COMMON_16, GRADIENTS]).scalars
    assert (scalars[FRESH.key]["deviation"] > 0).all()
    assert scalars[OFF.key] == scalars[COMMON_16.key] == scalars[GRADIENTS.key] == {}


def test_a_function_shows_no_weights_and_the_attack_says_so(net, records):
    gradients = GradientNorm(calibration="none").query_set
    queries, everyone = [OFF, gradients, QuerySet("none", 2)], np.arange(len(records))
    asked = ask(lambda x: net(x), Undefended(), records, queries, 1, asked=everyone)
    assert asked.scalars[OFF.key] == asked.scalars[gradients.key] == {}
    evidence = evidence_of(asked, records)
    for attack in (GradientNorm(calibration="none"), LossThreshold(noise="off")):
        assert "needs a network" in attack.applies_to(evidence)[0]
        with pytest.raises(NotApplicable):
            attack.score(evidence)


def evidence_of(asked, records):
    scalars = {key: {name: v[None] for name, v in table.items()} for key, table in asked.scalars.items()}
    target = Answers(records.label_array, asked.logits[None], scalars)
    everyone = np.ones(len(records), bool)
    return Evidence(records.label_array, target, everyone, ~everyone)


def test_attacks_on_the_spread_refuse_steady_models_with_a_reason(records):
    evidence = evidence_of(answers_of(network(sigma=0.0), records, [FRESH]), records)
    assert "answers at random" in PredictiveVariance(calibrated=False).applies_to(evidence)[0]
    random = evidence_of(answers_of(network(), records, [FRESH]), records)
    assert PredictiveVariance(calibrated=False).applies_to(random) == ()
    for attack in (PredictiveVariance, LiRATwoFeatures):
        for wrong in ({"queries": 1}, {"noise": "off"}):
            with pytest.raises(UsageError, match="at least 2"):
                attack(**wrong)
    with pytest.raises(UsageError, match="off"):
        GradientNorm(noise="fresh")


def test_who_could_mount_an_attack_depends_on_how_it_asks():
    assert LossThreshold().threat == LossThreshold.threat_model
    assert [LossThreshold(noise=noise).threat.access for noise in ("fresh", "common", "off")] == [
        "scores",
        "weights",
        "weights",
    ]
    assert "noise off" in LossThreshold(noise="off").threat.knowledge
    assert GradientNorm().threat.access == "weights"


def test_only_the_game_is_asked_and_the_rest_is_no_number(net, records):
    game = np.array([3, 7, 8, 29])
    queries = QuerySet("none", 4, scope="game")
    table = answers_of(net, records, [queries], asked=game).scalars[queries.key]
    for values in table.values():
        assert np.isfinite(values[game]).all()
        assert np.isnan(np.delete(values, game, axis=0)).all()
    np.testing.assert_array_equal(
        table["logit"][game],
        answers_of(net, records.take(game), [QuerySet("none", 4)]).scalars["none-x4"]["logit"],
    )
    with pytest.raises(UsageError, match="in the game"):
        answers_of(net, records, [queries])


def test_an_attack_that_reads_a_record_that_was_not_asked_fails_aloud(net, records):
    queries = QuerySet("none", 4, scope="game")

    class OfTheGame(LossThreshold):
        query_set = queries

    evidence = evidence_of(answers_of(net, records, [queries], asked=np.array([3, 7])), records)
    with pytest.raises(DataError, match="NaN"):
        OfTheGame().score(evidence)


def test_answers_that_are_not_finite_are_refused_in_every_pass(net, records):
    class Diverging(nn.Module):
        calls = 0

        def forward(self, x):
            self.calls += 1
            return net(x) if self.calls < 4 else net(x) * torch.inf

    with pytest.raises(SfumatoError, match="finite"):
        ask(ModulePredict(Diverging().eval()), Undefended(), records, [FRESH], 1)


def test_the_network_is_left_without_our_streams(net, records):
    answers_of(net, records, [FRESH, COMMON_16, OFF])
    for layer in random_layers(net):
        assert layer.draws is None
        assert layer.noise == "fresh"
