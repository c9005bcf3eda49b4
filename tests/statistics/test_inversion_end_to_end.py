"""The whole way from training to measure where nothing can have leaked, and where something must have.

Each assertion fails for a sound build with a probability of at most `ERROR`.
"""

import numpy as np
import pytest
import torch
from scipy.stats import binom
from torch import nn

from sfumato.attacks.inversion.miface import MIFace
from sfumato.attacks.inversion.planted_label import PlantedLabel
from sfumato.audit.compare import compare
from sfumato.audit.inversion import play_class, study
from sfumato.audit.inversion.judge import Judge
from sfumato.audit.inversion.settings import InversionSettings
from sfumato.audit.inverted import EvaluatorSummary
from sfumato.audit.measured import Finding
from sfumato.audit.settings import AuditSettings
from sfumato.data.owners import with_owners
from sfumato.data.population import Population, Unit
from sfumato.defences.undefended import Undefended
from sfumato.execution.store import Store
from sfumato.models.mlp import MLP
from sfumato.training.recipe import FunctionRecipe, ModulePredict, Recipe
from sfumato.training.task import Optimizer, Task

ERROR = 1e-4
CLASSES, EACH, WIDTH = 6, 16, 30
TASK = Task(model=MLP(hidden=()), optimizer=Optimizer(lr=0.05), epochs=20, batch_size=16)

pytestmark = pytest.mark.statistical


def people(seed):
    """[3, classes, width]: for each class the person who is in it, and two who are nowhere."""
    return 2.0 * np.random.default_rng(seed).normal(size=(3, CLASSES, WIDTH))


def population_of(centres, seed):
    rng = np.random.default_rng([seed, 1])
    labels = np.arange(CLASSES * EACH) % CLASSES
    records = (centres[labels] + rng.normal(size=(len(labels), WIDTH))).astype(np.float32)
    return Population(records, Unit("example"), labels=labels)


def judge_of(population):
    """Centres of the classes as an evaluation model, so that none has to be trained."""
    records = population.tensor(np.arange(len(population))).numpy()
    centres = np.stack([records[population.label_array == c].mean(axis=0) for c in range(CLASSES)])
    network = nn.Sequential(nn.Identity(), nn.Linear(WIDTH, CLASSES))
    with torch.no_grad():
        network[1].weight.copy_(torch.from_numpy(centres).float())
        network[1].bias.copy_(-torch.from_numpy((centres**2).sum(axis=1)).float() / 2)
    summary = EvaluatorSummary(name="made up", accuracy=Finding(name="accuracy", value=1.0, low=0.9, high=1.0))
    return Judge(ModulePredict(network.eval()), population, np.arange(len(population)) < CLASSES, summary)


def settings_of(*attacks, seed=0):
    asked = InversionSettings(attacks=attacks, targets=2)
    return AuditSettings(attacks=(), models=2, public=0.0, replicates=10, seed=seed, inversion=asked)


def constant(x, y, seed):
    """A network that never looked at its training records."""
    torch.manual_seed(7)
    return nn.Linear(WIDTH, CLASSES)


def test_guesses_show_the_person_who_was_in_the_class_and_nobody_else(tmp_path, monkeypatch):
    """Where another person's pictures fill a class, the first person is no nearer to the guess than a stranger is."""
    seen = []
    monkeypatch.setattr(study, "judge_for", lambda population, *_, **__: judge_of(population))
    monkeypatch.setattr(play_class, "class_measures", lambda guesses, *_: seen.append(guesses.records[0, :, 0]) or [])
    nearer_to_first, nearer_to_true = [], []
    for seed in range(20):
        there, first, stranger = people(seed)
        compare(population_of(there, seed), [Recipe(TASK, Undefended())], settings_of(MIFace(steps=60), seed=seed),
                Store(tmp_path / str(seed)), executor="inline")  # fmt: skip
        away = [np.linalg.norm(seen[-1] - who, axis=1) for who in (there, first, stranger)]
        nearer_to_first += list(away[1] < away[2])
        nearer_to_true += list(away[0] < away[1])
    chance = binom(len(nearer_to_first), 0.5)
    assert chance.ppf(ERROR / 2) <= sum(nearer_to_first) <= chance.isf(ERROR / 2)
    assert sum(nearer_to_true) > chance.isf(ERROR)


def test_a_model_that_saw_no_record_shows_no_record(tmp_path, monkeypatch):
    """The interval of the record-level measure holds the control in 95% of runs, if it claims to."""
    monkeypatch.setattr(study, "judge_for", lambda population, *_, **__: judge_of(population))
    recipe, missed, runs = FunctionRecipe(constant, "constant", Undefended()), 0, 40
    for seed in range(runs):
        population = population_of(people(seed)[0], seed)
        record = compare(population, [recipe], settings_of(MIFace(steps=5), seed=seed),
                         Store(tmp_path / str(seed)), executor="inline").record  # fmt: skip
        measure = record.subjects[0].inversions[0].measure("nearer_to_training")
        assert measure.attacked.low is not None
        missed += not measure.attacked.low <= 0.5 <= measure.attacked.high
    assert missed <= binom(runs, 0.05).isf(ERROR)


def test_a_model_that_knows_its_records_by_heart_is_caught_and_one_that_saw_none_is_not(tmp_path):
    population = with_owners(population_of(people(0)[0], 0), 4, 2, seed=0)
    task = Task(model=MLP(hidden=(64,)), optimizer=Optimizer(lr=0.1), epochs=120, batch_size=8)
    recipes = [Recipe(task, Undefended()), FunctionRecipe(constant, "constant", Undefended())]
    settings = settings_of(PlantedLabel())
    record = compare(population, recipes, settings, Store(tmp_path), executor="inline").record
    heart, none = (subject.inversions[0].measure("planted_label") for subject in record.subjects)
    assert heart.difference.low > 0
    assert heart.attacked.value > 2 * heart.attacked.at
    assert none.difference.low <= 0 <= none.difference.high
    assert "undefended (record-level)" in record.verdict.sentence
    assert "constant" not in record.verdict.sentence
