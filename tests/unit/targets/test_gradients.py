import numpy as np
import pytest
import torch
from torch import nn

from sfumato.models.sde_net import SDENet
from sfumato.models.small_cnn import SmallCNN
from sfumato.sde.streams import set_noise
from sfumato.targets import gradients
from sfumato.targets.gradients import gradient_norms
from sfumato.training.recipe import ModulePredict


class Recurrent(nn.Module):
    """A network that torch does not map over records."""

    def __init__(self):
        super().__init__()
        self.cell, self.head = nn.LSTM(4, 3, batch_first=True), nn.Linear(3, 3)

    def forward(self, x):
        return self.head(self.cell(x)[0][:, -1])


class Tied(nn.Module):
    """The same weights used twice, and some never."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.head = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 3)
        self.b.weight = self.a.weight
        self.unused = nn.Parameter(torch.ones(2))
        self.head.bias.requires_grad_(False)  # frozen: counts all the same

    def forward(self, x):
        return self.head(torch.tanh(self.b(torch.tanh(self.a(x)))))


NETWORKS = {
    "sde": lambda: SDENet(width=6, steps=3).build((4,), 3),
    "sde checkpointed": lambda: SDENet(width=6, steps=3, checkpointed=True).build((4,), 3),
    "sde image": lambda: SDENet(channels=4, steps=2).build((1, 8, 8), 3),
    "cnn": lambda: SmallCNN().build((1, 8, 8), 3),
    "recurrent": Recurrent,
    "tied": Tied,
}
SHAPES = {"sde image": (1, 8, 8), "cnn": (1, 8, 8), "recurrent": (5, 4)}


def looped(predict, x, labels):
    """One record after the other, by ordinary back-propagation."""
    norms = []
    for record, label in zip(x, labels, strict=True):
        for p in predict.module.parameters():
            p.requires_grad_(True)
            p.grad = None
        nn.functional.cross_entropy(predict(record[None]), label[None]).backward()
        norms.append(
            sum(float(p.grad.square().sum()) for p in predict.module.parameters() if p.grad is not None) ** 0.5
        )
        for p in predict.module.parameters():
            p.grad = None
    return norms


@pytest.mark.parametrize("kind", NETWORKS)
def test_norms_equal_a_loop_over_records(kind):
    torch.manual_seed(0)
    predict = ModulePredict(NETWORKS[kind]().double().eval())
    set_noise(predict.module, None, "off")
    x = torch.randn(7, *SHAPES.get(kind, (4,)), dtype=torch.float64)
    labels = torch.arange(7) % 3
    found = gradient_norms(predict, x, labels)
    assert found.dtype == torch.float64
    assert all(p.grad is None for p in predict.module.parameters())
    np.testing.assert_allclose(found, looped(predict, x, labels), rtol=1e-9)


def test_one_logit_heads_fixed_features_and_small_chunks(monkeypatch):
    torch.manual_seed(0)
    predict = ModulePredict(nn.Linear(3, 1).eval(), "binary", features=lambda x: x[:, :3] ** 2)
    x, labels = torch.randn(6, 4), torch.arange(6) % 2
    whole = gradient_norms(predict, x, labels)
    z = predict.module(x[:, :3] ** 2)[:, 0].detach()
    by_hand = (torch.sigmoid(z) - labels).abs() * (1 + (x[:, :3] ** 2).square().sum(1)).sqrt()
    np.testing.assert_allclose(whole, by_hand, rtol=1e-5)
    monkeypatch.setattr(gradients, "MOST_NUMBERS", 9)  # two records at a time
    np.testing.assert_allclose(gradient_norms(predict, x, labels), whole, rtol=1e-6)


def test_works_where_gradients_are_off():
    predict = ModulePredict(nn.Linear(3, 2).eval())
    with torch.no_grad():
        assert (gradient_norms(predict, torch.ones(2, 3), torch.zeros(2, dtype=torch.int64)) > 0).all()
