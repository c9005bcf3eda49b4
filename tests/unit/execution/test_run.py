import importlib.util
import os
import signal
import subprocess
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from sfumato.errors import SfumatoError
from sfumato.execution.cost import estimate
from sfumato.execution.events import Chosen
from sfumato.execution.executors.inline import Inline
from sfumato.execution.executors.processes import Processes
from sfumato.execution.executors.stacked import Stacked
from sfumato.execution.run import execute
from sfumato.execution.store import Store
from sfumato.models.base import ModelFamily
from sfumato.models.user_file import FileModel
from sfumato.targets.queries import QuerySet
from sfumato.training.recipe import FunctionRecipe, Recipe

REPEATED = QuerySet("none", 2)


def linear_function(x, y, seed):
    """A user's own loop: one step of gradient descent on a linear model."""
    model = nn.Linear(x.shape[1], 3)
    loss = nn.functional.cross_entropy(model(torch.from_numpy(x)), torch.from_numpy(y))
    loss.backward()
    with torch.no_grad():
        for p in model.parameters():
            p -= 0.1 * p.grad
    return model


def test_results_come_in_the_order_of_the_jobs_and_equal_jobs_are_trained_once(make_jobs, store):
    a, b = make_jobs(2)
    done = execute([b, a, b], store, executor="inline")
    assert [r.key for r in done.results] == [b.key, a.key, b.key]
    assert (done.trained, done.reused, done.complete) == (2, 0, True)
    assert done.results[0].logits.shape == (60, 3)
    assert done.results[0].logits.dtype == np.float32
    assert "inline" in done.executor


def test_a_second_run_reuses_and_a_changed_recipe_does_not(make_jobs, store):
    jobs = make_jobs(2)
    first = execute(jobs, store, executor="inline")
    again = execute(jobs, store, executor="stacked")
    assert (again.trained, again.reused) == (0, 2)
    np.testing.assert_array_equal(again.results[0].logits, first.results[0].logits)
    other = execute(make_jobs(2, batch_size=15), store, executor="inline")
    assert other.trained == 2
    assert not np.array_equal(other.results[0].logits, first.results[0].logits)


def test_new_queries_are_answered_from_stored_weights(make_jobs, store):
    jobs = make_jobs(2)
    execute(jobs, store, executor="inline")
    assert store.state_of(jobs[0], [REPEATED]) == "needs queries"
    asked = execute(jobs, store, executor="inline", queries=[REPEATED])
    assert (asked.trained, asked.requeried) == (0, 2)
    fresh = execute(jobs, Store(store.root / "other"), executor="inline", queries=[REPEATED])
    for name, values in fresh.results[0].scalars[REPEATED.key].items():
        np.testing.assert_array_equal(asked.results[0].scalars[REPEATED.key][name], values)
    assert store.state_of(jobs[0], [REPEATED]) == "ready"


def test_without_weights_new_queries_need_training_and_old_answers_stay(make_jobs, store):
    jobs = make_jobs(2)
    small = Store(store.root, limit_bytes=0)
    done = execute(jobs, small, executor="inline", queries=[REPEATED])
    assert any("deleted" in notice.text for notice in done.notices)
    assert not store.get(jobs[0].key).has_weights
    other = QuerySet("none", 3)
    assert store.state_of(jobs[0], [other]) == "needs training"
    assert estimate(jobs, store, [other]).models_to_train == 2
    assert execute(jobs, small, executor="inline", queries=[other]).trained == 2
    assert {q.key for q in store.queries_of(jobs[0].key)} == {REPEATED.key, other.key}


def test_a_damaged_result_is_moved_aside_aloud_and_made_again(make_jobs, store):
    jobs = make_jobs(2)
    first = execute(jobs, store, executor="inline")
    path = store.root / "jobs" / jobs[0].key[:2] / jobs[0].key / "logits.npz"
    path.write_bytes(path.read_bytes()[:-1])
    again = execute(jobs, store, executor="inline")
    assert (again.trained, again.reused) == (1, 1)
    assert str(path) in again.notices[0].text
    np.testing.assert_array_equal(again.results[0].logits, first.results[0].logits)


def test_damaged_weights_are_never_asked(make_jobs, store):
    jobs = make_jobs(2)
    execute(jobs, store, executor="inline")
    path = store.root / "jobs" / jobs[0].key[:2] / jobs[0].key / "weights.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    again = execute(jobs, store, executor="inline", queries=[REPEATED])
    assert (again.trained, again.requeried) == (1, 1)


def test_the_budget_ends_the_run_between_bundles(make_jobs, store):
    jobs = make_jobs(4)
    done = execute(jobs, store, executor="inline", budget_seconds=0.0)
    assert done.missing == (0, 1, 2, 3)
    assert len(done.results) == 0
    assert execute(jobs, store, executor="inline").complete


