from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import nn

from sfumato.attacks.inversion.base import ClassInversion
from sfumato.audit.inversion.judge import Judge
from sfumato.audit.inversion.settings import InversionSettings
from sfumato.audit.inverted import EvaluatorSummary
from sfumato.audit.measured import Finding
from sfumato.audit.settings import AuditSettings
from sfumato.data.population import Population, Unit
from sfumato.training.recipe import ModulePredict

CLASSES, EACH, WIDTH = 6, 20, 8


class Silent(ClassInversion):
    """An attack that settings may name."""

    def reconstruct(self, evidence, fitted=()):
        raise AssertionError("no attack runs here")


SETTINGS = AuditSettings(attacks=(), models=2, inversion=InversionSettings(attacks=(Silent(),)))


class World(NamedTuple):
    """Six clouds of rows, one for each class, and a judge who knows their centres."""

    population: Population
    judge: Judge
    centres: np.ndarray
    settings: AuditSettings


def world_of(seed: int, apart: float = 4.0) -> World:
    rng = np.random.default_rng(seed)
    centres = apart * np.eye(CLASSES, WIDTH)
    labels = np.arange(CLASSES * EACH) % CLASSES
    records = (centres[labels] + rng.normal(size=(len(labels), WIDTH))).astype(np.float32)
    population = Population(records, Unit("example"), labels=labels)  # type: ignore[arg-type]
    network = nn.Sequential(nn.Identity(), nn.Linear(WIDTH, CLASSES))
    with torch.no_grad():
        network[1].weight.copy_(torch.tensor(centres, dtype=torch.float32))
        network[1].bias.zero_()
    untried = Finding(name="evaluator-accuracy", value=0.9, low=0.8, high=1.0)
    held_out = np.arange(len(labels)) < 2 * CLASSES
    judge = Judge(
        ModulePredict(network.eval()), population, held_out, EvaluatorSummary(name="made up", accuracy=untried)
    )
    return World(population, judge, centres, SETTINGS)


@pytest.fixture(scope="session")
def world():
    return world_of(0)
