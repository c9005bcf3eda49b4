"""Noise inside a network is no mechanism: neural SDEs in ordinary training are refuted, under DP-SGD they are not.

Error rate: a training that keeps its claim is called refuted with probability 0.001 at most; the seeds are fixed, so a
run does not draw again. What must be refuted is so in every draw.
"""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from sfumato import private
from sfumato.accounting.adjacency import Adjacency
from sfumato.accounting.guarantee import Guarantee, guarantee
from sfumato.audit.structural import TwoWorlds, column_shift, parameters_of, structural_test
from sfumato.private.plan import Plan
from sfumato.sde import Grid, SDEBlock
from sfumato.sde.diffusions.additive import Additive
from sfumato.sde.integrators.euler_maruyama import EulerMaruyama

pytestmark = pytest.mark.statistical
INPUTS, WIDTH, ISOLATED = 4, 4, 3
CLAIM, DELTA = 2.0, 1e-5


class Drift(nn.Module):
    """tanh of a linear layer."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(WIDTH, WIDTH)

    def forward(self, t, h):
        return torch.tanh(self.layer(h))


def network(sigma=1.0):
    block = SDEBlock(Drift(), Grid(horizon=1.0, steps=4), EulerMaruyama(), Additive(sigma=sigma))
    return nn.Sequential(nn.Linear(INPUTS, WIDTH, bias=False), block, nn.Linear(WIDTH, 2))


def loss(model, x, y):
    return cross_entropy(model(x), y, reduction="none")


class Pair(NamedTuple):
    """Records of the world without the canary, and of the one with it."""

    without: tuple[torch.Tensor, torch.Tensor]
    with_canary: tuple[torch.Tensor, torch.Tensor]
    adjacency: Adjacency


X = torch.tensor([[1.0, -0.5, 0.3, 0.0], [0.2, 0.8, -1.0, 0.0], [-0.7, 0.4, 0.9, 0.0], [0.5, 0.5, 0.5, 1.0]])
Y = torch.tensor([0, 1, 1, 0])
PAIRS = {
    "empty": Pair((X[:0], Y[:0]), (X[3:], Y[3:]), Adjacency.ADD_OR_REMOVE_ONE),
    "sign": Pair((X[3:], Y[3:]), (X[3:], 1 - Y[3:]), Adjacency.REPLACE_ONE),
    "isolated": Pair((X[:3], Y[:3]), (X, Y), Adjacency.ADD_OR_REMOVE_ONE),
}
OPTIMISERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.2),
    "momentum and weight decay": lambda p: torch.optim.SGD(p, lr=0.2, momentum=0.9, weight_decay=0.01),
    "adam": lambda p: torch.optim.Adam(p, lr=0.02),
    "adam with weight decay": lambda p: torch.optim.AdamW(p, lr=0.02, weight_decay=0.1),
}


def ordinary(optimiser=OPTIMISERS["sgd"], steps=1):
    """Training with fresh noise in every forward pass, neither clipped nor noised."""

    def train(model, records):
        steps_of = optimiser(model.parameters())
        for _ in range(steps):
            steps_of.zero_grad(set_to_none=False)
            loss(model, *records).sum().backward()
            steps_of.step()
        return parameters_of(model)

    return train


def plan(adjacency, steps=2):
    return Plan(
        sample_rate=1.0, steps=steps, expected_batch_size=4, noise_multiplier=8.0, delta=DELTA, adjacency=adjacency
    )


def dp_sgd(adjacency, method="loop"):
    """The same network in a private session, its noise from a seed that every draw has for itself."""

    def train(model, records):
        session = private.make(
            model, plan=plan(adjacency), data=records, loss=loss, method=method,
            audit_seed=int(torch.randint(2**62, ())),
        )  # fmt: skip
        steps_of = torch.optim.SGD(model.parameters(), lr=0.2)
        for _ in session.steps():
            session.backward()
            steps_of.step()
        return parameters_of(model)

    return train


def claimed(adjacency) -> Guarantee:
    """By the accountant, for these steps."""
    model = network()
    session = private.make(model, plan=plan(adjacency), data=PAIRS["isolated"].with_canary, loss=loss, audit_seed=0)
    for _ in session.steps():
        session.backward()
    found = guarantee(session.history)
    assert isinstance(found, Guarantee)
    return found


def worlds(pair: Pair, train, sigma=1.0) -> TwoWorlds:
    return TwoWorlds(lambda: network(sigma), train, pair.without, pair.with_canary)


@pytest.mark.parametrize("sigma", [0.1, 1.0, 10.0])
@pytest.mark.parametrize("case", PAIRS)
def test_an_sde_in_ordinary_training_is_refuted_at_any_noise(case, sigma):
    found = structural_test(worlds(PAIRS[case], ordinary(), sigma), epsilon=CLAIM, delta=DELTA)
    assert found.refuted
    told = next(one for one in found.separations if one.case == case)
    assert told.without == 0
    assert told.bound.value > CLAIM
    if sigma <= 1:  # at 10, a softmax of 0 or 1 in single precision leaves a step without gradient now and then
        assert told.complete
        assert "delta = 1" in told.sentence


@pytest.mark.parametrize("name", OPTIMISERS)
def test_an_isolated_feature_survives_momentum_adam_and_weight_decay(name):
    train = ordinary(OPTIMISERS[name], steps=5)
    found = structural_test(worlds(PAIRS["isolated"], train), epsilon=CLAIM, delta=DELTA)
    isolated = next(one for one in found.separations if one.case == "isolated")
    assert isolated.complete
    assert isolated.where in [f"0.weight[{row}, {ISOLATED}]" for row in range(WIDTH)]
    assert found.refuted


def test_the_sign_of_the_last_bias_survives_many_steps():
    found = structural_test(worlds(PAIRS["sign"], ordinary(steps=10)), epsilon=CLAIM, delta=DELTA)
    sign = next(one for one in found.separations if one.case == "sign")
    assert sign.complete
    assert sign.where in ("2.bias[0]", "2.bias[1]")


@pytest.mark.parametrize("sigma", [0.1, 10.0])
@pytest.mark.parametrize("case", PAIRS)
def test_the_same_under_dp_sgd_stays_under_the_accountant(case, sigma):
    pair = PAIRS[case]
    claim = claimed(pair.adjacency)
    found = structural_test(worlds(pair, dp_sgd(pair.adjacency), sigma), epsilon=claim.epsilon, delta=claim.delta)
    assert not found.refuted
    assert all(one.bound.value <= claim.epsilon for one in found.separations)
    assert [one.case for one in found.separations if one.case != "sign"] == []


def test_one_pass_for_all_records_is_as_private_as_the_loop():
    pair = PAIRS["isolated"]
    claim = claimed(pair.adjacency)
    game = worlds(pair, dp_sgd(pair.adjacency, method="capture"))
    assert not structural_test(game, epsilon=claim.epsilon, delta=claim.delta).refuted


def test_clipping_without_noise_is_refuted():
    """What makes DP-SGD private is the noise on the gradients, not the clipping."""

    def clipped(model, records):
        total = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
        for x, y in zip(*records, strict=True):
            own = torch.autograd.grad(loss(model, x[None], y[None]).sum(), list(model.parameters()))
            norm = torch.sqrt(sum((g.square().sum() for g in own), start=torch.zeros(())))
            factor = float((1 / norm).clamp(max=1.0))
            total = {name: held + factor * g for (name, held), g in zip(total.items(), own, strict=True)}
        return {name: p.detach() - 0.2 * total[name] / 4 for name, p in model.named_parameters()}

    assert structural_test(worlds(PAIRS["isolated"], clipped), epsilon=CLAIM, delta=DELTA).refuted


def test_the_weights_of_the_isolated_feature_as_an_attack():
    """||W_T[:, j] - W_0[:, j]|| is 0 without the canary and not with it, in each of 50 trainings of a world."""

    def shift(records):
        model = network()
        start = parameters_of(model)["0.weight"].numpy()
        return float(column_shift(start, ordinary(steps=5)(model, records)["0.weight"].numpy(), ISOLATED))

    pair = PAIRS["isolated"]
    torch.manual_seed(0)
    assert max(shift(pair.without) for _ in range(50)) == 0
    assert min(shift(pair.with_canary) for _ in range(50)) > 0


@pytest.fixture(scope="module")
def toy():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
        import sde_refutation

        yield sde_refutation


SEED, TRAININGS, WITHIN = 0, 2000, 0.05


@pytest.mark.slow
@pytest.mark.parametrize("sigma", [0.1, 1.0, 10.0])
def test_the_isolated_canary_of_the_toy_is_certain_at_any_noise(toy, sigma):
    row = toy.isolated_row(toy.Choices(), sigma, TRAININGS, SEED)
    assert row["most_without"] == 0 < row["least_with_canary"]
    assert row["auc"] == 1
    assert row["epsilon_lower"] > row["ceiling"] - 0.5 > 5


@pytest.mark.slow
def test_the_ordinary_canary_of_the_toy_is_as_visible_as_in_the_reference(toy):
    rows = {s: toy.ordinary_row(toy.Choices(), s, TRAININGS, SEED) for s in toy.SIGMAS["ordinary"]}
    far = {
        (sigma, cell): (row["auc"][cell], value)
        for sigma, row in rows.items()
        for cell, value in row["reference_auc"].items()
        if abs(row["auc"][cell] - value) > WITHIN
    }
    assert far == {}
    for sigma in (0.5, 1.0, 2.0):  # asking often tells more than asking once, and the weights tell most
        auc = rows[sigma]["auc"]
        assert auc["K=1"] < auc["K=16"] < auc["K=256"] < auc["weights"]
    for cell in ("K=1", "K=16", "K=256"):  # the more noise, the less a question tells
        by_noise = [row["auc"][cell] for row in rows.values()]
        assert by_noise == sorted(by_noise, reverse=True)
    assert rows[1.0]["epsilon_lower"]["K=1"] < 0.5 < 1.5 < rows[1.0]["epsilon_lower"]["K=256"]
    assert rows[5.0]["epsilon_lower"]["K=256"] < 0.5 < 1.5 < rows[5.0]["epsilon_lower"]["weights"]


@pytest.mark.slow
def test_a_canary_that_contradicts_the_network_of_the_toy_is_easier_to_see(toy):
    ordinary, contradicted = (
        row(toy.Choices(), 0.1, TRAININGS, SEED) for row in (toy.ordinary_row, toy.contradicted_row)
    )
    assert contradicted["probability_without"] < 0.5 < ordinary["probability_without"]
    assert contradicted["auc"]["K=1"] > 0.99 > ordinary["auc"]["K=1"] + 0.05


@pytest.mark.slow
@pytest.mark.parametrize("multiplier", [6.32, 2.11])
def test_with_clipping_and_noise_the_audited_value_of_the_toy_stays_below_theory(toy, multiplier):
    row = toy.control_row(toy.Choices(), multiplier, TRAININGS, SEED)
    assert max(row["epsilon_lower"].values()) < row["epsilon_theory"]
    assert max(row["auc"].values()) < row["auc_allowed"]
    assert all(abs(row["auc"][cell] - value) <= WITHIN for cell, value in row["reference_auc"].items())