def test_an_interruption_keeps_what_is_finished(make_jobs, store):
    jobs = make_jobs(4)
    seen = []

    def stop_at_second(event):
        seen.append(event)
        if sum(e.kind == "job-done" for e in seen) == 2 and event.kind == "bundle-started":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        execute(jobs, store, executor="inline", on_event=stop_at_second)
    assert (seen[-1].kind, seen[-1].how, seen[-1].trained, seen[-1].missing) == ("ended", "interrupted", 2, 2)
    assert execute(jobs, store, executor="inline").reused == 2


def test_a_diverging_training_is_an_error_and_says_so_at_the_end(make_jobs, store):
    events = []
    jobs = make_jobs(2)
    wild = replace(jobs[0].recipe.task, optimizer=replace(jobs[0].recipe.task.optimizer, lr=1e200))
    with pytest.raises(SfumatoError, match="finite"):
        execute(
            [replace(j, recipe=Recipe(wild, j.recipe.defence)) for j in jobs],
            store,
            executor="inline",
            on_event=events.append,
        )
    assert events[-1].how == "failed"


def test_two_runs_at_once_share_the_work(make_jobs, store):
    jobs = make_jobs(6, epochs=20)
    done = []
    threads = [threading.Thread(target=lambda: done.append(execute(jobs, store, executor="inline"))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(d.trained for d in done) == 6
    assert all(d.complete for d in done)
    np.testing.assert_array_equal(done[0].results[5].logits, done[1].results[5].logits)


def test_a_users_function_is_trained_asked_and_stored(make_jobs, store):
    job = make_jobs(2, "float32")
    recipe = FunctionRecipe(linear_function, "own loop", job[0].recipe.defence)
    jobs = [replace(j, recipe=recipe) for j in job]
    done = execute(jobs, store, executor="stacked", queries=[REPEATED])
    assert done.trained == 2
    assert "cannot stack" in done.notices[0].text
    assert "cannot stack" in done.results[0].facts["not_stacked_because"]
    assert not done.results[0].has_weights
    assert store.state_of(jobs[0], [QuerySet("none", 3)]) == "needs training"
    assert estimate([replace(jobs[0], seed=9)], store).unknown == ("own loop",)
    assert execute([replace(j, seed=9) for j in jobs], store).trained == 2


NETWORKS = {
    "mixes": """
class Net(nn.Module):
    def __init__(self, i, o):
        super().__init__(); self.l = nn.Linear(i, o)
    def forward(self, x):
        return self.l(x - x.mean(0, keepdim=True))
""",
    "shared": """
class Net(nn.Module):
    def __init__(self, i, o):
        super().__init__(); self.a = nn.Linear(i, i); self.b = nn.Linear(i, i); self.b.weight = self.a.weight
        self.l = nn.Linear(i, o)
    def forward(self, x):
        return self.l(self.b(self.a(x).relu()))
""",
    "unknown": """
class Net(nn.Module):
    def __init__(self, i, o):
        super().__init__(); self.scale = nn.Parameter(torch.ones(i)); self.l = nn.Linear(i, o)
    def forward(self, x):
        return self.l(x * self.scale)
""",
}


@pytest.mark.parametrize(
    ("kind", "reason"), [("mixes", "mixes records"), ("shared", "shared by"), ("unknown", "stacked form")]
)
def test_a_refused_stack_is_trained_one_by_one_with_the_reason(make_jobs, store, tmp_path, kind, reason):
    file = tmp_path / f"{kind}.py"
    file.write_text(
        "import torch\nfrom torch import nn\n"
        f"{NETWORKS[kind]}\ndef make(shape, outputs): return Net(shape[0], outputs)\n"
    )
    jobs = make_jobs(4, model=FileModel(path=str(file)))
    done = execute(jobs, store, executor=Stacked(4))
    assert any(reason in notice.text for notice in done.notices)
    assert all(reason in result.facts["not_stacked_because"] for result in done.results)
    assert all(result.facts["stacked_with"] == 1 for result in done.results)
    alone = execute(jobs, Store(tmp_path / "alone"), executor="inline")
    np.testing.assert_array_equal(alone.results[3].logits, done.results[3].logits)


class LocalModel(ModelFamily):
    """Cannot be imported by another process under this name."""

    name = "local"

    def build(self, shape, outputs):
        return nn.Linear(shape[0], outputs)


LocalModel.__qualname__ = "nowhere.LocalModel"


def test_what_cannot_be_sent_to_a_process_is_trained_here_with_the_reason(make_jobs, store):
    jobs = make_jobs(2, model=LocalModel())
    done = execute(jobs, store, executor=Processes(workers=1))
    assert done.trained == 2
    assert "cannot be sent" in done.notices[0].text


def test_the_automatic_choice_says_why_and_is_kept(make_jobs, store):
    events: list[object] = []
    first = execute(make_jobs(4), store, on_event=events.append)
    chosen = next(event for event in events if isinstance(event, Chosen))
    assert "measured" in chosen.reason
    assert first.executor == chosen.executor
    again = execute(make_jobs(4), Store(store.root), queries=[])
    assert again.reused == 4
    other = [replace(job, seed=job.seed + 50) for job in make_jobs(4)]
    events.clear()
    execute(other, store, on_event=events.append)
    assert "as chosen before" in next(event for event in events if isinstance(event, Chosen)).reason


def test_an_estimate_counts_and_then_learns_from_the_store(make_jobs, store):
    jobs = make_jobs(4)
    before = estimate(jobs, store, [REPEATED])
    assert (before.models_to_train, before.models_ready, before.requeries) == (4, 0, 0)
    assert before.forward_passes == 4 * 60 * 3
    assert 0 < before.seconds_low < before.seconds_high
    assert before.bytes > 4 * 60 * 3 * 4
    execute(jobs[:2], store, executor="inline")
    after = estimate(jobs, store)
    assert (after.models_to_train, after.models_ready) == (2, 2)
    facts = [store.facts(job.key)["seconds"] for job in jobs[:2]]
    assert after.seconds_high == pytest.approx(1.5 * 2 * np.mean(facts))


def run_and_kill(store, executor, after):
    """Run the jobs in a forked process and kill it after that many events (beyond the last: it finishes)."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        execute(load_killed_jobs(), store, executor=executor, on_event=lambda _: os.write(writing, b"."))
        os._exit(0)
    os.close(writing)
    for _ in range(after):
        if not os.read(reading, 1):
            break
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.close(reading)


def check_resume(tmp_path, executor, moments):
    jobs = load_killed_jobs()
    expected = execute(jobs, Store(tmp_path / "whole"), executor=executor).results
    for number, after in enumerate(moments):
        store = Store(tmp_path / f"killed{number}")
        run_and_kill(store, executor, int(after))
        kept = len(store.keys())
        resumed = execute(jobs, store, executor=executor)
        assert resumed.reused >= kept  # a worker may still have been storing one when the count was taken
        assert resumed.complete
        for one, other in zip(resumed.results, expected, strict=True):
            np.testing.assert_allclose(one.logits, other.logits, rtol=0, atol=1e-6)


def load_killed_jobs():
    spec = importlib.util.spec_from_file_location("killed_jobs", Path(__file__).with_name("killed_jobs.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.jobs()


@pytest.mark.slow
@pytest.mark.parametrize(("executor", "times"), [(Inline(), 20), (Stacked(3), 20), (Processes(workers=2), 5)])
def test_kill_9_at_random_moments_and_the_next_run_gives_the_same_scores(tmp_path, executor, times):
    check_resume(tmp_path, executor, np.random.default_rng(5).integers(1, 60, size=times))


def test_kill_9_and_the_next_run_gives_the_same_scores(tmp_path):
    check_resume(tmp_path, Stacked(3), [2, 11, 25])


@pytest.mark.slow
def test_a_worker_that_dies_is_reported_and_its_models_are_tried_once_more(store):
    jobs, killed = load_killed_jobs()[:4], []

    def kill_first(event):
        if event.kind == "epoch" and not killed:
            workers = subprocess.run(
                ["pgrep", "-P", str(os.getpid()), "-f", "sfumato.execution.worker"], capture_output=True
            )
            killed.append(int(workers.stdout.split()[0]))
            os.kill(killed[0], signal.SIGKILL)

    done = execute(jobs, store, executor=Processes(workers=1, models=4), on_event=kill_first)
    assert done.complete
    expected = execute(jobs, Store(store.root / "other"), executor="inline").results
    for one, other in zip(done.results, expected, strict=True):
        np.testing.assert_allclose(one.logits, other.logits, rtol=0, atol=1e-6)
    assert any("signal 9" in notice.text for notice in done.notices)
    assert killed


@pytest.mark.slow
def test_an_error_in_a_worker_is_raised_here_as_what_it_was(make_jobs, store):
    job = make_jobs(2)[0]
    wild = replace(job.recipe.task, optimizer=replace(job.recipe.task.optimizer, lr=1e200))
    with pytest.raises(SfumatoError, match="finite"):
        execute([replace(job, recipe=Recipe(wild, job.recipe.defence))], store, executor=Processes(workers=1))
