"""SELENA, MIST and distillation written out in plain PyTorch, network by network, with the streams drawn anew."""

import math

import numpy as np
import pytest
import torch

from sfumato.data.population import Population, Unit
from sfumato.data.records import ArrayRecords
from sfumato.defences.distillation import Distillation, softened
from sfumato.defences.mist import MIST, averaged, cross_difference, partition
from sfumato.defences.selena import SELENA, exclusions, teacher
from sfumato.models.build import build_seeded
from sfumato.models.mlp import MLP
from sfumato.seeding import derive, stream
from sfumato.training.draws import Draws
from sfumato.training.preparation import Assignment, LoopOptions
from sfumato.training.task import Optimizer, Task
from sfumato.training.train import train

DOUBLE = LoopOptions(dtype=torch.float64)
ROWS, SEED, EPOCHS, BATCH, LR = np.arange(3, 28), 5, 3, 8, 0.1
FAMILY = MLP(hidden=(6,))
TASK = Task(model=FAMILY, epochs=EPOCHS, batch_size=BATCH, optimizer=Optimizer(lr=LR))
UNITS = np.arange(40) // 2


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(2)
    x = rng.normal(size=(40, 5)).astype(np.float32)
    labels = (x[:, 0] > 0).astype(int) + (x[:, 1] > 0)
    return Population(ArrayRecords(x), Unit("pair", UNITS), labels=labels)


def network(name=None):
    return build_seeded(FAMILY, (5,), 3, SEED if name is None else derive(SEED, "network", name)).double()


def rate(done):
    return LR * (1 + math.cos(math.pi * done)) / 2


def order(rows, *path):
    """The rows of one epoch in batches of at most `BATCH`."""
    chosen = stream(SEED, "training", *path, "order").permutation(len(rows))
    return np.array_split(rows[chosen], math.ceil(len(rows) / BATCH))


def fitted(net, data, stage, rows, loss, epochs=EPOCHS):
    """Plain training of one network on one stage's streams."""
    optimizer = torch.optim.SGD(net.parameters(), LR, momentum=0.9)
    for epoch in range(epochs):
        batches = order(rows, "stage", stage, "epoch", epoch)
        for step, batch in enumerate(batches):
            optimizer.param_groups[0]["lr"] = rate((epoch + step / len(batches)) / epochs)
            optimizer.zero_grad()
            loss(net, batch).backward()
            optimizer.step()
    return net


def hard(data):
    def loss(net, rows):
        return torch.nn.functional.cross_entropy(net(inputs(data, rows)), torch.from_numpy(data.labels[rows]))

    return loss


def inputs(data, rows):
    return torch.from_numpy(data.records.array[rows]).double()


def assert_same(trained, net):
    for name, value in net.state_dict().items():
        torch.testing.assert_close(trained.state[name], value, rtol=0, atol=1e-10)


def naive_exclusions(units, sub_models, left_out):
    numbers = stream(SEED, "training", "course", "left out").random((len(set(units)), sub_models))
    own = {unit: set(np.argsort(numbers[place])[:left_out]) for place, unit in enumerate(sorted(set(units)))}
    return [[model in own[unit] for model in range(sub_models)] for unit in units]


def test_selena_leaves_each_unit_out_of_exactly_so_many_sub_models():
    units = torch.tensor([7, 3, 3, 9, 7, 1])
    out = exclusions(units, 5, 2, Draws((SEED,), ("training", "course")))
    assert out.tolist() == naive_exclusions(units.tolist(), 5, 2)
    assert out.sum(dim=1).tolist() == [2] * 6
    assert torch.equal(out[0], out[4])
    assert torch.equal(out[1], out[2])


def test_selena_chooses_sub_models_evenly():
    out = exclusions(torch.arange(4000), 5, 2, Draws((SEED,)))
    share = out.double().mean(dim=0)
    assert bool((share - 0.4).abs().max() < 5 * math.sqrt(0.4 * 0.6 / 4000))


