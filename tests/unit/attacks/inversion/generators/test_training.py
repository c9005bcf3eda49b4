import itertools

import numpy as np
import pytest
import torch
from torch import nn

from sfumato.attacks.inversion.generators.training import arrays_of, batches, descend, report, restored
from sfumato.errors import NotApplicable, StoreMismatch


def test_each_pass_sees_each_record_once_in_another_order():
    seen = torch.stack(list(itertools.islice(batches(10, 3, 0, "a"), 6)))
    for one in (seen[:3], seen[3:]):
        assert len(one.flatten().unique()) == 9
    assert not torch.equal(seen[:3], seen[3:])
    assert torch.equal(next(batches(10, 3, 0, "a")), seen[0])
    assert not torch.equal(next(batches(10, 3, 0, "b")), seen[0])


def test_few_records_are_one_batch():
    assert sorted(next(batches(5, 64, 0)).tolist()) == [0, 1, 2, 3, 4]
    with pytest.raises(NotApplicable, match="at least 2 records"):
        next(batches(1, 64, 0))


def test_a_step_moves_the_optimisers_parameters_only():
    ours, other = nn.Linear(2, 2), nn.Linear(2, 1)
    before = ours.weight.clone()
    descend(torch.optim.SGD(ours.parameters(), 0.1), other(ours(torch.ones(3, 2))).sum(), "test")
    naive = before - 0.1 * 3 * other.weight.T @ torch.ones(1, 2)
    torch.testing.assert_close(ours.weight, naive)
    assert other.weight.grad is None


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_loss_that_is_no_number_stops_the_training(value):
    layer = nn.Linear(1, 1)
    with pytest.raises(NotApplicable, match=f"the loss of here was {value}"):
        descend(torch.optim.SGD(layer.parameters(), 0.1), layer(torch.ones(1, 1)).square().sum() * value, "here")


def test_weights_and_buffers_come_back():
    network = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    network(torch.randn(8, 2))
    arrays = arrays_of({"a": network})
    assert {array.dtype for array in arrays.values()} == {np.dtype("float32")}
    twin = restored(nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)), arrays, "a")
    x = torch.randn(4, 2)
    torch.testing.assert_close(twin(x), network.eval()(x))
    assert not any(parameter.requires_grad for parameter in twin.parameters())
    with pytest.raises(StoreMismatch, match="weights of the a"):
        restored(nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4)), arrays, "a")


def test_progress_is_told_ten_times():
    lines = []
    for step in range(1000):
        report(lines.append, "x", step, 1000, torch.tensor(0.5))
    assert len(lines) == 10
    assert lines[0] == "x: step 100 of 1000, loss 0.5"
