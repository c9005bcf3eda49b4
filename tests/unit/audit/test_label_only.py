"""An audit with attacks that see labels only, on networks that learnt noisy labels by heart."""

import numpy as np
import pytest

from sfumato.attacks.membership.augmentation_bits import AugmentationBits
from sfumato.attacks.membership.boundary_distance import BoundaryDistance
from sfumato.attacks.membership.gap import Gap
from sfumato.attacks.membership.input_gradient_norm import InputGradientNorm
from sfumato.attacks.membership.label_noise import LabelNoise
from sfumato.attacks.membership.loss import LossThreshold
from sfumato.audit.compare import compare
from sfumato.audit.settings import AuditSettings
from sfumato.data.canaries import with_canaries
from sfumato.data.population import Population
from sfumato.defences.undefended import Undefended
from sfumato.execution.store import Store
from sfumato.models.mlp import MLP
from sfumato.training.recipe import Recipe
from sfumato.training.task import Optimizer, Task

FOUND = (
    Gap(),
    LabelNoise(scale=0.5),
    LabelNoise(scale=0.5, calibration="difficulty", called="label-noise-calibrated"),
    BoundaryDistance(budget=60),
    BoundaryDistance(budget=60, calibration="likelihood", called="boundary-likelihood"),
    InputGradientNorm(),
)


def made(tmp_path, attacks, population, models=4):
    task = Task(model=MLP(hidden=(48,)), optimizer=Optimizer(lr=0.2), epochs=40, batch_size=16)
    settings = AuditSettings(attacks=attacks, models=models, fprs=(0.1,), replicates=40)
    return compare(population, [Recipe(task, Undefended())], settings, Store(tmp_path), executor="stacked").record


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    rng = np.random.default_rng(0)
    population = Population(rng.normal(size=(90, 12)).astype(np.float32), "example", labels=rng.integers(0, 3, 90))
    return made(tmp_path_factory.mktemp("store"), (*FOUND, AugmentationBits()), population)


@pytest.mark.parametrize("attack", FOUND, ids=lambda a: a.name)
def test_what_was_learnt_by_heart_is_found(record, attack):
    (subject,) = record.subjects
    found = subject.attack(attack.name)
    assert found.finding("auc").low > 0.6
    assert found.access == ("weights" if attack.method == "input-gradient-norm" else "labels")


def test_the_record_says_what_was_asked_and_what_could_not_be(record):
    (subject,) = record.subjects
    assert subject.attack("boundary-distance").queries == "at most 60 labels per record, boundary distance"
    assert subject.attack("label-noise").queries.startswith("16 per record")
    (refused,) = subject.not_run
    assert (refused.attack, "needs images" in refused.reasons[0]) == ("augmentation-bits", True)
    assert not any("labels only" in what for what in record.not_tested)


def test_without_such_an_attack_it_is_listed_as_untested(tmp_path):
    rng = np.random.default_rng(1)
    population = Population(rng.normal(size=(40, 3)).astype(np.float32), "example", labels=rng.integers(0, 2, 40))
    assert any("labels only" in what for what in made(tmp_path, (LossThreshold(),), population).not_tested)


def test_bits_of_augmented_views_find_canaries_that_were_learnt_by_heart(tmp_path):
    rng = np.random.default_rng(2)
    images = rng.integers(0, 255, (60, 1, 8, 8)).astype(np.uint8)
    population = Population(images, "example", labels=np.arange(60) % 3, kind="image")
    marked = with_canaries(
        population, {"mislabelled": 20, "blank": 4, "out-of-distribution": 4, "near-duplicate": 4}, 0
    )
    attacks = (AugmentationBits(), AugmentationBits(calibration="none", called="count"))
    (subject,) = made(tmp_path, attacks, marked, models=8).subjects
    for attack in attacks:
        assert subject.attack(attack.name).finding("auc").low > 0.5
