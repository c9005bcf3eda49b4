from dataclasses import replace

import numpy as np
import pytest
import torch

from sfumato.accounting.guarantee import Guarantee, NoGuarantee
from sfumato.data.population import Population
from sfumato.defences.dpsgd import DPSGD
from sfumato.defences.neural_sde import NeuralSDE
from sfumato.defences.pretrained import Pretrained
from sfumato.defences.undefended import Undefended
from sfumato.errors import NotPrivateError, UsageError
from sfumato.models.residual_net import ResidualNet
from sfumato.models.resnet import ResNet8
from sfumato.sde.block import SDEBlock
from sfumato.sde.streams import random_layers, set_noise, set_progress
from sfumato.training.draws import Draws
from sfumato.training.preparation import Assignment, LoopOptions
from sfumato.training.recipe import Recipe
from sfumato.training.task import Optimizer, Task

FAMILY = ResidualNet(width=6, blocks=2)
TASK = Task(model=FAMILY, epochs=2, batch_size=8, optimizer=Optimizer(lr=0.1))
SDE = NeuralSDE(steps=2, sigma=0.2)


def population():
    rng = np.random.default_rng(0)
    return Population(rng.normal(size=(40, 4)).astype(np.float32), "example", labels=np.arange(40) % 2)


def trained(defence, task=TASK, seeds=(1,), **options):
    work = [Assignment(np.arange(24) + seed, seed) for seed in seeds]
    return Recipe(task, defence).fit(population(), work, LoopOptions(**options))


def network(defence=SDE):
    torch.manual_seed(0)
    return defence.prepare_for(FAMILY.build((4,), 2), (4,))


def test_every_block_is_solved_with_noise():
    found = [part for part in network().modules() if isinstance(part, SDEBlock)]
    assert [(block.grid.steps, block.integrator.name, block.diffusion.sigma) for block in found] == [
        (2, "euler-maruyama", 0.2)
    ] * 2
    assert len(random_layers(network())) == 2
    assert random_layers(network(replace(SDE, noise_at_test=False))) == []


def test_what_cannot_be_is_refused_at_construction():
    for bad in ({"integrator": "euler"}, {"diffusion": "none"}, {"sigma": -1.0}, {"start": 0.6, "ramp": 0.5}):
        with pytest.raises(UsageError):
            NeuralSDE(**bad)


def test_models_are_the_same_alone_and_side_by_side():
    defence = replace(SDE, start=0.5, ramp=0.25, where="last-block")
    alone = [trained(defence, seeds=(seed,), dtype=torch.float64)[0] for seed in (1, 2)]
    together = trained(defence, seeds=(1, 2), dtype=torch.float64)
    assert together[0].stacked_with == 2
    for one, other in zip(alone, together, strict=True):
        for name, value in one.state.items():
            assert torch.allclose(value, other.state[name], atol=1e-10), name


def test_stored_weights_make_the_same_network_again():
    recipe, model = Recipe(TASK, SDE), trained(SDE)[0]
    first, again = recipe.network(model, population()), recipe.network(model, population())
    x = torch.randn(3, 4)
    for net in (first, again):
        set_noise(net, Draws((5,)))
    assert torch.equal(first(x), again(x))
    assert any(name.startswith("2.drift.branch") for name in model.state)


def test_until_the_start_it_trains_the_old_network():
    """With a start beyond the last step, the weights are those of ordinary training, to the last bit."""
    late = trained(replace(SDE, start=0.99))[0].state
    plain = trained(Undefended())[0].state
    assert [torch.equal(a, b) for a, b in zip(late.values(), plain.values(), strict=True)] == [True] * len(plain)
    early = trained(replace(SDE, start=0.5))[0].state
    assert not torch.equal(early["1.weight"], plain["1.weight"])


@pytest.mark.parametrize("where", ["all", "last-block"])
def test_from_the_start_on_the_gradient_stops_before_the_first_block(where):
    model = network(replace(SDE, start=0.5, finetune="block-and-head", where=where))
    x = torch.randn(3, 4)
    before = "1" if where == "all" else "2"
    for progress, stopped in ((0.4, False), (0.6, True)):
        set_progress(model, progress)
        model.zero_grad()
        model(x).sum().backward()
        gone = {name.partition(".")[0] for name, value in model.named_parameters() if value.grad is None}
        assert gone == ({"1", before} if stopped else set())


def test_with_a_start_at_once_the_rest_is_frozen():
    model = network(replace(SDE, finetune="block-and-head", where="last-block"))
    frozen = {name.partition(".")[0] for name, value in model.named_parameters() if not value.requires_grad}
    assert frozen == {"1", "2"}
    state = trained(replace(SDE, finetune="block-and-head", where="last-block"), seeds=(1, 2))
    assert state[0].stacked_with == 2