def test_selenas_teacher_is_the_mean_softmax_of_the_sub_models_that_never_saw_the_record():
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(4, 6, 3, dtype=torch.float64, generator=generator)  # of all sub-models for all records
    out = torch.tensor([[1, 1, 0, 0], [0, 1, 0, 1], [1, 0, 0, 1], [0, 0, 1, 1], [1, 1, 0, 0], [0, 1, 1, 0]]).bool()
    found = teacher([logits[model][out[:, model]] for model in range(4)], out)
    for record in range(6):
        own = [torch.exp(z) / torch.exp(z).sum() for z in (logits[m, record] for m in range(4) if out[record, m])]
        torch.testing.assert_close(found[record], sum(own) / 2)


@pytest.mark.parametrize(("sub_epochs", "student_epochs"), [(None, None), (2, 4)])
def test_selena(data, sub_epochs, student_epochs):
    method = SELENA(sub_models=4, left_out=2, sub_model_epochs=sub_epochs, student_epochs=student_epochs)
    trained = train(TASK, method, data, [Assignment(ROWS, SEED)], DOUBLE)[0]
    out = np.array(naive_exclusions(UNITS[ROWS].tolist(), 4, 2))
    soft = torch.zeros(40, 3, dtype=torch.float64)
    for model in range(4):
        stage = f"sub-model {model + 1} of 4"
        net = fitted(network(stage), data, stage, ROWS[~out[:, model]], hard(data), sub_epochs or EPOCHS)
        soft[ROWS[out[:, model]]] += torch.softmax(net(inputs(data, ROWS[out[:, model]])).detach(), dim=1) / 2

    def loss(net, rows):
        return -(soft[rows] * torch.log_softmax(net(inputs(data, rows)), dim=1)).sum(dim=1).mean()

    assert_same(trained, fitted(network(), data, "student", ROWS, loss, student_epochs or EPOCHS))


def naive_distance(student, wise, temperature):
    rows = []
    for own, given in zip(student.tolist(), wise.tolist(), strict=True):
        p = [math.exp(z / temperature) / sum(math.exp(v / temperature) for v in own) for z in own]
        q = [math.exp(z / temperature) / sum(math.exp(v / temperature) for v in given) for z in given]
        rows.append(temperature**2 * sum(b * math.log(b / a) for a, b in zip(p, q, strict=True)))
    return rows


def test_distillations_distance():
    generator = torch.Generator().manual_seed(1)
    student, wise = torch.randn(2, 5, 3, dtype=torch.float64, generator=generator)
    for temperature in (0.5, 1.0, 4.0):
        found = softened(student, wise, temperature)
        np.testing.assert_allclose(found.numpy(), naive_distance(student, wise, temperature), rtol=1e-10)
    assert bool((softened(wise, wise, 4.0).abs() < 1e-12).all())


def test_distillation(data):
    method = Distillation(alpha=0.7, temperature=3.0, teacher_epochs=2)
    trained = train(TASK, method, data, [Assignment(ROWS, SEED)], DOUBLE)[0]
    wise = fitted(network("teacher"), data, "teacher", ROWS, hard(data), 2)

    def loss(net, rows):
        own, given = net(inputs(data, rows)), wise(inputs(data, rows)).detach()
        q = torch.softmax(given / 3, dim=1)
        kl = (q * (q.log() - torch.log_softmax(own / 3, dim=1))).sum(dim=1).mean()
        return 0.7 * 9 * kl + 0.3 * torch.nn.functional.cross_entropy(own, torch.from_numpy(data.labels[rows]))

    assert_same(trained, fitted(network(), data, "student", ROWS, loss))


def naive_parts(rows, units, parts, epoch):
    names = np.unique(units)
    chosen = stream(SEED, "training", "course", "epoch", epoch, "parts").permutation(len(names))
    return [rows[np.isin(units, names[part])] for part in np.array_split(chosen, parts)]


def test_mist_cuts_at_random_between_units():
    rows, units = torch.arange(10, 21), torch.tensor([0, 0, 0, 1, 2, 3, 3, 4, 5, 6, 6])
    draws = Draws((SEED,), ("training", "course", "epoch", 4))
    found = partition(rows, units, 3, draws)
    expected = naive_parts(rows.numpy(), units.numpy(), 3, 4)
    assert [part.tolist() for part in found] == [part.tolist() for part in expected]
    assert sorted(torch.cat(found).tolist()) == rows.tolist()
    assert sum(len(set(units[part - 10].tolist())) for part in found) == 7


