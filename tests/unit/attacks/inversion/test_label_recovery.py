"""Labels from the last layer's gradient."""

import numpy as np
import pytest
import torch
from torch import nn

from sfumato.attacks.inversion.label_recovery import (
    class_signal,
    classes_present,
    idlg_label,
    label_counts,
    recovered_labels,
)
from sfumato.errors import UsageError


def gradient_of(labels, classes=5, bias=True, seed=0):
    """Weight and bias gradient of an untrained last layer, with positive features."""
    generator = torch.Generator().manual_seed(seed)
    layer = nn.Linear(6, classes, bias=bias)
    with torch.no_grad():
        layer.weight.copy_(torch.randn(classes, 6, generator=generator) / 6)
        if bias:
            layer.bias.zero_()
    x = torch.rand(len(labels), 6, generator=generator)
    nn.functional.cross_entropy(layer(x), torch.tensor(labels)).backward()
    return layer.weight.grad.numpy(), layer.bias.grad.numpy() if bias else None


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("label", range(5))
def test_the_label_of_one_record_is_read_off(label, bias):
    signal = class_signal(*gradient_of([label], bias=bias))
    assert idlg_label(signal) == label
    assert classes_present(signal).tolist() == [label]
    assert recovered_labels(signal, 1).labels.tolist() == [label]
    assert recovered_labels(signal, 1).certain


@pytest.mark.parametrize("label", [0, 1])
def test_the_label_behind_a_one_logit_head_is_read_off(label):
    layer = nn.Linear(3, 1)
    logits = layer(torch.ones(1, 3))
    nn.functional.binary_cross_entropy_with_logits(logits, torch.tensor([[float(label)]])).backward()
    assert idlg_label(class_signal(layer.weight.grad.numpy(), layer.bias.grad.numpy())) == label


def test_all_classes_of_a_batch_of_different_ones_are_certain():
    found = recovered_labels(class_signal(*gradient_of([4, 1, 2])), 3)
    assert found.labels.tolist() == [1, 2, 4]
    assert found.certain


@pytest.mark.parametrize(("labels", "counts"), [([1, 1, 3, 3], [0, 2, 0, 2, 0]), ([0, 0, 0, 2], [3, 0, 1, 0, 0])])
def test_repeated_classes_are_counted_by_magnitude_and_not_called_certain(labels, counts):
    signal = class_signal(*gradient_of(labels))
    assert label_counts(signal, 4).tolist() == counts
    assert not recovered_labels(signal, 4).certain


def test_noise_that_makes_more_classes_than_records_leaves_the_strongest():
    assert label_counts(np.array([-0.1, -0.3, -0.2, 0.6]), 2).tolist() == [0, 1, 1, 0]
    assert label_counts(np.array([0.2, 0.1, 0.3]), 2).tolist() == [0, 2, 0]


def test_a_gradient_that_is_not_finite_is_refused():
    with pytest.raises(UsageError):
        recovered_labels(np.array([np.nan, 0.0]), 1)
