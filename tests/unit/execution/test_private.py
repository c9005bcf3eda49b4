"""Jobs of a defence with a private update: trained one by one, whatever was asked for, and named by its code too."""

import numpy as np
import pytest

from sfumato.accounting.guarantee import Guarantee, guarantee
from sfumato.accounting.history import History
from sfumato.data.membership import Membership
from sfumato.defences.dpsgd import DPSGD
from sfumato.errors import UnsupportedModel
from sfumato.execution.bundles import Bundle
from sfumato.execution.choose import Way, _stacked_ways, choose
from sfumato.execution.code import COVERED, code_digest
from sfumato.execution.executors.inline import Inline
from sfumato.execution.executors.processes import Processes
from sfumato.execution.executors.stacked import Stacked
from sfumato.execution.jobs import TrainJob
from sfumato.execution.run import execute
from sfumato.execution.store import Store
from sfumato.execution.timing import time_bundle
from sfumato.models.mlp import MLP
from sfumato.training.recipe import Recipe
from sfumato.training.task import Task


@pytest.fixture(scope="module")
def jobs(table):
    recipe = Recipe(Task(model=MLP(hidden=(4,))), DPSGD.example())
    design = Membership.half_pairs(table.units, 4, np.random.default_rng(1))
    return [TrainJob(recipe, table, design.rows(table, m), 30 + m, label=f"private {m}") for m in range(4)]


def test_a_stack_is_refused_and_its_models_are_trained_one_by_one(jobs, tmp_path):
    alone = execute(jobs, Store(tmp_path / "inline"), executor=Inline(1))
    stacked = execute(jobs, Store(tmp_path / "stacked"), executor=Stacked(4, 1))
    assert any("trained one by one" in notice.text for notice in stacked.notices)
    for one, other in zip(alone.results, stacked.results, strict=True):
        np.testing.assert_array_equal(one.logits, other.logits)
        assert other.facts["stacked_with"] == 1
        assert "one model at a time" in other.facts["not_stacked_because"]


def test_timing_a_stack_is_refused_so_that_no_choice_falls_on_it(jobs, tmp_path):
    with pytest.raises(UnsupportedModel, match="one model at a time"):
        time_bundle(Bundle(tuple(jobs)), 0.0)
    ways, reason = _stacked_ways(jobs, Way(Inline(1), 10.0), 40.0, (1,))
    assert ways == []
    assert reason.startswith("no stack: ")
    assert isinstance(choose(jobs, Store(tmp_path)).executor, (Inline, Processes))


def test_the_results_carry_an_audit_only_guarantee(jobs, tmp_path):
    done = execute(jobs[:2], Store(tmp_path), executor=Inline(1))
    found = [guarantee(History.from_plain(result.facts["history"])) for result in done.results]
    assert all(isinstance(one, Guarantee) and one.audit_only for one in found)


@pytest.mark.slow
def test_processes_train_the_same_models(jobs, tmp_path):
    alone = execute(jobs, Store(tmp_path / "inline"), executor=Inline(1))
    apart = execute(jobs, Store(tmp_path / "apart"), executor=Processes(workers=1, models=2))
    for one, other in zip(alone.results, apart.results, strict=True):
        np.testing.assert_allclose(one.logits, other.logits, rtol=0, atol=1e-5)


def test_the_code_of_the_accountants_and_of_the_private_steps_is_part_of_every_key(monkeypatch):
    assert {"sfumato.accounting", "sfumato.private"} <= set(COVERED)
    before = code_digest()
    code_digest.cache_clear()
    monkeypatch.setattr("sfumato.execution.code.COVERED", tuple(n for n in COVERED if n != "sfumato.private"))
    assert code_digest() != before
    code_digest.cache_clear()
