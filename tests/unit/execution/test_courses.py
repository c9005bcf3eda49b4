"""Jobs whose training is a course of several: cut off between stages, and gone on with through the store."""

from dataclasses import replace

import numpy as np
import pytest

from sfumato.defences.distillation import Distillation
from sfumato.defences.selena import SELENA
from sfumato.execution.executors.stacked import Stacked
from sfumato.execution.run import execute
from sfumato.execution.store import Store
from sfumato.training.checkpoint import Checkpoint
from sfumato.training.recipe import Recipe
from sfumato.training.stages import Stages


@pytest.fixture
def make(make_jobs, recipe):
    def course(defence):
        return make_jobs(2, recipe=Recipe(recipe.task, defence))

    return course


def assert_same(done, whole):
    for one, other in zip(done.results, whole.results, strict=True):
        np.testing.assert_array_equal(one.logits, other.logits)
        assert one.facts["history"] == other.facts["history"]
        assert (one.facts["epochs"], one.facts["tallies"]) == (other.facts["epochs"], other.facts["tallies"])


@pytest.mark.parametrize("stages", [1, 2, 5, 7])
def test_a_job_that_is_cut_off_between_stages_goes_on_and_gives_the_same(make, store, tmp_path, monkeypatch, stages):
    jobs = make(SELENA(sub_models=4, left_out=2))
    whole = execute(jobs, Store(tmp_path / "whole"), executor="inline")
    through, begun, limit = Stages.through, [], [stages]

    def stopping(self, stage, run):
        if len(begun) == limit[0]:
            raise KeyboardInterrupt

        def told(options):
            begun.append(stage)
            return run(options)

        return through(self, stage, told)

    monkeypatch.setattr(Stages, "through", stopping)
    with pytest.raises(KeyboardInterrupt):
        execute(jobs, store, executor="inline")
    assert len(list((store.root / "running").iterdir())) == stages % 5
    limit[0] = 100
    assert_same(execute(jobs, store, executor="inline"), whole)
    assert len(begun) == 10  # five stages of two models, none of them twice
    assert list((store.root / "running").iterdir()) == []


def test_within_a_stage_it_goes_on_after_the_last_kept_epoch(make, store, tmp_path, monkeypatch):
    jobs = make(Distillation())[:1]
    whole = execute(jobs, Store(tmp_path / "whole"), executor="inline")
    epochs, part = [], Checkpoint.part
    monkeypatch.setattr(Checkpoint, "part", lambda self, name: replace(part(self, name), every=0.0))

    def stop(event):
        if event.kind == "epoch":
            epochs.append(event.epoch)
            if event.epoch == 3 and len(epochs) == 3:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        execute(jobs, store, executor="inline", on_event=stop)
    assert_same(execute(jobs, store, executor="inline", on_event=stop), whole)
    assert epochs == [1, 2, 3, 4]


def test_a_stack_of_courses_is_trained_one_by_one_with_the_reason(make, store, tmp_path):
    jobs = make(Distillation())
    done = execute(jobs, store, executor=Stacked(2))
    assert any("one model at a time with distillation" in notice.text for notice in done.notices)
    assert all("distillation" in result.facts["not_stacked_because"] for result in done.results)
    assert_same(done, execute(jobs, Store(tmp_path / "alone"), executor="inline"))


@pytest.mark.slow
def test_processes_give_the_same(make, store, tmp_path):
    jobs = make(Distillation())
    whole = execute(jobs, Store(tmp_path / "alone"), executor="inline")
    assert_same(execute(jobs, store, executor="processes"), whole)
