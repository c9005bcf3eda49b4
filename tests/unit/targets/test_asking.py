import copy
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import nn

from sfumato.data.population import Population
from sfumato.data.records import ArrayRecords
from sfumato.defences.undefended import Undefended
from sfumato.errors import SfumatoError
from sfumato.targets import asking
from sfumato.targets.answers import STATISTICS, statistic
from sfumato.targets.asking import ask
from sfumato.targets.queries import BASE, QuerySet
from sfumato.training.augment import apply_variant, query_variants
from sfumato.training.defence import Defence
from sfumato.training.recipe import ModulePredict


@dataclass(frozen=True, kw_only=True)
class Noisy(Defence):
    """Answers with noise from its streams."""

    name = "noisy"
    scale: float = 1.0

    def guard(self, logits, draws, behind):
        return logits + self.scale * draws.normal("noise", *logits.shape)[0]


@dataclass(frozen=True, kw_only=True)
class Doubling(Defence):
    name = "doubling"

    def guard(self, logits, draws, behind):
        return 2 * logits


@dataclass(frozen=True, kw_only=True)
class AddOne(Defence):
    name = "add-one"

    def guard(self, logits, draws, behind):
        return logits + 1


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    return Population(ArrayRecords(rng.random((600, 1, 8, 8)).astype(np.float32)), "example", labels=np.arange(600) % 3)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 3)).eval()


def test_every_record_is_answered_in_order(images, network):
    asked = ask(ModulePredict(network), Undefended(), images, [BASE], 1)
    with torch.no_grad():
        expected = network(images.tensor(np.arange(600))).numpy()
    np.testing.assert_allclose(asked.logits, expected, atol=1e-6)
    assert asked.logits.dtype == np.float32
    assert asked.scalars == {}


def test_answers_do_not_depend_on_the_size_of_a_chunk(images, network, monkeypatch):
    whole = ask(ModulePredict(network), Undefended(), images, [], 1).logits
    monkeypatch.setattr(asking, "CHUNK", 7)
    np.testing.assert_allclose(ask(ModulePredict(network), Undefended(), images, [], 1).logits, whole, atol=1e-6)


def test_scalars_are_the_statistics_of_each_variant(images, network):
    queries = QuerySet("mirror-shift")
    table = ask(ModulePredict(network), Undefended(), images, [queries], 1).scalars[queries.key]
    assert set(table) == set(STATISTICS)
    for number, variant in enumerate(query_variants("mirror-shift")):
        with torch.no_grad():
            logits = network(apply_variant(images.tensor(np.arange(600)), variant)).numpy()
        np.testing.assert_allclose(table["hinge"][:, number], statistic("hinge", logits, images.labels), atol=1e-5)


def test_a_random_guard_is_averaged_over_repeats_and_repeatable(images, network):
    few, many = QuerySet("none", 2), QuerySet("none", 64)
    ask_once = lambda seed: ask(ModulePredict(network), Noisy(), images, [few, many], seed)  # noqa: E731
    one = ask_once(1)
    np.testing.assert_array_equal(one.logits, ask_once(1).logits)
    assert not np.array_equal(one.logits, ask_once(2).logits)
    exact = statistic("log_confidence", ask(ModulePredict(network), Undefended(), images, [], 1).logits, images.labels)
    spread = [np.std(one.scalars[q.key]["log_confidence"][:, 0] - exact) for q in (few, many)]
    assert spread[1] < 0.35 * spread[0]  # 1 / sqrt(32) = 0.18 in expectation


def test_guards_apply_from_the_inside_out(images, network):
    plain = ask(ModulePredict(network), Undefended(), images, [], 1).logits
    guarded = ask(ModulePredict(network), Doubling(inner=AddOne()), images, [], 1).logits
    np.testing.assert_allclose(guarded, 2 * (plain + 1), atol=1e-5)


def test_a_network_in_train_mode_is_refused(images, network):
    training = copy.deepcopy(network).train()
    for predict in (ModulePredict(training), training):
        with pytest.raises(SfumatoError, match="eval mode"):
            ask(predict, Undefended(), images, [], 1)


def test_answers_that_are_not_finite_are_refused(images):
    with pytest.raises(SfumatoError, match="finite"):
        ask(lambda x: torch.full((len(x), 3), float("nan")), Undefended(), images, [], 1)


def test_asking_leaves_no_gradients(images, network):
    ask(ModulePredict(network), Undefended(), replace(images), [], 1)
    assert all(p.grad is None for p in network.parameters())
