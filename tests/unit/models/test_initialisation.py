import torch
from torch import nn

from sfumato.models.initialisation import initialise_residual


def test_convolutions_are_kaiming_fan_out_and_linear_biases_zero():
    model = initialise_residual(nn.Sequential(nn.Conv2d(64, 128, 3), nn.Linear(8, 4)))
    expected = (2 / (128 * 9)) ** 0.5
    assert abs(float(model[0].weight.detach().std()) / expected - 1) < 0.02  # 73,728 values: standard error 0.3%
    assert torch.equal(model[1].bias, torch.zeros(4))