def test_what_the_diffusion_learns_is_never_frozen():
    quiet = replace(SDE, diffusion="learned-scalar", noise_at_test=False, finetune="block-and-head")
    learned = [value for name, value in network(quiet).named_parameters() if ".scale." in name]
    assert learned
    assert all(value.requires_grad for value in learned)


def test_what_the_diffusion_learns_starts_the_same_whatever_was_drawn_before():
    states = []
    for seed in (1, 2):
        model = FAMILY.build((4,), 2)
        with torch.no_grad():
            for value in model.parameters():
                value.fill_(0.1)
        torch.manual_seed(seed)
        states.append(replace(SDE, diffusion="learned-scalar").prepare(model).state_dict())
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


def test_the_drop_in_into_given_weights(tmp_path):
    before = trained(Undefended())[0]
    before.save(tmp_path / "w.safetensors")
    given = Pretrained(weights=str(tmp_path / "w.safetensors"), data="public")
    model = replace(SDE, steps=1, sigma=0.0, inner=given)
    after = trained(model, replace(TASK, optimizer=Optimizer(lr=1e-12)))[0]
    for (name, old), new in zip(before.state.items(), after.state.values(), strict=True):
        assert torch.allclose(old, new, atol=1e-6), name


class TestGuarantees:
    PRIVATE = DPSGD.example()

    @pytest.mark.parametrize("sigma", [0.0, 0.1, 100.0])
    def test_that_of_dpsgd_whatever_the_noise(self, sigma):
        alone = trained(self.PRIVATE)[0].guarantee
        found = trained(replace(SDE, sigma=sigma, inner=self.PRIVATE))[0].guarantee
        assert isinstance(found, Guarantee)
        assert found.epsilon == alone.epsilon

    @pytest.mark.parametrize("sigma", [0.0, 0.1, 100.0])
    def test_none_without_it(self, sigma):
        assert isinstance(trained(replace(SDE, sigma=sigma))[0].guarantee, NoGuarantee)

    @pytest.mark.parametrize("outside", [True, False])
    def test_a_drop_in_into_private_weights_has_none_whatever_follows(self, tmp_path, outside):
        trained(Undefended())[0].save(tmp_path / "w.safetensors")
        given = Pretrained(weights=str(tmp_path / "w.safetensors"), data="private")
        if outside:
            defence = replace(self.PRIVATE, inner=replace(SDE, inner=given))
        else:
            defence = replace(SDE, inner=replace(given, inner=self.PRIVATE))
        model = trained(defence)[0]
        assert any(event.private for event in model.history.events)
        assert isinstance(model.guarantee, NoGuarantee)
        assert model.guarantee_statement == "none, because of ordinary training, up to 2 epochs at stage training"

    def test_public_weights_keep_it(self, tmp_path):
        trained(Undefended())[0].save(tmp_path / "w.safetensors")
        given = Pretrained(weights=str(tmp_path / "w.safetensors"), data="public", inner=self.PRIVATE)
        assert isinstance(trained(replace(SDE, inner=given))[0].guarantee, Guarantee)

    def test_more_steps_under_way_keep_it(self):
        found = trained(replace(SDE, start=0.5, inner=self.PRIVATE))[0]
        assert isinstance(found.guarantee, Guarantee)
        assert found.kernels["private"] == "capture"

    def test_layers_that_shall_stay_from_some_step_on_are_refused(self):
        late = replace(SDE, start=0.5, finetune="block-and-head", inner=self.PRIVATE)
        with pytest.raises(NotPrivateError, match=r"start=0\.5 and finetune='block-and-head'"):
            trained(late)
        assert isinstance(trained(replace(late, start=0.0))[0].guarantee, Guarantee)

    def test_an_adaptive_integrator_is_refused(self, monkeypatch):
        monkeypatch.setattr("sfumato.sde.integrators.euler_maruyama.EulerMaruyama.couples", "one step size for all")
        with pytest.raises(NotPrivateError, match="neural-sde: one step size for all"):
            trained(replace(SDE, inner=self.PRIVATE))

    def test_batch_normalisation_is_refused_unless_converted(self):
        rng = np.random.default_rng(0)
        data = Population(
            rng.random((24, 1, 8, 8)).astype(np.float32), "example", labels=np.arange(24) % 2, kind="image"
        )
        task = replace(TASK, model=ResNet8(width=2))
        recipe = Recipe(task, replace(SDE, convert_norm=False, inner=self.PRIVATE))
        with pytest.raises(NotPrivateError, match="BatchNorm2d"):
            recipe.fit(data, [Assignment(np.arange(24), 1)], LoopOptions())
        converted = Recipe(task, replace(SDE, inner=replace(self.PRIVATE, steps=1)))
        assert isinstance(converted.fit(data, [Assignment(np.arange(24), 1)], LoopOptions())[0].guarantee, Guarantee)
