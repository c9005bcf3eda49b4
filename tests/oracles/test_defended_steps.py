"""Whole steps of defences with courses, against the same step written out with autograd."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, log_softmax

from sfumato.data.population import Population
from sfumato.data.records import ArrayRecords
from sfumato.defences.advreg import AdvReg, Attacker, _Game
from sfumato.defences.dmp import DMP
from sfumato.defences.memguard import DISTANCE_WEIGHTS
from sfumato.defences.mixup_mmd import MixupMMD, _Pull, class_matched, mmd2
from sfumato.defences.past import PAST, sparsity_gradient
from sfumato.models.mlp import MLP
from sfumato.training.draws import Draws
from sfumato.training.loop import Step
from sfumato.training.preparation import Assignment, LoopOptions, prepare
from sfumato.training.task import Optimizer, Task
from sfumato.training.train import train
from sfumato.training.workshop import Workshop

LR = 0.1
TASK = Task(
    model=MLP(hidden=(5,)), epochs=1, batch_size=100, optimizer=Optimizer(lr=LR, momentum=0.0), schedule="constant"
)  # one step of plain descent on all records
OPTIONS, WORK = LoopOptions(dtype=torch.float64), [Assignment(np.arange(30), 1)]


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(2)
    x = rng.normal(size=(30, 3)).astype(np.float32)
    return Population(ArrayRecords(x), "example", labels=(x[:, 0] > 0).astype(int) + (x[:, 1] > 0))


def shop_of(defence, data, task=TASK):
    return Workshop(prepare(task, defence, data, WORK, OPTIONS), OPTIONS)


def loss_on(network, shop, rows):
    return cross_entropy(network(shop.x[rows]), shop.targets[rows].argmax(1))


def gradients(value, network):
    return dict(
        zip(dict(network.named_parameters()), torch.autograd.grad(value, list(network.parameters())), strict=True)
    )


def close(state, network, steps):
    for name, parameter in network.named_parameters():
        torch.testing.assert_close(state[name], parameter.detach() - steps[name], rtol=1e-9, atol=1e-12)


def test_a_student_of_dmp_descends_on_its_answers_at_the_teachers_temperature(data):
    defence = DMP(temperature=2.5)
    shop = shop_of(defence, data)
    rows = shop.reference_rows
    logits = shop.answers_after("teacher", shop.network("teacher"), rows)
    network = shop.network()
    soft = torch.softmax(logits / 2.5, dim=1)
    loss = -(soft * log_softmax(network(shop.x[rows]) / 2.5, dim=1)).sum(dim=1).mean()
    steps = {name: LR * g for name, g in gradients(loss, network).items()}
    close(train(TASK, defence, data, WORK, OPTIONS)[0].state, network, steps)


@pytest.mark.parametrize(("penalty", "power"), [("l1", 2.0), ("l2", 0.5)])
def test_a_tuning_step_of_past(data, penalty, power):
    """With as many reference as training records, a batch of all of either kind."""
    defence = PAST(
        strength=0.3, power=power, cap=1.5, penalty=penalty, tuning_epochs=1, tuning_lr=LR, reference_fraction=0.5
    )
    shop = shop_of(defence, data)
    network = shop.fit("ordinary", shop.network())
    own, theirs = (gradients(loss_on(network, shop, rows), network) for rows in (shop.fit_rows, shop.reference_rows))
    steps = {}
    for name, weight in network.named_parameters():
        added = 0.0
        if name.endswith("weight"):
            gap = (own[name] - theirs[name]).abs()
            added = 0.3 * sparsity_gradient(weight.detach(), gap, power, 1.5, penalty)
        steps[name] = LR * (own[name] + added)
    close(train(TASK, defence, data, WORK, OPTIONS)[0].state, network, steps)


def test_an_mmd_step_moves_the_answers_to_training_records_and_holds_the_others(data):
    shop = shop_of(MixupMMD(weight=2.0), data)
    network, draws = shop.network().eval(), Draws((1,), ("x",))
    before = copy.deepcopy(network)
    labels, theirs = (shop.targets[rows].argmax(1) for rows in (shop.fit_rows, shop.reference_rows))
    own, other = class_matched(labels, theirs, draws)
    answers = before(shop.x[shop.fit_rows[own]]).softmax(1)
    aim = before(shop.x[shop.reference_rows[other]]).softmax(1).detach()
    steps = {name: LR * g for name, g in gradients(2.0 * mmd2(answers, aim, (1.0,)), before).items()}
    pull = _Pull(MixupMMD(weight=2.0), shop, network, shop.optimizer(list(network.parameters())))
    pull._step(shop.fit_rows, draws, 1)
    close(network.state_dict(), before, steps)


def game_of(data, **settings):
    """An inner attacker of some strength, and a step of the network behind the warm-up."""
    defence = AdvReg(weight=2.0, attacker_width=64, attacker_lr=0.01, **settings)
    shop = shop_of(defence, data, replace(TASK, epochs=4))
    network, attacker = shop.network(), defence.attacker(shop)
    rows, draws = shop.fit_rows[:7], Draws((1,), ("x",))
    batch = shop.batch(rows, draws)
    step = Step(network, rows, batch, shop.seen(network, batch, draws, 1, 4), draws, 0.25)
    head = attacker.joined[-1]
    with torch.no_grad():  # nearly all units on, and guesses about a half
        for parameter in attacker.parameters():
            parameter.abs_()
        told = attacker(step.seen.outputs, batch.targets)
        head.bias.copy_((head.bias - told.mean()) / told.std())
        head.weight.div_(told.std())
    optimizer = shop.optimizer(list(attacker.parameters()), Optimizer(name="sgd", lr=0.01, momentum=0.0))
    return _Game(defence, shop, network, attacker, optimizer), step


@pytest.mark.parametrize("variant", ["alternating", "official"])
def test_the_network_pays_for_the_attackers_success(data, variant):
    game, step = game_of(data, variant=variant)
    game.backward(step)
    outputs = game.network(step.batch.x)
    guess = torch.sigmoid(game.attacker(outputs, step.batch.targets))
    plain = cross_entropy(outputs, step.batch.targets.argmax(1))
    expected = gradients(plain + 2.0 * (guess.mean() - 0.5), game.network)
    alone = gradients(loss_on(game.network, game.workshop, step.rows), game.network)
    assert any(not torch.allclose(expected[name], alone[name], atol=1e-4) for name in alone)
    for name, parameter in game.network.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name])


def test_the_attacker_learns_from_its_own_loss_alone_and_leaves_the_network_as_it_is(data):
    """Also right after a step of the network, which leaves gradients in the attacker."""
    game, step = game_of(data)
    game.backward(step)
    kept = {name: p.grad.clone() for name, p in game.network.named_parameters()}
    before, weights = copy.deepcopy(game.attacker), copy.deepcopy(game.network.state_dict())
    own, others = game.workshop.fit_rows[:5], game.workshop.reference_rows[:5]
    rows = torch.cat([own, others])
    with torch.no_grad():
        outputs = game.network.eval()(game.workshop.x[rows])
    told = before(outputs, game.workshop.targets[rows])
    truth = torch.tensor([1.0] * 5 + [0.0] * 5, dtype=told.dtype)
    own_gradients = gradients(binary_cross_entropy_with_logits(told, truth), before)
    game._learn(own, others)
    close(game.attacker.state_dict(), before, {name: 0.01 * g for name, g in own_gradients.items()})
    assert all(torch.equal(p.grad, kept[name]) for name, p in game.network.named_parameters())
    assert all(torch.equal(value, weights[name]) for name, value in game.network.state_dict().items())


def test_the_order_of_logits_counts_for_the_official_attacker_only():
    """An attacker whose units are all on, so that it cannot but tell."""
    logits, label = torch.tensor([[3.0, 1.0, 2.0], [1.0, 2.0, 3.0], [1.0, 2.0, 3.5]]), torch.eye(3)[[0, 0, 0]]
    for variant, alike in (("alternating", True), ("official", False)):
        torch.manual_seed(1)
        attacker = Attacker(3, 64, variant)
        with torch.no_grad():
            for parameter in attacker.parameters():
                parameter.abs_()
        told = attacker(logits, label)
        assert torch.equal(told[0], told[1]) is alike
        assert not torch.equal(told[1], told[2])


def test_memguards_weights_of_the_distance_are_those_of_the_official_code():
    assert pytest.approx([0.1, 1, 10, 100, 1e3, 1e4, 1e5]) == list(DISTANCE_WEIGHTS)
