"""Jobs whose models answer at random: every executor and every resumed run asks them the same."""

from dataclasses import replace

import numpy as np
import pytest

from sfumato.data.membership import Membership
from sfumato.defences.undefended import Undefended
from sfumato.errors import UsageError
from sfumato.execution.bundles import Bundle
from sfumato.execution.cost import estimate
from sfumato.execution.executors.inline import Inline
from sfumato.execution.executors.processes import Processes
from sfumato.execution.executors.stacked import Stacked
from sfumato.execution.jobs import TrainJob
from sfumato.execution.run import execute
from sfumato.execution.store import Store
from sfumato.execution.travel import packed, unpacked
from sfumato.models.sde_net import SDENet
from sfumato.targets.queries import QuerySet
from sfumato.training.recipe import FunctionRecipe, Recipe
from sfumato.training.task import Optimizer, Task

GAME, OTHER = np.array([2, 5, 40]), np.array([1, 5, 40])
ASKED = [
    QuerySet("none", 2),
    QuerySet("none", 4),
    QuerySet("none", 8, scope="game"),
    QuerySet("none", 4, "common"),
    QuerySet(noise="off"),
    QuerySet(noise="off", signal="gradient-norm"),
    QuerySet(noise="off", scope="game", signal="input-gradient-norm"),
    QuerySet("noise-16", 2, scope="game", scale=0.2),
    QuerySet(repeats=3, scope="game", signal="boundary-distance", budget=50),
]


@pytest.fixture(scope="module")
def random_jobs(table):
    task = Task(model=SDENet(width=6, steps=2, sigma=0.5), epochs=2, batch_size=10, optimizer=Optimizer(lr=0.05))
    design = Membership.half_pairs(table.units, 4, np.random.default_rng(1))
    recipe = Recipe(task, Undefended())
    return [TrainJob(recipe, table, design.rows(table, m), 7 + m, "float64", asked=GAME) for m in range(4)]


def assert_same(one, other, tolerance=0.0):
    assert [r.key for r in one.results] == [r.key for r in other.results]
    for a, b in zip(one.results, other.results, strict=True):
        assert a.scalars.keys() == b.scalars.keys() == {q.key for q in ASKED}
        np.testing.assert_allclose(a.logits, b.logits, rtol=0, atol=tolerance)
        for key, table in a.scalars.items():
            assert table.keys() == b.scalars[key].keys()
            for name, values in table.items():
                np.testing.assert_allclose(
                    values, b.scalars[key][name], rtol=0, atol=tolerance, err_msg=f"{key} {name}"
                )


@pytest.fixture(scope="module")
def inline(random_jobs, tmp_path_factory):
    return execute(random_jobs, Store(tmp_path_factory.mktemp("inline")), executor=Inline(), queries=ASKED)


def test_a_stack_and_one_after_the_other_give_the_same_answers(random_jobs, inline, store):
    assert_same(inline, execute(random_jobs, store, executor=Stacked(4), queries=ASKED), 1e-5)
    game = inline.results[0].scalars["none-x8-game"]["logit"][:, 0]
    assert np.flatnonzero(np.isfinite(game)).tolist() == GAME.tolist()
    assert (inline.results[0].scalars["none-x4"]["deviation"] > 0).all()


@pytest.mark.slow
def test_other_processes_give_the_same_answers(random_jobs, inline, store):
    assert_same(inline, execute(random_jobs, store, executor=Processes(workers=2), queries=ASKED), 1e-6)


def test_a_job_travels_with_the_records_in_the_game(random_jobs, tmp_path):
    there = packed(Bundle(tuple(random_jobs[:1])), tmp_path)
    (job,) = unpacked(there, {str(tmp_path): random_jobs[0].population}).jobs
    np.testing.assert_array_equal(job.asked, GAME)
    assert (job.asked_hash, job.key) == (random_jobs[0].asked_hash, random_jobs[0].key)


def test_a_run_that_was_stopped_while_asking_goes_on_to_the_same_answers(random_jobs, inline, store):
    execute(random_jobs, store, executor=Inline())
    events = []

    def stop(event):
        events.append(event)
        if sum(getattr(e, "how", "") == "asked again" for e in events) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        execute(random_jobs, store, executor=Inline(), queries=ASKED, on_event=stop)
    resumed = execute(random_jobs, store, executor=Inline(), queries=ASKED)
    assert (resumed.trained, resumed.reused, resumed.requeried) == (0, 2, 2)
    assert_same(inline, resumed, 1e-6)


def test_answers_for_one_game_are_never_read_for_another(random_jobs, store):
    queries = [QuerySet("none", 2, scope="game"), QuerySet("none", 2)]
    other = [replace(job, asked=OTHER) for job in random_jobs]
    assert [job.key for job in other] == [job.key for job in random_jobs]
    execute(random_jobs, store, executor=Inline(), queries=queries)
    assert store.state_of(random_jobs[0], queries) == "ready"
    assert store.state_of(other[0], queries) == "needs queries"
    assert store.get(other[0].key, queries, asked=other[0].asked_hash).scalars.keys() == {"none-x2"}
    again = execute(other, store, executor=Inline(), queries=queries)
    assert (again.trained, again.requeried) == (0, 4)
    for asked, result in ((OTHER, again.results[0]), (GAME, execute(random_jobs, store, queries=queries).results[0])):
        found = result.scalars["none-x2-game"]["logit"][:, 0]
        assert np.flatnonzero(np.isfinite(found)).tolist() == asked.tolist()
    assert {q.key for q in store.queries_of(other[0].key)} == {"none-x2"}
    assert {q.key for q in store.queries_of(other[0].key, asked=other[0].asked_hash)} == {"none-x2", "none-x2-game"}


def test_one_call_asks_each_model_about_one_game(random_jobs, store):
    with pytest.raises(UsageError, match="one game"):
        execute([random_jobs[0], replace(random_jobs[0], asked=OTHER)], store)
    for wrong in (np.array([0, 0]), np.array([60]), np.array([0.5])):
        with pytest.raises(UsageError, match="in the game"):
            replace(random_jobs[0], asked=wrong)


def test_what_cannot_be_asked_is_stored_as_such_and_not_tried_again(random_jobs, store):
    def own_loop(x, y, seed):
        return lambda records: records[:, :3]

    recipe = FunctionRecipe(own_loop, "own loop", Undefended())
    jobs = [replace(job, recipe=recipe, dtype="float32") for job in random_jobs[:2]]
    queries = [QuerySet(noise="off"), QuerySet("none", 2)]
    assert execute(jobs, store, queries=queries).trained == 2
    again = execute(jobs, store, queries=queries)
    assert (again.trained, again.reused) == (0, 2)
    assert again.results[0].scalars["none-x1-off"] == {}


def test_the_estimate_counts_shared_passes_once_and_the_game_by_its_records(random_jobs, store):
    queries = [QuerySet("none", 2), QuerySet("none", 4), QuerySet("none", 8, scope="game")]
    assert estimate(random_jobs, store, queries).forward_passes == 4 * (60 * (1 + 4) + 3 * 8)
