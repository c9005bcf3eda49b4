"""A mechanism that is not what it says: its noise is never added. The attacks alone must find it out, loudly."""

from dataclasses import dataclass, replace

import numpy as np
import pytest

from sfumato.attacks.membership.loss import LossThreshold
from sfumato.audit.alarm import BROKEN, above
from sfumato.audit.checks import exit_code, run_checks
from sfumato.audit.compare import compare
from sfumato.audit.settings import AuditSettings
from sfumato.data.population import Population
from sfumato.defences.dpsgd import DPSGD
from sfumato.execution.store import Store
from sfumato.models.mlp import MLP
from sfumato.models.sde_net import SDENet
from sfumato.private.noise.continuous_gaussian import ContinuousGaussian
from sfumato.report.render import html, markdown, model_card
from sfumato.training.recipe import Recipe
from sfumato.training.task import Optimizer, Task


@dataclass(frozen=True, kw_only=True)
class Forgotten(ContinuousGaussian):
    """Noise that somebody forgot to add."""

    name = "forgotten"

    def add(self, total, std, source):
        return total


@dataclass(frozen=True, kw_only=True)
class Broken(DPSGD):
    """States the guarantee of DP-SGD, and leaves the noise out."""

    name = "broken-dpsgd"

    def plan(self, *given, **more):
        return replace(super().plan(*given, **more), noise=Forgotten())


NUMBERS = {
    "sample_rate": 1.0,
    "expected_batch_size": 24,
    "steps": 20,
    "delta": 1e-3,
    "adjacency": "ADD_OR_REMOVE_ONE",
    "noise_multiplier": 60.0,
    "max_grad_norm": 10.0,
    "input_mean": 0.0,
    "input_std": 1.0,
    "lr": 0.3,
}


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    rng = np.random.default_rng(0)
    data = Population(
        rng.normal(size=(60, 96)).astype(np.float32), "example", labels=rng.integers(0, 3, 60), name="noise"
    )
    task = Task(model=MLP(hidden=()), optimizer=Optimizer(momentum=0.9))
    recipes = [Recipe(task, kind(**NUMBERS)) for kind in (DPSGD, Broken)]
    settings = AuditSettings(attacks=(LossThreshold(),), models=4, fprs=(0.1,), replicates=60)
    return compare(data, recipes, settings, Store(tmp_path_factory.mktemp("store")), executor="inline").record


def test_both_state_the_same_guarantee_and_one_is_found_out(record):
    sound, broken = record.subjects
    assert sound.guarantee.numbers.epsilon == broken.guarantee.numbers.epsilon < 1
    assert "audit run" in sound.guarantee.statement
    (check,) = record.checks
    assert (check.name, check.outcome) == ("guarantee of broken-dpsgd", "failed")
    assert (record.verdict.status, exit_code(run_checks(record, ()))) == ("failed", 2)
    assert record.verdict.sentence.startswith(f"broken-dpsgd: {BROKEN}")
    assert next(n.text for n in record.notices if n.severity == "critical").startswith(f"broken-dpsgd: {BROKEN}")


@pytest.mark.parametrize("render", [html, markdown, model_card])
def test_every_form_of_the_report_says_so(record, render):
    text = render(record)
    assert "the guarantee is broken by this measurement" in text
    assert "Checks failed" in text


@pytest.mark.slow
def test_noise_in_the_answers_does_not_hide_a_broken_guarantee_from_who_asks_often(tmp_path):
    rng = np.random.default_rng(0)
    data = Population(
        rng.normal(size=(60, 96)).astype(np.float32), "example", labels=rng.integers(0, 3, 60), name="noise"
    )
    task = Task(model=SDENet(width=16, steps=1, sigma=4.0), optimizer=Optimizer(momentum=0.9))
    settings = AuditSettings(attacks=(LossThreshold(),), models=4, fprs=(0.1,), replicates=60, draws=(1, 64))
    recipes = [Recipe(task, kind(**NUMBERS)) for kind in (DPSGD, Broken)]
    found = compare(data, recipes, settings, Store(tmp_path), executor="inline").record
    sound, broken = found.subjects
    assert sound.query_risk
    assert above(sound) == []
    texts = [one.text for one in above(broken)]
    assert any("loss, 64 answers finds" in text for text in texts)
    assert not any("loss, one answer finds" in text or text.startswith("loss finds") for text in texts)
    assert found.verdict.sentence.startswith(f"broken-dpsgd: {BROKEN}")
