import copy

import pytest
import torch
from torch import nn

from sfumato.errors import UsageError
from sfumato.training.hearing import Tap, heard_from, passed, told
from sfumato.training.seen import Seen


def network():
    tap = Tap("part/shared")
    return nn.Sequential(nn.Linear(3, 4), tap, nn.Tanh(), tap, Tap("part/last"), Tap("other/last"), nn.Linear(4, 2))


SEEN = Seen(torch.empty(0), torch.eye(2))


def test_taps_are_heard_in_order_each_time_that_they_run_and_change_nothing():
    model, x = network(), torch.randn(2, 3)
    with heard_from(model) as heard:
        out = model(x)
    first = model[0](x)
    assert list(heard) == ["part/shared", "part/shared:1", "part/last", "other/last"]
    assert torch.equal(heard["part/shared"], first)
    assert torch.equal(heard["part/shared:1"], first.tanh())
    assert torch.equal(out, model[6](first.tanh()))


def test_nothing_stays_in_the_network_once_nobody_listens():
    model, x = network(), torch.randn(2, 3)
    with heard_from(model) as heard:
        model(x)
    with pytest.raises(RuntimeError), heard_from(model):
        model(torch.randn(2, 7))
    before = dict(heard)
    model(x)
    assert heard == before
    copy.deepcopy(model)  # which a tensor with a past would not survive


def test_a_pass_says_what_went_in_and_what_was_told():
    model, x = network(), torch.randn(2, 3)
    seen = passed(model, x, SEEN)
    assert seen.inputs is x
    assert seen.features is None
    assert list(told(seen, "part")) == ["part/shared", "part/shared:1", "part/last"]
    with_features = passed(model, x, SEEN, inside=model)
    assert torch.equal(with_features.features, with_features.heard["part/last"])
    assert torch.equal(with_features.outputs, seen.outputs)


def test_silence_is_refused():
    with pytest.raises(UsageError, match="hear of the layers that bido put"):
        told(SEEN, "bido")
