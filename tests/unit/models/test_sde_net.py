import pytest
import torch

from sfumato.errors import UsageError
from sfumato.models.ode_net import ODENet
from sfumato.models.sde_net import SDENet
from sfumato.sde.diffusions.choice import diffusions
from sfumato.sde.streams import random_layers, set_noise
from sfumato.training.draws import Draws

X = torch.ones(3, 5)


def answers(network: torch.nn.Module, noise: str = "fresh", seed: int = 0) -> torch.Tensor:
    set_noise(network, Draws((seed,)), noise)
    with torch.no_grad():
        return network(X)


def built(**fields) -> torch.nn.Module:
    torch.manual_seed(0)
    return SDENet(**({"width": 4, "sigma": 0.5} | fields)).build((5,), 2).eval()


def test_records_get_noise_of_their_own_or_share_it_or_have_none() -> None:
    network = built()
    fresh, common, off = (answers(network, noise) for noise in ("fresh", "common", "off"))
    assert not torch.allclose(fresh[0], fresh[1])
    assert torch.allclose(common[0], common[1])
    assert torch.allclose(off[0], off[1])
    assert not torch.allclose(common, off)
    assert torch.equal(fresh, answers(network))
    assert not torch.allclose(fresh, answers(network, seed=1))


@pytest.mark.parametrize("fields", [{"sigma": 0.0}, {"noise_at_test": False}])
def test_without_noise_it_is_the_ordinary_network(fields: dict) -> None:
    network = built(**fields)
    torch.manual_seed(0)
    ordinary = ODENet(width=4).build((5,), 2).eval()
    assert not random_layers(network)
    with torch.no_grad():
        torch.testing.assert_close(answers(network), ordinary(X))


def test_noise_at_test_leaves_training_alone() -> None:
    network = built(noise_at_test=False).train()
    assert not torch.allclose(answers(network), answers(network, seed=1))


def test_variance_grows_with_sigma_squared_times_the_horizon() -> None:
    block = SDENet(width=400, sigma=0.5, horizon=2.0, steps=4).body((400,))[0]
    for parameter in block.drift.parameters():
        torch.nn.init.zeros_(parameter)
    set_noise(block, Draws((0,)))
    with torch.no_grad():
        moved = block(torch.zeros(100, 400))
    assert float(moved.var()) == pytest.approx(0.5**2 * 2.0, rel=0.02)


@pytest.mark.parametrize("diffusion", diffusions())
@pytest.mark.parametrize("shape", [(5,), (1, 8, 8)], ids=["table", "image"])
def test_every_diffusion_can_be_chosen(diffusion: str, shape: tuple) -> None:
    network = SDENet(width=4, channels=4, steps=2, diffusion=diffusion, augmented=1).build(shape, 2)
    network(torch.rand(2, *shape)).sum().backward()
    assert all(p.grad is not None for p in network.parameters())


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"integrator": "euler"}, "euler-maruyama"),
        ({"integrator": "rk4"}, "ode-net"),
        ({"sigma": -0.1}, "sigma"),
        ({"diffusion": "aditive"}, "additive"),
    ],
)
def test_impossible_numbers_are_refused(fields: dict, match: str) -> None:
    with pytest.raises(UsageError, match=match):
        SDENet(**fields)
