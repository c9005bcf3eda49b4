import numpy as np
import pytest
import torch
from torch import nn

from sfumato.data.population import Population
from sfumato.defences.dpsgd import DPSGD
from sfumato.defences.srcm_reconstruction import LinearNorm, RadialClamp, SRCMReconstruction
from sfumato.errors import UsageError
from sfumato.models.head import head_name
from sfumato.models.mlp import MLP
from sfumato.training.preparation import Assignment, LoopOptions
from sfumato.training.recipe import Recipe
from sfumato.training.task import Task


def test_lengths_are_held_inside_the_ring_and_directions_stay():
    torch.manual_seed(0)
    u = torch.randn(50, 4, dtype=torch.float64) * torch.logspace(-3, 3, 50, dtype=torch.float64)[:, None]
    out = RadialClamp(10.0, 20.0)(u)
    length = out.norm(dim=1)
    assert float(length.min()) == pytest.approx(10.0)
    assert float(length.max()) == pytest.approx(20.0)
    assert torch.allclose(out / length[:, None], u / u.norm(dim=1, keepdim=True))
    inside = (u.norm(dim=1) > 10) & (u.norm(dim=1) < 20)
    assert inside.any()
    assert torch.allclose(out[inside], u[inside])


def test_the_gradient_is_finite_at_zero():
    u = torch.zeros(1, 3, requires_grad=True)
    RadialClamp(10.0, 20.0)(u).sum().backward()
    assert torch.isfinite(u.grad).all()
    layer = LinearNorm(3, 2)
    nn.init.zeros_(layer.weight)
    layer(torch.ones(1, 3)).sum().backward()
    assert torch.isfinite(layer.weight.grad).all()


def test_rows_of_weights_count_as_unit_vectors():
    torch.manual_seed(0)
    layer = LinearNorm(4, 3)
    x = torch.randn(5, 4)
    rows = layer.weight / layer.weight.norm(dim=1, keepdim=True)
    assert torch.allclose(layer(x), x @ rows.T + layer.bias, atol=1e-6)
    longer = LinearNorm(4, 3)
    longer.load_state_dict({"weight": 5 * layer.weight, "bias": layer.bias})
    assert torch.allclose(layer(x), longer(x), atol=1e-6)


@pytest.mark.parametrize("pre_layer", [True, False])
def test_it_takes_the_place_of_the_classification_layer(pre_layer):
    network = SRCMReconstruction(pre_layer=pre_layer).prepare(MLP(hidden=(6,)).build((5,), 3))
    module = network[-1]
    assert [type(layer).__name__ for layer in module] == ["Linear"] * pre_layer + ["RadialClamp", "LinearNorm"]
    assert isinstance(network.get_submodule(head_name(network)), LinearNorm)
    assert network(torch.randn(4, 5)).shape == (4, 3)
    ring = module[-2]
    assert (ring.least, ring.most) == (10.0, 20.0)


def test_it_trains_with_a_private_update_and_its_guarantee_holds():
    data = Population(
        np.random.default_rng(0).normal(size=(40, 5)).astype(np.float32), "example", labels=np.arange(40) % 3
    )
    recipe = Recipe(Task(model=MLP(hidden=(6,))), SRCMReconstruction(inner=DPSGD.example()))
    found = recipe.fit(data, [Assignment(np.arange(20), 1)], LoopOptions())[0]
    assert found.guarantee_statement.startswith("epsilon")
    assert found.kernels["private"] != "loop", "clipped without running each record alone"


def test_the_ring_must_have_an_inside():
    for d in (-1.0, 15.0):
        with pytest.raises(UsageError, match="`d`"):
            SRCMReconstruction(d=d)
    with pytest.raises(UsageError, match="r"):
        SRCMReconstruction(r=0.0)
