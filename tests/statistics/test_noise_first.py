"""The membership game against noise-first training: the claim stands, and broken builds are caught.

One record is the worst one or its opposite, in runs of their own; the attacker sees the released copies, or the trained
network. Error rates: an honest build is called broken with probability 0.001 at most; seeds are fixed.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from sfumato.accounting.guarantee import Guarantee, guarantee
from sfumato.audit.epsilon.clopper_pearson import clopper_pearson_bound
from sfumato.audit.epsilon.gaussian_dp import gaussian_dp_bound
from sfumato.audit.epsilon.thresholds import HalfSplit
from sfumato.data.population import Population
from sfumato.defences.noise_first import NoiseFirst
from sfumato.models.linear import LinearModel
from sfumato.training.defence import Batch
from sfumato.training.preparation import Assignment, LoopOptions, prepare
from sfumato.training.recipe import Recipe
from sfumato.training.task import Optimizer, Task

pytestmark = pytest.mark.statistical
TRIALS, WIDTH, FAR, CONFIDENCE, DELTA = 1000, 3, 100.0, 0.999, 1e-5
PUBLIC = NoiseFirst(
    radius=2.0,
    delta=DELTA,
    adjacency="REPLACE_ONE",
    labels="public",
    noise_multiplier=4.0,
    input_mean=0.0,
    input_std=1.0,
)
RANDOMISED = replace(PUBLIC, labels="randomised", label_epsilon=1.0, noise_multiplier=8.0)
COPIES = replace(PUBLIC, copies=3, noise_multiplier=8.0)
LOUD = replace(PUBLIC, noise_multiplier=1.0)
TASK = Task(
    model=LinearModel(start="zero"),
    epochs=20,
    batch_size=4,
    schedule="constant",
    optimizer=Optimizer(lr=0.02, momentum=0),
)


def world(sign, labels_too):
    """Two records; the first is far out along the first axis, or on the other side."""
    x = np.zeros((2, WIDTH), dtype=np.float32)
    x[0, 0] = sign * FAR
    label = 0 if sign > 0 or not labels_too else 1
    return Population(x, "example", labels=np.array([label, 1]), class_names=("no", "yes"))


def work(world_number):
    return [Assignment(np.arange(2), 10_000 * world_number + trial) for trial in range(TRIALS)]


def on_copies(defence, sign):
    """[trials]: the log-likelihood ratio of everything that was released of the record."""
    data = world(sign, defence.labels == "randomised")
    run = prepare(TASK, defence, data, work(sign + 2), LoopOptions())
    x = run.x[run.fit_rows].reshape(TRIALS, defence.copies, 2, WIDTH)[:, :, 0, 0].sum(1)
    answer = run.targets[run.fit_rows].reshape(TRIALS, defence.copies, 2, 2)[:, 0, 0]
    std = defence.noise_multiplier * defence.radius
    return 2 * defence.radius * x / std**2 + (defence.label_epsilon or 0.0) * (answer[:, 0] - answer[:, 1])


def on_network(defence, sign):
    """[trials]: how much the network's answer turns between the two places where the record may be."""
    data = world(sign, defence.labels == "randomised")
    recipe = Recipe(TASK, defence)
    ends = torch.tensor([[1.0, 0, 0], [-1.0, 0, 0]])
    found = []
    for model in recipe.fit(data, work(sign + 2), LoopOptions()):
        logits = recipe.predictor(model, data)(ends).detach()
        found.append(float((logits[0] - logits[1]) @ torch.tensor([1.0, -1.0])))
    return torch.tensor(found)


def claimed(defence):
    run = prepare(TASK, defence, world(1, True), work(1)[:1], LoopOptions())
    found = guarantee(run.views[0].history)
    assert isinstance(found, Guarantee)
    return found.epsilon


def lower(defence, score, bound=clopper_pearson_bound):
    given = {"independent_trials": True, "delta": DELTA, "confidence": CONFIDENCE, "rng": np.random.default_rng(0)}
    return bound(score(defence, 1).numpy(), score(defence, -1).numpy(), HalfSplit(), **given).value


@pytest.mark.parametrize("score", [on_copies, on_network])
@pytest.mark.parametrize("defence", [PUBLIC, RANDOMISED, COPIES], ids=["public", "randomised", "copies"])
def test_an_honest_build_stays_below_its_claim(defence, score):
    assert lower(defence, score) <= claimed(defence)


@pytest.mark.parametrize("defence", [LOUD, replace(LOUD, copies=4, noise_multiplier=2.0)], ids=["one", "copies"])
def test_the_claim_is_met_by_the_copies_of_the_worst_record(defence):
    """Gaussian copies: their bound reaches more than half of the claim and no more than all of it."""
    assert 0.55 * claimed(defence) < lower(defence, on_copies, gaussian_dp_bound) <= claimed(defence)


def test_the_network_itself_gives_most_of_it_away():
    assert lower(LOUD, on_network, gaussian_dp_bound) > 0.3 * claimed(LOUD)


class Silent(NoiseFirst):
    """Clips and forgets the noise."""

    def released(self, records, population, source):
        return Batch(records.x.repeat(self.copies, 1), super().released(records, population, source).targets)


class Unclipped(NoiseFirst):
    """Adds the noise and forgets the radius."""

    def front(self, shape):
        return nn.Sequential()


class Leaking(NoiseFirst):
    """Says that labels are randomised, and trains on the true ones."""

    def released(self, records, population, source):
        return Batch(super().released(records, population, source).x, records.targets.repeat(self.copies, 1))


class Shortened(NoiseFirst):
    """An eighth of the noise."""

    def released(self, records, population, source):
        loud = super().released(records, population, source)
        return Batch((loud.x + 7 * records.x.repeat(self.copies, 1)) / 8, loud.targets)


@pytest.mark.parametrize(
    ("kind", "defence", "score"),
    [
        (Silent, PUBLIC, on_copies),
        (Silent, PUBLIC, on_network),
        (Unclipped, PUBLIC, on_copies),
        (Unclipped, PUBLIC, on_network),
        (Leaking, RANDOMISED, on_copies),
        (Shortened, PUBLIC, on_copies),
        (Shortened, PUBLIC, on_network),
    ],
)
def test_a_broken_build_is_caught(kind, defence, score):
    broken = kind(**vars(defence))
    assert lower(broken, score) > claimed(defence)


def test_a_loop_that_keeps_the_records_is_caught(monkeypatch):
    """As if the release were made, written down, and not used."""
    monkeypatch.setattr("sfumato.training.preparation.only_released", lambda releasing, clean, *a, **k: clean)
    assert lower(PUBLIC, on_network) > claimed(PUBLIC)
