"""A trained model, asked live: what it grants, what it counts, and what stands before its answers."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn

from sfumato.defences.hamp import HAMP
from sfumato.defences.undefended import Undefended
from sfumato.errors import NotApplicable, SfumatoError, UsageError
from sfumato.models.sde_net import SDENet
from sfumato.sde.streams import random_layers
from sfumato.targets.boundary import Box
from sfumato.targets.oracle import CHUNK, Oracle, image_box, oracle_of
from sfumato.training.defence import Defence
from sfumato.training.recipe import ModulePredict

WIDTH, CLASSES = 5, 3
BOX = Box(torch.full((WIDTH,), -3.0), torch.full((WIDTH,), 3.0), torch.ones(WIDTH))
X = torch.from_numpy(np.random.default_rng(0).normal(size=(40, WIDTH)).astype(np.float32))


@dataclass(frozen=True, kw_only=True)
class Reversed(Defence):
    """A guard that gives the largest score to the least likely class."""

    name = "reversed"

    def guard(self, logits, draws, behind):
        return -logits


@dataclass(frozen=True, kw_only=True)
class Noisy(Defence):
    """A guard that answers at random."""

    name = "noisy"

    def guard(self, logits, draws, behind):
        return logits + draws.normal("noise", *logits.shape)[0]


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(WIDTH, 8), nn.Tanh(), nn.Linear(8, CLASSES)).eval()


def oracle(model=None, defence=None, seed=0):
    return oracle_of(model or network(), defence or Undefended(), (WIDTH,), CLASSES, BOX, seed=seed, name="a model")


def noisy_network():
    model = SDENet(sigma=1.0).build((WIDTH,), CLASSES).eval()
    assert random_layers(model)
    return model


def test_a_network_grants_weights_and_a_function_scores():
    assert oracle().access == "weights"
    assert oracle(model=lambda x: x[:, :CLASSES]).access == "scores"


def test_each_access_grants_those_before_it():
    scores = oracle().restricted_to("scores")
    assert [scores.grants(access) for access in ("labels", "scores", "weights")] == [True, True, False]
    with pytest.raises(UsageError, match="access"):
        scores.grants("everything")


def test_no_access_is_gained_by_restricting():
    labels = oracle().restricted_to("labels")
    with pytest.raises(NotApplicable, match="needs access to scores, got labels only"):
        labels.restricted_to("scores")


@pytest.mark.parametrize(
    ("access", "ask"),
    [
        ("labels", lambda o: o.scores(X)),
        ("scores", lambda o: o.logits(X)),
        ("scores", lambda o: o.passed(X)),
        ("scores", lambda o: o.network),
    ],
)
def test_what_is_not_granted_is_refused(access, ask):
    restricted = oracle().restricted_to(access)
    with pytest.raises(NotApplicable, match="needs access to"):
        ask(restricted)
    assert restricted.queries == 0


def test_every_record_is_counted_once():
    asked = oracle()
    asked.scores(X)
    asked.labels(X[:7])
    asked.logits(X[:2])
    asked.passed(X[:1])
    assert asked.queries == 40 + 7 + 2 + 1
    asked.scores(torch.zeros(CHUNK + 3, WIDTH))
    assert asked.queries == 50 + CHUNK + 3


def test_what_is_restricted_counts_for_itself():
    whole = oracle()
    part = whole.restricted_to("labels")
    part.labels(X)
    assert (whole.queries, part.queries) == (0, 40)


def test_no_records_get_no_answers():
    asked = oracle()
    assert asked.scores(X[:0]).shape == (0, CLASSES)
    assert asked.queries == 0


def test_scores_are_log_probabilities_of_the_network():
    model = network()
    told = oracle(model).scores(X)
    torch.testing.assert_close(told, model(X).log_softmax(dim=1).detach())
    assert not told.requires_grad


def test_scores_and_labels_come_through_the_guard_and_weights_do_not():
    model = network()
    plain, guarded = oracle(model), oracle(model, Reversed())
    torch.testing.assert_close(guarded.scores(X), (-model(X)).log_softmax(dim=1).detach())
    assert np.array_equal(guarded.labels(X), model(X).argmin(dim=1).numpy())
    torch.testing.assert_close(guarded.logits(X), plain.logits(X))
    torch.testing.assert_close(guarded.passed(X).logits, model(X))


def test_a_published_guard_keeps_the_label_and_hides_the_scores():
    model = network()
    plain, guarded = oracle(model), oracle(model, HAMP())
    assert np.array_equal(plain.labels(X), guarded.labels(X))
    assert not torch.allclose(plain.scores(X), guarded.scores(X), atol=1e-3)


def test_logits_have_a_gradient_by_the_record():
    x = X.clone().requires_grad_()
    (slope,) = torch.autograd.grad(oracle().logits(x)[:, 0].sum(), x)
    assert slope.abs().sum() > 0


def test_features_are_what_the_last_linear_layer_is_given():
    model = network()
    passed = oracle(model).passed(X)
    torch.testing.assert_close(passed.features, model[:2](X))
    torch.testing.assert_close(passed.logits, model(X))


def test_a_function_or_fixed_features_leave_no_gradient():
    assert not oracle(model=lambda x: x[:, :CLASSES]).differentiable
    behind = ModulePredict(network(), features=lambda x: x)
    fixed = Oracle(behind, Undefended(), (WIDTH,), CLASSES, BOX, "weights", 0, name="a model")
    assert not fixed.differentiable
    with pytest.raises(NotApplicable, match="needs gradients by the record"):
        fixed.logits(X)


def test_noise_is_off_with_the_weights():
    asked = oracle(noisy_network())
    torch.testing.assert_close(asked.logits(X), asked.logits(X))


def test_scores_get_fresh_noise_for_each_question_and_the_same_in_each_life():
    model = noisy_network()
    asked, again = oracle(model), oracle(model)
    first, second = asked.scores(X), asked.scores(X)
    assert not torch.allclose(first, second)
    torch.testing.assert_close(again.scores(X), first)
    torch.testing.assert_close(again.scores(X), second)
    assert not torch.allclose(oracle(model, seed=1).scores(X), first)


def test_a_guard_that_draws_answers_anew_each_time():
    asked, again = oracle(defence=Noisy()), oracle(defence=Noisy())
    first = asked.scores(X)
    assert not torch.allclose(first, asked.scores(X))
    torch.testing.assert_close(again.scores(X), first)


def test_a_fit_can_name_only_a_named_model():
    assert oracle().restricted_to("labels").spec() == {"model": "a model", "access": "labels"}
    nameless = oracle_of(network(), Undefended(), (WIDTH,), CLASSES, BOX, seed=0, name="")
    with pytest.raises(SfumatoError, match="Expected a named model"):
        nameless.spec()


def test_records_are_moved_into_the_box():
    moved = oracle().clamped(torch.tensor([[-9.0, -3.0, 0.0, 3.0, 9.0]]))
    assert moved.tolist() == [[-3.0, -3.0, 0.0, 3.0, 3.0]]
    box = image_box((1, 2, 2))
    assert (box.low.min(), box.high.max(), tuple(box.low.shape)) == (0, 1, (1, 2, 2))
