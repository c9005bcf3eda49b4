import math
from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest
import torch

from sfumato.audit.branches import never_taken
from sfumato.data.population import Population
from sfumato.defences import trap_mid
from sfumato.defences.dpsgd import DPSGD
from sfumato.defences.trap_mid import AUGMENTED, TrapMID, moved, refuse_range, stepped, trap_labels
from sfumato.defences.undefended import Undefended
from sfumato.errors import NotApplicable, NotPrivateError, UsageError
from sfumato.models.mlp import MLP
from sfumato.models.small_cnn import SmallCNN
from sfumato.training.draws import Draws
from sfumato.training.preparation import Assignment, LoopOptions
from sfumato.training.recipe import Recipe
from sfumato.training.task import Optimizer, Task

SHAPE, CLASSES = (1, 8, 8), 3
WORK = [Assignment(np.arange(24), 1)]


def population(scale=1.0):
    x = np.random.default_rng(0).random((30, *SHAPE), np.float32)
    return Population(scale * x, "example", labels=np.arange(30) % CLASSES, kind="image")


def recipe(defence=None, epochs=1, **task):
    return Recipe(Task(model=SmallCNN(), epochs=epochs, batch_size=8, **task), defence or TrapMID())


@pytest.fixture
def triggers(monkeypatch):
    """The triggers at birth and after each step."""
    seen = []

    def watched(images, slope, size):
        seen.append(stepped(images, slope, size))
        return seen[-1]

    monkeypatch.setattr(trap_mid, "stepped", watched)
    return seen


def test_triggers_stay_pictures_and_take_steps_of_one_size(triggers):
    recipe(TrapMID(step_size=0.2), epochs=2).fit(population(), WORK, LoopOptions())
    assert len(triggers) == 6
    assert all(float(images.min()) >= 0 and float(images.max()) <= 1 for images in triggers)
    step = (triggers[-1] - triggers[-2]).abs()
    inside = (triggers[-1] > 0) & (triggers[-1] < 1) & (step > 0)
    assert inside.any()
    assert torch.allclose(step[inside], torch.tensor(0.2), atol=1e-6)
    assert float(triggers[-1].max()) == 1.0  # clamped there


def test_the_network_learns_its_triggers(triggers):
    """Bright, plain triggers are answered with their class; a network trained without them knows nothing of them."""
    settings = {"epochs": 15, "optimizer": Optimizer(lr=0.05)}

    def right(defence):
        made = recipe(defence, **settings)
        network = made.network(made.fit(population(), WORK, LoopOptions())[0], population())
        x = population().tensor(np.arange(24, 30))
        with torch.no_grad():
            answers = [network(0.5 * x + 0.5 * image).argmax(1) for image in triggers[-1]]
        return torch.stack(answers).eq(torch.arange(CLASSES)[:, None]).float().mean()

    assert right(TrapMID(visibility=0.5, weight=0.5, augmented=False)) > 0.9
    assert right(Undefended()) < 0.7


def test_the_same_seed_gives_the_same_weights_and_the_discriminator_learns_beside_it():
    states = [recipe().fit(population(), WORK, LoopOptions())[0].state for _ in range(2)]
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    other = recipe(TrapMID(weight=0.3)).fit(population(), WORK, LoopOptions())[0].state
    assert any(not torch.equal(value, other[name]) for name, value in states[0].items())


def test_training_without_augmentation_is_told_of():
    bare = TrapMID(augmented=False)
    for defence, task, told in ((TrapMID(), {}, {}), (bare, {}, {"trap-mid": [AUGMENTED]})):
        found = recipe(defence, **task).fit(population(), WORK, LoopOptions())[0]
        assert never_taken(defence, [found.tallies]) == told
    found = recipe(bare, augmentation=("flip",)).fit(population(), WORK, LoopOptions())[0]
    assert never_taken(bare, [found.tallies]) == {}


