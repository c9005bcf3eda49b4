import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sfumato.errors import NotPrivateError
from sfumato.private.engine import Engine
from sfumato.private.rules import group_norm
from sfumato.private.rules.group_norm import Statistics, folded


def test_the_folded_kernel_gives_each_rows_scale_and_shift_and_the_inputs_gradient():
    torch.manual_seed(0)
    seen, grad = (
        torch.randn(3, 4, 5, dtype=torch.float64, requires_grad=True),
        torch.randn(3, 4, 5, dtype=torch.float64),
    )
    weight, bias = torch.randn(4, dtype=torch.float64), torch.randn(4, dtype=torch.float64)
    output, mean, rstd = torch.native_group_norm(seen, weight, bias, 3, 4, 5, 2, 1e-5)
    found = folded(seen.detach(), grad, Statistics(mean, rstd), weight, inner=True)
    expected = torch.autograd.grad(output, seen, grad)[0]
    torch.testing.assert_close(found.inner.view_as(seen), expected)
    normalised = F.group_norm(seen.detach(), 2)
    torch.testing.assert_close(found.scale, (normalised * grad).sum(2))
    torch.testing.assert_close(found.shift, grad.sum(2))


def test_one_call_of_the_kernel_serves_input_scale_and_shift(monkeypatch):
    calls = []
    monkeypatch.setattr(group_norm, "folded", lambda *a, **k: calls.append(k) or folded(*a, **k))
    net = nn.Sequential(nn.Conv1d(4, 4, 1), nn.GroupNorm(2, 4))
    x, engine = torch.randn(3, 4, 5), Engine(net)
    engine.learn(lambda rows: net(x[list(rows)]).square().sum((1, 2)))
    engine.add(lambda: net(x).square().sum((1, 2)), torch.ones(3), 3, torch.ones_like, {})
    assert calls == [{"inner": True}]


def test_rows_that_are_not_in_front_are_refused():
    class Mixing(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = nn.GroupNorm(2, 4)

        def forward(self, x):
            return self.norm(x.permute(2, 1, 0)).permute(2, 1, 0)

    net = Mixing()
    x, engine = torch.randn(5, 4, 3), Engine(net)
    engine.learn(lambda rows: net(x[list(rows)]).square().sum((1, 2)))
    with pytest.raises(NotPrivateError, match="in front of group_norm"):
        engine.add(lambda: net(x).square().sum((1, 2)), torch.ones(5), 5, torch.ones_like, {})