def test_mists_cross_difference():
    generator = torch.Generator().manual_seed(1)
    own = torch.randn(5, 3, dtype=torch.float64, generator=generator)
    others = torch.randn(2, 5, 3, dtype=torch.float64, generator=generator)
    for row, found in enumerate(cross_difference(own, others).tolist()):
        p = torch.softmax(own[row], dim=0).tolist()
        distance = 0.0
        for other in others:
            q = torch.softmax(other[row], dim=0).tolist()
            distance += sum(abs(a - b) for a, b in zip(p, q, strict=True))
        assert found == pytest.approx(distance / 2)
    assert cross_difference(own, own[None]).abs().max() == 0


def test_mists_average_has_all_weights_and_statistics_and_leaves_counts():
    states = [
        {"w": torch.tensor([1.0, 2.0]), "running_var": torch.tensor(3.0), "num_batches_tracked": torch.tensor(4)},
        {"w": torch.tensor([5.0, 0.0]), "running_var": torch.tensor(1.0), "num_batches_tracked": torch.tensor(9)},
    ]
    found = averaged(states)
    assert found["w"].tolist() == [3.0, 1.0]
    assert found["running_var"].item() == 2.0
    assert found["num_batches_tracked"].item() == 4
    assert found["num_batches_tracked"].dtype == torch.int64


def local_batches(rows, steps, *path):
    if steps is None:
        return order(rows, *path)
    found, number = [], 0
    while len(found) < steps:
        found, number = [*found, *order(rows, *path, "pass", number)], number + 1
    return found[:steps]


def naive_mist(data, method):
    whole, parts = network(), method.parts
    locals_ = [network() for _ in range(parts)]
    optimizers = [torch.optim.SGD(net.parameters(), LR, momentum=0.9) for net in locals_]
    for epoch in range(EPOCHS):
        cut = naive_parts(ROWS, UNITS[ROWS], parts, epoch)
        if method.reset:
            for net in locals_:
                net.load_state_dict(whole.state_dict())
        if method.optimizers == "fresh":
            optimizers = [torch.optim.SGD(net.parameters(), LR, momentum=0.9) for net in locals_]
        where = ("course", "epoch", epoch, "local")
        first = [local_batches(cut[i], method.steps_fit, *where, i, "fit") for i in range(parts)]
        second = [local_batches(cut[i], method.steps_difference, *where, i, "difference") for i in range(parts)]
        for i in range(parts):
            total = len(first[i]) + len(second[i])
            for step, rows in enumerate(first[i]):
                optimizers[i].param_groups[0]["lr"] = rate((epoch + step / total) / EPOCHS)
                optimizers[i].zero_grad()
                hard(data)(locals_[i], rows).backward()
                optimizers[i].step()
        said = [torch.softmax(net(inputs(data, np.arange(40))).detach(), dim=1) for net in locals_]
        for i in range(parts):
            total = len(first[i]) + len(second[i])
            for step, rows in enumerate(second[i]):
                own, loss = torch.softmax(locals_[i](inputs(data, rows)), dim=1), 0.0
                for j in range(parts):
                    if j != i:
                        loss = loss + (own - said[j][rows]).abs().sum() / len(rows)
                optimizers[i].param_groups[0]["lr"] = rate((epoch + (len(first[i]) + step) / total) / EPOCHS)
                optimizers[i].zero_grad()
                (method.weight / (parts - 1) * loss).backward()
                optimizers[i].step()
        states = [net.state_dict() for net in locals_]
        whole.load_state_dict({name: sum(state[name] for state in states) / parts for name in states[0]})
    return whole


@pytest.mark.parametrize(
    "method",
    [
        MIST(parts=3, weight=0.7),
        MIST(parts=2, weight=2.0, steps_fit=5, steps_difference=1),
        MIST(parts=3, reset=False, optimizers="kept"),
        MIST(parts=2, steps_difference=0, optimizers="kept"),
    ],
)
def test_mist(data, method):
    trained = train(TASK, method, data, [Assignment(ROWS, SEED)], DOUBLE)[0]
    assert_same(trained, naive_mist(data, method))
