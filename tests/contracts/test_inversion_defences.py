"""Whatever a defence against inversion changes, a model of a stack is the model that is trained alone."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from sfumato.data.population import Population
from sfumato.defences.bido import BiDO
from sfumato.defences.label_smoothing import LabelSmoothing
from sfumato.defences.mid import MID
from sfumato.defences.negative_label_smoothing import NegativeLabelSmoothing
from sfumato.defences.rolss import RoLSS
from sfumato.defences.score_rounding import ScoreRounding
from sfumato.defences.tl_dmi import TLDMI
from sfumato.defences.top_1 import Top1
from sfumato.defences.trap_mid import TrapMID
from sfumato.errors import UnsupportedModel
from sfumato.models.resnet import ResNet8
from sfumato.training.preparation import Assignment, LoopOptions
from sfumato.training.recipe import Recipe
from sfumato.training.task import Optimizer, Task

SHAPE, SEEDS = (1, 8, 8), (7, 8, 9)
FAMILY = ResNet8(width=2)
OPTIONS = LoopOptions(dtype=torch.float64)
DEFENCES = {
    "negative-label-smoothing": NegativeLabelSmoothing(smoothing=-0.5),
    "mid": MID(beta=0.1),
    "mid, answers drawn": MID(noise_at_test=True),
    "bido": BiDO(),
    "bido with coco": BiDO(measure="coco"),
    "rolss": RoLSS(),
    "rolss, scaled, everywhere": RoLSS(factor=0.3, where="all"),
    "tl-dmi": TLDMI(weights="public.safetensors", share=0.3),
    "score-rounding": ScoreRounding(),
    "top-1": Top1(),
    "several": RoLSS(inner=BiDO(inner=MID(inner=NegativeLabelSmoothing()))),
    "several around public weights": BiDO(inner=TLDMI(weights="public.safetensors", share=0.3, inner=LabelSmoothing())),
}


def population():
    x = np.random.default_rng(0).random((40, *SHAPE), np.float32)
    return Population(x, "example", labels=np.arange(40) % 3, kind="image")


@pytest.fixture(autouse=True)
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_file(FAMILY.build(SHAPE, 3).state_dict(), tmp_path / "public.safetensors")


def recipe(defence):
    return Recipe(Task(model=FAMILY, epochs=4, batch_size=8, optimizer=Optimizer(lr=0.02)), defence)


@pytest.mark.parametrize("name", DEFENCES)
def test_a_model_of_a_stack_is_the_model_alone(name):
    work = [Assignment(np.random.default_rng(seed).permutation(40)[:16], seed) for seed in SEEDS]
    made = recipe(DEFENCES[name])
    together = made.fit(population(), work, OPTIONS)
    assert [model.stacked_with for model in together] == [3, 3, 3]
    for model, own in zip(together, work, strict=True):
        (alone,) = made.fit(population(), [own], OPTIONS)
        assert alone.state.keys() == model.state.keys()
        for key, value in alone.state.items():
            torch.testing.assert_close(model.state[key], value, rtol=1e-7, atol=1e-8, msg=f"{name}: {key}")
        assert alone.tallies == pytest.approx(model.tallies)
    network = made.network(together[0], population())
    assert network(torch.rand(2, *SHAPE, dtype=torch.float64)).shape == (2, 3)


def test_a_course_is_for_one_model_at_a_time():
    work = [Assignment(np.arange(16), seed) for seed in SEEDS]
    with pytest.raises(UnsupportedModel, match="trap-mid"):
        recipe(TrapMID()).fit(population(), work, OPTIONS)
