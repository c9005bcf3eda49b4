import dataclasses

import numpy as np
import pytest

from sfumato.data.population import Population, Unit
from sfumato.data.records import ArrayRecords
from sfumato.errors import UsageError
from sfumato.training.presets.base import default_preset, presets

STEADY = ("residual-net", "ode-net", "sde-net")


def population(kind: str) -> Population:
    rng = np.random.default_rng(0)
    shape = (20, 3, 32, 32) if kind == "image" else (20, 5)
    return Population(
        ArrayRecords(rng.random(shape).astype(np.float32)), Unit("example"), labels=np.arange(20) % 2, kind=kind
    )


@pytest.mark.parametrize("name", presets())
def test_every_preset_makes_a_task_that_its_network_fits(name: str) -> None:
    preset = presets()[name]()
    assert preset.summary
    assert preset.reference
    for kind in preset.kinds:
        data = population(kind)
        task = preset.task(data)
        assert task.model.build(data.records.shape, 2) is not None
        assert (task.epochs, task.batch_size) == (preset.epochs, preset.batch_size)
        assert task.optimizer.lr == preset.lr


def test_every_kind_has_one_default() -> None:
    for kind in ("table", "image"):
        assert [p.name for p in presets().values() if p.default_for == kind] == [default_preset(kind).name]
    with pytest.raises(UsageError, match="sound"):
        default_preset("sound")


def test_fields_reach_the_task() -> None:
    task = presets()["image-wide-resnet"](
        depth=10, width=1, epochs=2, lr=0.3, weight_decay=0.1, augmentation=("cutout",), head="binary", ema=0.9
    ).task(population("image"))
    assert (task.model.depth, task.model.width, task.epochs, task.head, task.ema) == (10, 1, 2, "binary", 0.9)
    assert (task.optimizer.lr, task.optimizer.weight_decay, task.augmentation) == (0.3, 0.1, ("cutout",))


def test_a_preset_for_images_refuses_tables() -> None:
    with pytest.raises(UsageError, match="'table-mlp'"):
        presets()["image-cnn"]().task(population("table"))


def test_the_scattering_presets_look_at_normalised_wavelet_features() -> None:
    data = population("image")
    plain = presets()["scatter-linear"]().task(data)
    assert [part.name for part in plain.features.maps] == ["scattering", "group-normalised", "fixed-norm"]
    assert plain.features.shape((1, 28, 28)) == (81, 7, 7)
    assert not plain.standardise
    kinds = [
        presets()["scatter-whitened-linear"](normalisation=name).features().maps[1].name for name in ("group", "order")
    ]
    assert kinds == ["group-normalised", "order-normalised"]
    mirrored = presets()["scatter-whitened-linear"](mirror=True).features()
    assert [part.name for part in mirrored.maps] == ["flip-averaged", "group-normalised"]
    with pytest.raises(UsageError, match="normalisation"):
        presets()["scatter-whitened-linear"](normalisation="batch").task(data)


def test_the_wide_network_for_private_training_has_nothing_that_couples_records() -> None:
    preset = presets()["dp-image-wrn"](depth=10, width=1)
    task = preset.task(population("image"))
    assert task.model.weight_standardisation
    assert not [layer for layer in task.model.build((3, 32, 32), 10).modules() if "BatchNorm" in type(layer).__name__]
    assert (task.optimizer.momentum, task.optimizer.weight_decay, task.standardise) == (0.0, 0.0, False)


def test_the_presets_around_equations_differ_in_the_body_alone() -> None:
    tasks = {name: presets()[name](channels=8).task(population("image")) for name in STEADY}
    plain = [dataclasses.replace(task, model=None) for task in tasks.values()]
    assert plain[0] == plain[1] == plain[2]
    assert {task.model.name for task in tasks.values()} == set(STEADY)
    assert (plain[0].optimizer.momentum, plain[0].standardise) == (0.9, True)


@pytest.mark.parametrize("name", STEADY)
def test_every_field_of_the_network_is_one_of_the_preset(name: str) -> None:
    preset = presets()[name]
    model = preset().model()
    fields = [field.name for field in dataclasses.fields(model)]
    assert preset().model() == type(model)()
    changed = {"integrator": "milstein" if name == "sde-net" else "rk4", "diffusion": "multiplicative"}
    for field in fields:
        value = getattr(model, field)
        other = changed[field] if field in changed else not value if isinstance(value, bool) else value + 1
        assert getattr(preset(**{field: other}).model(), field) == other
