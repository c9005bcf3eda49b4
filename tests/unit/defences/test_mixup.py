import pytest
import torch

from sfumato.defences.mixup import Mixup, mixed
from sfumato.errors import UsageError
from sfumato.training.defence import Batch
from sfumato.training.draws import Draws


def test_mixed_is_the_convex_combination():
    values = torch.tensor([[0.0, 2.0], [4.0, 6.0]])
    out = mixed(values, torch.tensor([1, 1]), torch.tensor([0.25, 0.5]))
    assert out.tolist() == [[3.0, 5.0], [4.0, 6.0]]


def test_records_and_labels_are_mixed_alike_with_one_weight_per_model():
    draws, size = Draws((1, 2), ("x",)), 6
    identity = torch.eye(2 * size)
    out = Mixup().transform(Batch(identity, identity.clone()), draws)
    assert torch.equal(out.x, out.targets)
    weights = draws.beta("mixup-weight", 1.0, 1.0)
    for model in range(2):
        rows = slice(size * model, size * model + size)
        own = out.x[rows, rows]
        assert torch.allclose(own.sum(1), torch.ones(size))  # no share of a record of the other model
        moved = own.diagonal() < 0.999
        assert torch.allclose(own.diagonal()[moved].double(), weights[model].expand(int(moved.sum())), atol=1e-6)


def test_images_keep_their_shape_and_dtype():
    batch = Batch(torch.rand(4, 3, 8, 8), torch.eye(4))
    out = Mixup().transform(batch, Draws((1, 2)))
    assert (out.x.shape, out.x.dtype) == (batch.x.shape, torch.float32)
    assert torch.allclose(out.targets.sum(1), torch.ones(4))


def test_a_large_alpha_mixes_half_and_half():
    out = Mixup(alpha=1e6).transform(Batch(torch.eye(8), torch.eye(8)), Draws((5,)))
    assert all(min(abs(value - target) for target in (0.0, 0.5, 1.0)) < 0.01 for value in out.x.flatten().tolist())


def test_range():
    with pytest.raises(UsageError, match="alpha"):
        Mixup(alpha=0.0)
