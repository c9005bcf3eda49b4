"""The structural test on linear networks; neural SDEs are among the statistical tests."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

import sfumato.audit
from sfumato.audit.structural import StructuralTest, TwoWorlds, column_shift, parameters_of, structural_test
from sfumato.errors import UsageError

OTHERS = torch.tensor([[1.0, -0.5, 0.0], [0.3, 2.0, 0.0], [-1.0, 0.7, 0.0]])
LABELS = torch.tensor([0, 1, 1])


def noisy_step(gradient_noise: float = 0.0, always: bool = True):
    """A step on noisy inputs; noise on the gradient makes it private in kind."""

    def train(model, records):
        x, y = records
        noisy = x * (1 + 0.5 * torch.randn_like(x))  # what is 0 stays 0, as in a dense layer after a one-hot input
        loss = cross_entropy(model(noisy), y, reduction="sum") + 0 * sum(p.sum() for p in model.parameters())
        gradients = torch.autograd.grad(loss, list(model.parameters()))
        with torch.no_grad():
            for parameter, g in zip(model.parameters(), gradients, strict=True):
                parameter -= 0.1 * (g + gradient_noise * torch.randn_like(g))
        return parameters_of(model)

    return train


def worlds(canary, label, train=None, others=OTHERS, labels=LABELS):
    canary = torch.tensor([canary])
    with_canary = (torch.cat([others, canary]), torch.cat([labels, torch.tensor([label])]))
    return TwoWorlds(lambda: nn.Linear(3, 2), train or noisy_step(), (others, labels), with_canary)


def judged(game, epsilon: float = 1.0, draws: int | None = None) -> StructuralTest:
    return structural_test(game, epsilon=epsilon, delta=1e-5, draws=draws)


def test_a_feature_of_the_canary_alone_refutes_with_its_coordinate():
    found = judged(worlds([0.5, 0.5, 1.0], 0))
    assert found.refuted
    isolated = next(one for one in found.separations if one.case == "isolated")
    assert isolated.where in ("weight[0, 2]", "weight[1, 2]")
    assert isolated.complete
    assert found.coordinates == 8
    assert found.statement.startswith("delta = 1, claim refuted: epsilon 1 at delta 1e-05")
    assert isolated.where in found.statement


def test_a_canary_without_such_a_feature_is_not_found_in_the_support():
    found = judged(worlds([0.5, 0.5, 0.0], 0))
    assert [one.case for one in found.separations if one.case != "sign"] == []


def test_an_empty_batch_refutes():
    nothing = (torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64))
    game = worlds([0.5, 0.5, 0.0], 0, others=nothing[0], labels=nothing[1])
    found = judged(game)
    assert found.refuted
    assert found.separations[0].case == "empty"


def test_the_sign_of_the_last_bias_tells_the_label():
    x = torch.tensor([[0.5, 0.5, 0.5]])
    game = TwoWorlds(lambda: nn.Linear(3, 2), noisy_step(), (x, torch.tensor([0])), (x, torch.tensor([1])))
    found = judged(game)
    assert found.refuted
    assert [one.case for one in found.separations] == ["sign"]
    assert found.separations[0].complete


@pytest.mark.parametrize("canary", [[0.5, 0.5, 1.0], [0.5, 0.5, 0.0]])
def test_noise_on_the_gradient_is_not_refuted(canary):
    found = judged(worlds(canary, 0, noisy_step(gradient_noise=10.0)))
    assert not found.refuted
    assert found.statement.startswith("Not refuted")


def test_noise_that_is_too_small_for_the_claim_is_refuted_by_the_sign():
    x = torch.tensor([[0.5, 0.5, 0.5]])
    game = TwoWorlds(
        lambda: nn.Linear(3, 2), noisy_step(gradient_noise=0.4), (x, torch.tensor([0])), (x, torch.tensor([1]))
    )
    assert judged(game, epsilon=0.5, draws=160).refuted
    assert not judged(game, epsilon=2.5, draws=160).refuted


def test_a_canary_that_takes_part_now_and_then_moves_its_coordinate_as_often():
    def sampled(model, records):
        kept = torch.rand(len(records[0])) < 0.5
        return noisy_step()(model, tuple(tensor[kept] for tensor in records))

    found = judged(worlds([0.5, 0.5, 1.0], 0, sampled), draws=200)
    isolated = next(one for one in found.separations if one.case == "isolated")
    assert isolated.without == 0
    assert 70 < isolated.with_canary < 130
    assert not isolated.complete
    assert found.refuted
    assert found.statement.startswith("Claim refuted")


def test_draws_are_enough_for_the_claim_or_it_is_said():
    assert judged(worlds([0.5, 0.5, 1.0], 0), epsilon=2.0).refuted
    with pytest.raises(UsageError, match="40 draws can refute"):
        judged(worlds([0.5, 0.5, 1.0], 0), epsilon=2.5, draws=40)
    with pytest.raises(UsageError, match="Raise `draws`"):
        judged(worlds([0.5, 0.5, 1.0], 0), epsilon=50.0)


def test_a_seed_repeats_the_test_and_leaves_torch_alone():
    torch.manual_seed(3)
    first = judged(worlds([0.5, 0.5, 1.0], 0))
    after = torch.rand(1)
    torch.manual_seed(3)
    assert torch.equal(torch.rand(1), after)
    assert judged(worlds([0.5, 0.5, 1.0], 0)) == first


def test_every_training_has_noise_of_its_own():
    seen: list[float] = []

    def train(model, records):
        seen.append(float(torch.rand(())))
        return noisy_step()(model, records)

    structural_test(worlds([0.5, 0.5, 1.0], 0, train), epsilon=0.5, delta=1e-5, draws=40, pilot=8)
    assert len(seen) == len(set(seen)) == 2 * (40 + 8)


def test_what_is_no_release_is_refused():
    with pytest.raises(UsageError, match="parameters_of"):
        judged(worlds([0.5, 0.5, 1.0], 0, lambda model, records: {"weight": model.weight}))
    broken = {"weight": torch.full((2, 3), torch.nan), "bias": torch.zeros(2)}
    with pytest.raises(UsageError, match="finite"):
        judged(worlds([0.5, 0.5, 1.0], 0, lambda model, records: broken))


def test_column_shift_is_the_norm_of_one_column():
    before, after = np.zeros((5, 4, 3)), np.zeros((5, 4, 3))
    after[2, :, 1] = [3, 0, 4, 0]
    assert column_shift(before, after, 1).tolist() == [0, 0, 5, 0, 0]
    assert column_shift(before[0], after, 0).tolist() == [0] * 5


def test_the_room_names_what_is_public():
    assert sfumato.audit.structural_test is structural_test
    with pytest.raises(AttributeError):
        _ = sfumato.audit.nothing
