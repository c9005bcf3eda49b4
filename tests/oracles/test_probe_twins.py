"""Naive twins of what a probe and the region-wise defences compute."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from sfumato.audit.probing.measures import loss_gaps, pooled_rates
from sfumato.audit.statistics import Resamples, crossed_game, sort_game, tpr_at_fpr
from sfumato.defences.cwrf_reconstruction import most_vulnerable, vulnerability
from sfumato.defences.pptp_reconstruction import masked_gradients
from sfumato.defences.srcm_reconstruction import LinearNorm, RadialClamp
from sfumato.training.defence import Batch
from sfumato.training.draws import Draws
from sfumato.training.loop import Step
from sfumato.training.seen import Seen


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()


def test_masked_gradients_are_those_of_two_separate_passes():
    x, targets = torch.randn(6, 3, dtype=torch.float64), torch.eye(2, dtype=torch.float64)[torch.arange(6) % 2]
    model = network()

    def squares(seen):
        return (seen.outputs - seen.targets).square().sum(1)

    def absolutes(seen):
        return 3 * (seen.outputs - seen.targets).abs().sum(1)

    seen = Seen(model(x), targets)
    step = Step(model, torch.arange(6), Batch(x, targets), seen, Draws((1,)), 0.0)
    loss = masked_gradients(step, {"2.weight", "2.bias"}, squares, absolutes)
    for objective, names in ((squares, ("2.weight", "2.bias")), (absolutes, ("0.weight", "0.bias"))):
        twin = network()
        value = objective(Seen(twin(x), targets)).mean()
        value.backward()
        for name in names:
            assert torch.allclose(model.get_parameter(name).grad, twin.get_parameter(name).grad, rtol=0, atol=1e-14)
        if objective is squares:
            assert loss.item() == pytest.approx(value.item())


def test_extra_parameters_learn_from_the_private_objective_alone():
    model, centres = network(), nn.Linear(2, 1).double()
    x, targets = torch.randn(6, 3, dtype=torch.float64), torch.eye(2, dtype=torch.float64)[torch.arange(6) % 2]
    seen = Seen(model(x), targets, extras={"c": centres})
    step = Step(model, torch.arange(6), Batch(x, targets), seen, Draws((1,)), 0.0)
    masked_gradients(
        step, {"0.weight"}, lambda s: s.extras["c"](s.outputs).square()[:, 0], lambda s: s.outputs.square().sum(1)
    )
    twin = nn.Linear(2, 1).double()
    twin.load_state_dict(centres.state_dict())
    twin(model(x).detach()).square()[:, 0].mean().backward()
    assert torch.allclose(centres.weight.grad, twin.weight.grad)


def test_vulnerability_by_single_weights():
    generator = torch.Generator().manual_seed(0)
    tensors = [
        {"a": torch.randn(2, 3, generator=generator), "b": torch.randn(4, generator=generator)} for _ in range(3)
    ]
    weights, seen, unseen = tensors
    found = vulnerability(weights, seen, unseen)
    listed = []
    for name in ("a", "b"):
        for place in np.ndindex(weights[name].shape):
            score = abs(float(weights[name][place]) * (float(unseen[name][place]) - float(seen[name][place])))
            assert float(found[name][place]) == pytest.approx(score, rel=1e-5)
            listed.append((float(found[name][place]), name, place))
    chosen = {(name, place) for _, name, place in sorted(listed, reverse=True)[:3]}
    masks = most_vulnerable(found, 0.3)
    assert {(n, p) for n in masks for p in np.ndindex(masks[n].shape) if bool(masks[n][p])} == chosen


def test_the_first_order_rule_foretells_the_change_of_the_gap_when_a_weight_is_taken_away():
    torch.manual_seed(1)
    model = nn.Linear(3, 1, bias=False).double()
    inside, outside = torch.randn(20, 3, dtype=torch.float64), torch.randn(20, 3, dtype=torch.float64)

    def gap(weight):
        return float((outside @ weight.T).tanh().mean() - (inside @ weight.T).tanh().mean())

    def gradient(x):
        model.zero_grad()
        (x @ model.weight.T).tanh().mean().backward()
        return {"weight": model.weight.grad.clone()}

    with torch.no_grad():
        model.weight.mul_(1e-4)
    scores = vulnerability({"weight": model.weight}, gradient(inside), gradient(outside))["weight"][0]
    for place in range(3):
        without = model.weight.detach().clone()
        without[0, place] = 0.0
        assert float(scores[place]) == pytest.approx(abs(gap(model.weight.detach()) - gap(without)), rel=1e-3)


def test_the_ring_and_the_normalised_layer_by_hand():
    u = torch.tensor([[3.0, 4.0], [0.3, 0.4], [30.0, 40.0]], dtype=torch.float64)
    wanted = [[3.0, 4.0], [1.2, 1.6], [4.8, 6.4]]
    assert torch.allclose(RadialClamp(2.0, 8.0)(u), torch.tensor(wanted, dtype=torch.float64))
    layer = LinearNorm(2, 1).double()
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[0.0, 9.0]]))
        layer.bias.fill_(0.5)
    assert layer(u)[:, 0].tolist() == pytest.approx([4.5, 0.9, 40.5])


def test_loss_gaps_record_by_record():
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(2, 7, 3)).astype(np.float32), rng.integers(0, 3, 7)
    members = np.array([[1, 1, 0, 0, 1, 0, 0], [0, 0, 1, 1, 0, 1, 0]], dtype=bool)
    played = np.array([True] * 6 + [False])
    found = loss_gaps(logits, labels, members & played, ~members & played)
    for model in range(2):
        losses = [
            math.log(sum(math.exp(float(z)) for z in row)) - float(row[label])
            for row, label in zip(logits[model], labels, strict=True)
        ]
        inside = [losses[i] for i in range(7) if members[model, i] and played[i]]
        outside = [losses[i] for i in range(7) if not members[model, i] and played[i]]
        assert found[model] == pytest.approx(sum(outside) / len(outside) - sum(inside) / len(inside), abs=1e-6)


def test_replicates_are_the_rates_of_games_with_repeated_targets_and_units():
    rng = np.random.default_rng(0)
    scores, members = rng.normal(size=(4, 30)), rng.random((4, 30)) < 0.5
    targets = np.array([[1.0, 1, 1, 1], [2, 2, 0, 0]])
    units = np.stack([np.ones(30), rng.multinomial(30, np.full(30, 1 / 30))]).astype(float)
    found = pooled_rates(sort_game(crossed_game(scores, members)), Resamples(targets, units), (0.1, 0.3))
    for column, fpr in enumerate((0.1, 0.3)):
        assert found.value[column] == pytest.approx(tpr_at_fpr(scores[members], scores[~members], fpr))
        for row in range(2):
            times = (targets[row][:, None] * units[row][None]).astype(int)
            drawn, inside = np.repeat(scores, times.ravel()), np.repeat(members, times.ravel())
            wanted = tpr_at_fpr(drawn[inside], drawn[~inside], fpr)
            assert found.replicates[row, column] == pytest.approx(wanted)
