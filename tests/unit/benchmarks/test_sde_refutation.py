"""The toy of the refutation: its equation, its gradients, its theory and its tables, on a few trainings."""

import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from sfumato.accounting.adjacency import Adjacency
from sfumato.accounting.guarantee import Guarantee, guarantee
from sfumato.accounting.history import Event, History
from sfumato.private.plan import Plan
from sfumato.sde import Grid, System, integrate
from sfumato.sde.integrators.euler_maruyama import EulerMaruyama

FOLDER = Path(__file__).parents[3] / "benchmarks"


@pytest.fixture(scope="module")
def bench():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FOLDER))
        import sde_refutation

        yield sde_refutation


@pytest.fixture
def task(bench):
    return bench.toy(bench.Choices())


def start_of(task, models=1):
    return {name: w.repeat(models, *(1 for _ in w.shape)) for name, w in task.start.items()}


def test_the_toy_solves_the_equation_that_the_library_solves(bench, task):
    w, sigma = start_of(task), 0.7
    found = bench.logits(w, task.x, sigma, torch.Generator().manual_seed(3))
    noise = torch.Generator().manual_seed(3)
    system = System(lambda t, h: torch.tanh(h @ w["A"][0].T), lambda *_: sigma)
    h = integrate(
        EulerMaruyama(), system, task.x @ w["W"][0].T, Grid(horizon=1.0, steps=10),
        lambda step, h: torch.randn(h.shape, generator=noise),
    )  # fmt: skip
    assert torch.allclose(found[0], h @ w["C"][0].T + w["c"][0], atol=1e-5)


def test_the_gradient_is_that_of_the_mean_loss(bench, task):
    x, y = task.world(canary=True)
    leaves = {name: w.clone().requires_grad_() for name, w in task.start.items()}
    answers = bench.logits({name: w[None] for name, w in leaves.items()}, x, 0.0, torch.Generator())[0]
    (cross_entropy(answers, y, reduction="sum") / 20).backward()
    found = bench.mean_gradient(start_of(task, 3), x, y, 0.0, torch.Generator())
    for name, leaf in leaves.items():
        assert torch.allclose(found[name], leaf.grad.expand(3, *leaf.shape), atol=1e-6)


def test_each_record_is_clipped_for_itself(bench, task):
    x, y = task.world(canary=True)
    found = bench.private_gradient(start_of(task, 2), x, y, 0.0, torch.Generator(), multiplier=0.0)
    wanted = {name: torch.zeros_like(w) for name, w in task.start.items()}
    norms = []
    for one, label in zip(x, y, strict=True):
        leaves = {name: w.clone().requires_grad_() for name, w in task.start.items()}
        stacked = {name: w[None] for name, w in leaves.items()}
        cross_entropy(bench.logits(stacked, one[None], 0.0, torch.Generator())[0], label[None]).backward()
        norms.append(math.sqrt(sum(float(leaf.grad.square().sum()) for leaf in leaves.values())))
        for name, leaf in leaves.items():
            wanted[name] += leaf.grad * min(1.0, 1 / norms[-1]) / 20
    assert min(norms) < 1 < max(norms)
    for name, gradient in wanted.items():
        assert torch.allclose(found[name], gradient.expand(2, *gradient.shape), atol=1e-5)


def test_the_noise_on_the_sum_has_the_scale_of_the_plan(bench, task):
    x, y = task.world(canary=False)
    weights = start_of(task, 400)
    quiet, loud = (
        bench.private_gradient(weights, x, y, 0.0, torch.Generator().manual_seed(1), multiplier=m)["A"]
        for m in (0.0, 5.0)
    )
    assert float((loud - quiet).std()) == pytest.approx(5.0 / 20, rel=0.02)


@pytest.mark.parametrize(("multiplier", "epsilon", "allowed"), [(6.32, 4.38, 0.760), (2.11, 16.7, 0.983)])
def test_the_theory_is_that_of_the_accountant(bench, multiplier, epsilon, allowed):
    row = bench.control_row(bench.Choices(), multiplier, trainings=24, seed=0)
    plan = Plan(
        sample_rate=1.0, steps=40, expected_batch_size=20, noise_multiplier=multiplier, delta=1e-5,
        adjacency=Adjacency.ADD_OR_REMOVE_ONE,
    )  # fmt: skip
    stated = guarantee(History((Event("training", "toy", 21, plan.mechanism(audit_only=True)),)))
    assert isinstance(stated, Guarantee)
    assert row["epsilon_theory"] == pytest.approx(stated.epsilon, rel=0.01)
    assert row["epsilon_theory"] == pytest.approx(epsilon, abs=0.05)
    assert row["auc_allowed"] == pytest.approx(allowed, abs=5e-4)
    assert max(row["epsilon_lower"].values()) <= row["epsilon_theory"]


def test_the_worlds_differ_by_the_canary_and_its_feature_is_its_own(bench):
    task = bench.toy(bench.Choices(), isolated=True)
    assert len(task.world(canary=True)[0]) == len(task.world(canary=False)[0]) + 1 == 21
    assert not task.x[:20, bench.ISOLATED].any()
    assert task.x[20, bench.ISOLATED] == 1


def test_the_isolated_column_moves_with_the_canary_only(bench):
    row = bench.isolated_row(bench.Choices(), sigma=1.0, trainings=40, seed=0)
    assert row["most_without"] == 0 < row["least_with_canary"]
    assert row["auc"] == 1


def test_the_command_prints_one_document(bench, monkeypatch, capsys):
    monkeypatch.setattr(bench, "SIGMAS", {"isolated": (1.0,), "ordinary": (1.0,), "contradicted": (1.0,)})
    monkeypatch.setattr(bench, "NOISE_MULTIPLIERS", (6.32,))
    monkeypatch.setattr(bench, "REFERENCE", {k: {v: bench.REFERENCE[k][v]} for k, v in _CELLS.items()})
    monkeypatch.setattr(sys, "argv", ["sde_refutation.py", "--json", "--trainings", "24"])
    bench.main()
    found = json.loads(capsys.readouterr().out)
    assert [len(found[name]) for name in ("isolated", "ordinary", "contradicted", "control")] == [1, 1, 1, 1]
    assert set(found["ordinary"][0]["auc"]) == {"K=1", "K=16", "K=256", "weights"}
    assert np.isfinite(found["largest_auc_difference"])
    assert found["choices"]["seed"] == bench.Choices().seed
    assert "Largest difference" in bench.text(found)


_CELLS = {"ordinary": 1.0, "control": 6.32}
