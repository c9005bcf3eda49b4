"""Networks with one known illness each, and what the doctor says of them."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sfumato.errors import UnsupportedModel, UsageError
from sfumato.private.costs import Chooser
from sfumato.private.coupling import THE_LOSS, coupled_at, written_buffers
from sfumato.private.doctor import Severity, examine, fixed
from sfumato.private.plan import Plan
from sfumato.private.replacing import groups_for
from sfumato.private.session import make

CLASSES = 3


def rows(*shape, count=6):
    random = torch.Generator().manual_seed(0)
    return torch.randn(count, *shape, generator=random), torch.arange(count) % CLASSES


def loss(model, x, y):
    return F.cross_entropy(model(x), y, reduction="none")


class Head(nn.Module):
    """A linear head behind some part, so that one thing at a time is wrong."""

    def __init__(self, part=None, features=4):
        super().__init__()
        self.part, self.head = part or nn.Identity(), nn.Linear(features, CLASSES)

    def forward(self, x):
        return self.head(self.part(x))


class Centred(nn.Module):
    def forward(self, x):
        return x - x.mean(dim=0)


class Counting(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("seen", torch.zeros(4))

    def forward(self, x):
        self.seen += x.detach().sum(dim=0)
        return x


class _Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight):
        ctx.save_for_backward(x, weight)
        return x * weight

    @staticmethod
    def backward(ctx, grad):
        x, weight = ctx.saved_tensors
        return grad * weight, (grad * x).sum(0)


class OwnFunction(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4))

    def forward(self, x):
        return _Square.apply(x, self.weight)


class WithoutRule(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4))

    def forward(self, x):
        return torch.hypot(x, self.weight)


def convolutional(inplace=False):
    torch.manual_seed(0)
    body = [nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(inplace=inplace), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*body, nn.Linear(6, CLASSES))


def only(found, severity):
    return [(f.place, f.repaired) for f in found.findings if f.severity is severity]


def test_a_healthy_network_is_told_how_each_norm_is_obtained():
    found = examine(Head(nn.Linear(4, 4)), rows(4), loss)
    assert (found.refused, found.findings, found.changes) == (False, (), ())
    assert found.verdict == "Private training is possible, in one pass."
    assert [p.name for p in found.parameters] == ["part.weight", "part.bias", "head.weight", "head.bias"]
    assert all(p.touched and p.ways and p.operations for p in found.parameters)
    kept = sum(6 * 4 * torch.Size(p.shape).numel() for p in found.parameters if not p.ways[0].startswith("gram"))
    assert found.kept_bytes == kept


def test_batch_normalisation_is_refused_with_its_place_and_repaired():
    model = convolutional()
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    found = examine(model, rows(3, 8, 8), loss)
    assert only(found, Severity.REFUSED) == [("1", True)]
    assert found.verdict == "Refused as it is; `--fix` repairs it."
    assert "GroupNorm(3, 6" in found.changes[0].after
    assert len(found.parameters) == 6
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    assert isinstance(model[1], nn.BatchNorm2d)


def test_what_is_fixed_is_healthy_and_trains():
    model = fixed(convolutional(inplace=True))
    assert isinstance(model[1], nn.GroupNorm)
    assert model[2].inplace
    assert examine(model, rows(3, 8, 8), loss).findings == ()
    plan = Plan(
        sample_rate=0.5, steps=1, expected_batch_size=3, noise_multiplier=1, delta=1e-3, adjacency="ADD_OR_REMOVE_ONE"
    )
    session = make(model, plan=plan, data=rows(3, 8, 8), loss=loss, audit_seed=0, method="capture", chooser=Chooser())
    for _ in session.steps():
        session.backward()
    assert session.steps_taken == 1


def test_frozen_batch_normalisation_is_left_alone():
    model = convolutional()
    model[1].eval()
    assert examine(model, rows(3, 8, 8), loss).findings == ()
    assert isinstance(fixed(model)[1], nn.BatchNorm2d)


def test_scale_and_shift_survive_the_fix():
    model = nn.BatchNorm1d(8, eps=1e-3)
    model.weight.data.fill_(2.0)
    new = fixed(model)
    assert isinstance(new, nn.GroupNorm)
    assert (new.eps, new.weight.tolist()) == (1e-3, [2.0] * 8)
    assert new.weight is not model.weight
    assert isinstance(fixed(nn.BatchNorm2d(6, affine=False)), nn.GroupNorm)


@pytest.mark.parametrize(
    ("channels", "groups"), [(64, 16), (6, 3), (7, 1), (2, 1), (1, 1), (48, 16), (20, 10), (34, 2)]
)
def test_groups_divide_the_channels_and_hold_at_least_two(channels, groups):
    assert groups_for(channels) == groups


def test_a_lazy_normalisation_cannot_be_fixed_yet():
    with pytest.raises(UnsupportedModel, match="lazy"):
        fixed(nn.Sequential(nn.LazyBatchNorm1d()))


def test_the_module_that_mixes_examples_is_named():
    found = examine(Head(nn.Sequential(nn.Linear(4, 4), Centred(), nn.Linear(4, 4))), rows(4), loss)
    assert only(found, Severity.REFUSED) == [("part.1", False)]
    assert "(Centred)" in found.findings[0].message
    assert found.verdict.endswith("it needs your hand.")


def test_a_loss_that_mixes_examples_is_named():
    found = examine(Head(), rows(4), lambda model, x, y: loss(model, x, y) / loss(model, x, y).sum())
    assert only(found, Severity.REFUSED) == [(THE_LOSS, False)]


def test_what_is_mixed_between_modules_is_blamed_on_the_one_around_them():
    class Around(Head):
        def forward(self, x):
            return self.head(x) + self.head(x).amax(dim=0)

    model = Around()
    assert coupled_at(model, rows(4), lambda tensors: loss(model, *tensors)).place == "the network itself"


@pytest.mark.parametrize("axis", [0, 1])
def test_rows_are_found_on_either_axis(axis):
    attention = nn.MultiheadAttention(4, 2, batch_first=axis == 0)

    class Attending(Head):
        def forward(self, x):
            x = x if axis == 0 else x.transpose(0, 1)
            return self.head(self.part(x, x, x)[0].mean(dim=1 - axis))

    model = Attending(attention)
    found = examine(model, rows(9, 4), loss)
    assert not found.refused
    wrong = Attending(nn.MultiheadAttention(4, 2, batch_first=axis == 1))
    assert only(examine(wrong, rows(9, 4), loss), Severity.REFUSED)[0][0].startswith("part")


def test_a_buffer_that_is_written_to_is_named():
    model = Head(Counting())
    assert written_buffers(model, rows(4), lambda tensors: loss(model, *tensors)) == ["part.seen"]
    model.part.seen.zero_()
    found = examine(model, rows(4), loss)
    assert ("part.seen", False) in only(found, Severity.REFUSED)
    assert bool(model.part.seen.eq(0).all())


def test_running_statistics_of_instance_normalisation_are_repaired():
    model = nn.Sequential(nn.InstanceNorm1d(4, track_running_stats=True), nn.Flatten(), nn.Linear(20, CLASSES))
    found = examine(model, rows(4, 5), loss)
    assert only(found, Severity.REFUSED) == [("0", True)]
    assert examine(fixed(model), rows(4, 5), loss).findings == ()


def test_an_autograd_function_of_ones_own_goes_to_the_loop_and_is_named():
    found = examine(Head(OwnFunction()), rows(4), loss)
    assert not found.refused
    assert "_Square" in found.findings[0].message
    assert only(found, Severity.SLOW) == [("the network", False)]
    assert "loop" in found.verdict


def test_torchscript_is_opaque():
    scripted = torch.jit.script(nn.Linear(4, 4))
    found = examine(Head(scripted), rows(4), loss)
    assert [f.severity for f in found.findings] == [Severity.SLOW]
    assert "TorchScript at `part`" in found.findings[0].message


def test_an_operation_without_a_rule_is_named():
    found = examine(Head(WithoutRule()), rows(4), loss)
    (note,) = found.findings
    assert (note.severity, note.place) == (Severity.NOTE, "part.weight")
    assert "hypot" in note.message


def test_a_parameter_that_gets_no_gradient_is_named():
    model = Head()
    model.register_parameter("spare", nn.Parameter(torch.zeros(2)))
    found = examine(model, rows(4), loss)
    assert only(found, Severity.NOTE) == [("spare", False)]
    assert "noise alone" in found.findings[0].message
    model.spare.requires_grad_(False)
    assert examine(model, rows(4), loss).findings == ()


def test_too_few_rows_and_wrong_shapes_are_usage_errors():
    with pytest.raises(UsageError, match="at least 4 rows"):
        examine(Head(), rows(4, count=3), loss)
    with pytest.raises(UsageError, match="runs on these rows") as refused:
        examine(Head(), rows(5), loss)
    assert "--shape" in refused.value.remedy