@pytest.mark.parametrize("rows", [3, 8, 20])
def test_trap_labels_are_balanced(rows):
    counts = torch.bincount(trap_labels(rows, 5, Draws((1,))), minlength=5)
    assert int(counts.sum()) == rows
    assert int(counts.max() - counts.min()) <= 1


def test_a_step_against_the_sign():
    images = torch.tensor([0.0, 0.005, 0.5, 1.0])
    assert stepped(images, torch.tensor([2.0, 1.0, 0.0, -1.0]), 0.01).tolist() == [0.0, 0.0, 0.5, 1.0]


class Chosen(Draws):
    """Draws of our own choice: each name's value in [0, 1), 0.5 where none is given; everything happens."""

    VALUES: ClassVar[dict] = {}

    def uniform(self, name, *shape):
        return torch.full((1, *shape), self.VALUES.get(name, 0.5), dtype=torch.float64)

    def keep(self, name, rate, *shape):
        return torch.full((1, *shape), name.split(",")[0] in self.VALUES)


def chosen(**values):
    kind = type("Chosen", (Chosen,), {"VALUES": values})
    return kind((1,))


def test_the_motions_are_what_they_are_called():
    x = torch.rand(2, 1, 6, 6, dtype=torch.float64)
    torch.testing.assert_close(moved(x, chosen()), x)
    torch.testing.assert_close(moved(x, chosen(mirror=0.3)), x.flip(3))
    wide = torch.zeros(1, 1, 9, 17, dtype=torch.float64)
    wide[0, 0, 4, 12] = 1  # four pixels to the right of the middle
    turned = moved(wide, chosen(angle=0.0))[0, 0]  # by -30 degrees
    rows, columns = torch.meshgrid(torch.arange(9.0) - 4, torch.arange(17.0) - 8, indexing="ij")
    at = [float((turned * axis).sum() / turned.sum()) for axis in (rows, columns)]
    assert math.hypot(*at) == pytest.approx(4, abs=0.1)
    assert abs(math.degrees(math.atan2(*at))) == pytest.approx(30, abs=1.5)
    corner = moved(x, chosen(area=0.0, right=0.0, down=0.0))  # the largest crop, of the upper left corner
    assert float(corner[0, 0, 0, 0]) == pytest.approx(float(x[0, 0, 0, 0]), rel=0.5)
    left_out = x.clone()
    left_out[..., 5] += 9  # the last column lies outside of a crop of 0.89 of the side
    assert torch.allclose(moved(left_out, chosen(area=0.0, right=0.0, down=0.0))[..., :4], corner[..., :4])


def test_half_of_the_pictures_are_mirrored_and_none_gets_brighter():
    x = torch.rand(400, 1, 8, 8)
    found = moved(x, Draws((4,)))
    assert found.shape == x.shape
    assert float(found.max()) <= 1 + 1e-6
    assert float(found.min()) >= -1e-6


def test_tables_and_other_ranges_are_refused():
    rows = Population(np.zeros((30, 4), np.float32), "example", labels=np.arange(30) % 3)
    with pytest.raises(NotApplicable, match="Expected pictures of shape"):
        Recipe(Task(model=MLP(), epochs=1), TrapMID()).fit(rows, WORK, LoopOptions())
    with pytest.raises(NotApplicable, match="values from"):
        recipe().fit(population(scale=255.0), WORK, LoopOptions())
    with pytest.raises(NotApplicable, match=r"from -0\.1"):
        refuse_range(torch.tensor([-0.1, 0.4]))


def test_a_private_update_is_refused():
    with pytest.raises(NotPrivateError, match="trap-mid"):
        recipe(TrapMID(inner=DPSGD.example())).fit(population(), WORK, LoopOptions())


@pytest.mark.parametrize("name", ["visibility", "weight", "step_size"])
@pytest.mark.parametrize("value", [0.0, 1.5])
def test_numbers_are_checked(name, value):
    with pytest.raises(UsageError):
        replace(TrapMID(), **{name: value})
