import torch

from sfumato.models.build import build_seeded
from sfumato.models.mlp import MLP


def weights(seed: int) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in build_seeded(MLP(), (5,), 2, seed).parameters()])


def test_the_seed_alone_decides():
    torch.manual_seed(1)
    first = weights(7)
    torch.manual_seed(2)
    assert torch.equal(first, weights(7))
    assert not torch.equal(first, weights(8))


def test_the_callers_generator_is_untouched():
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    weights(7)
    assert torch.equal(torch.rand(4), expected)
