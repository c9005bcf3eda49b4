"""Normals for layers: their law, their streams, and that a longer draw begins like a shorter one."""

import math

import pytest
import torch
from scipy import stats

from sfumato.training.draws import Draws
from sfumato.training.normals import BLOCK, box_muller, normals


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_they_are_standard_normal_and_independent_of_their_neighbours(dtype):
    x = normals(7, "law", size=200_000, dtype=dtype)
    assert x.dtype == dtype
    assert stats.kstest(x.double().numpy(), "norm").pvalue > 1e-4
    y = x[: 195 * BLOCK].reshape(-1, 2, BLOCK // 2).double()
    assert abs(torch.corrcoef(y.movedim(1, 0).reshape(2, -1))[0, 1]) < 0.02  # cosine and sine of one pair
    assert abs(torch.corrcoef(y.square().movedim(1, 0).reshape(2, -1))[0, 1]) < 0.02
    assert abs(float((x[1:].double() * x[:-1].double()).mean())) < 0.01


def test_twin_of_the_transform():
    words = torch.tensor([[[5, -(2**31), 2**31 - 1, 0], [0, 2**30, -(2**31), 3]]], dtype=torch.int32)
    found = box_muller(words, torch.float64)
    for k in range(4):
        u = min(1.0, (abs(int(words[0, 0, k])) + 1) / 2**31)
        r, angle = math.sqrt(max(0.0, -2 * math.log(u))), int(words[0, 1, k]) * math.pi / 2**31
        assert found[0, :, k].tolist() == pytest.approx([r * math.cos(angle), r * math.sin(angle)], abs=1e-12)
    assert torch.isfinite(box_muller(words, torch.float32)).all()


def test_a_longer_draw_begins_like_a_shorter_one_and_names_matter():
    short, long = (normals(3, "a", 1, size=size, dtype=torch.float32) for size in (10, 5000))
    assert torch.equal(short, long[:10])
    assert not torch.equal(short, normals(3, "a", 2, size=10, dtype=torch.float32))
    assert not torch.equal(short, normals(4, "a", 1, size=10, dtype=torch.float32))


def test_models_of_a_stack_have_streams_of_their_own():
    both = Draws((1, 2), ("x",)).gaussian("n", 3, 5)
    alone = Draws((2,), ("x",)).gaussian("n", 3, 5)
    assert both.shape == (2, 3, 5)
    assert torch.equal(both[1], alone[0])
    assert not torch.equal(both[0], both[1])
