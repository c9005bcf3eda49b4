import numpy as np
import pytest

from sfumato.execution import choose as module
from sfumato.execution.bundles import cut, group
from sfumato.execution.choose import Way, _best, choose
from sfumato.execution.executors.inline import Inline
from sfumato.execution.executors.processes import Processes
from sfumato.execution.executors.stacked import Stacked
from sfumato.execution.timing import Timing


@pytest.fixture
def timed(monkeypatch):
    """Pretended seconds by (models, threads): nothing here depends on how busy the machine is."""

    def pretend(table, concurrent=None):
        monkeypatch.setattr(module, "cores", lambda: 2)
        monkeypatch.setattr(
            module,
            "_timed",
            lambda jobs, count, budget: Timing(1e-4, 0.0, table[min(len(jobs), max(k for k, _ in table)), count]),
        )
        monkeypatch.setattr(module, "_concurrent_seconds", lambda jobs, executor: concurrent)

    return pretend


def test_one_model_needs_no_timing(make_jobs, store):
    assert choose(make_jobs(2)[:1], store).executor == Inline()


def test_little_work_is_not_timed_further(make_jobs, store, timed):
    timed({(1, 1): 0.01, (1, 2): 0.02})
    assert choose(make_jobs(4), store).executor == Inline(1)


def test_the_fastest_stack_wins(make_jobs, store, timed):
    timed({(1, 1): 1.0, (1, 2): 1.2, (4, 1): 0.3, (4, 2): 0.3, (8, 1): 0.1, (8, 2): 0.05})
    assert choose(make_jobs(8), store).executor == Stacked(8, 2)


def test_on_a_busy_machine_stacks_are_timed_on_one_thread_only(make_jobs, store, timed):
    timed({(1, 1): 1.0, (1, 2): 9.0, (4, 1): 0.5})
    choice = choose(make_jobs(4), store)
    assert choice.executor == Stacked(4, 1)
    assert "other programs" in choice.reason


def test_what_is_not_clearly_faster_loses_to_the_simpler(make_jobs, store, timed):
    timed({(1, 1): 1.0, (1, 2): 0.9, (4, 1): 0.98, (4, 2): 0.9})
    assert choose(make_jobs(4), store).executor == Inline(1)


def test_processes_are_timed_where_the_work_is_long(make_jobs, store, timed):
    timed({(1, 1): 10.0, (1, 2): 11.0, (4, 1): 12.0, (4, 2): 12.0}, concurrent=6.0)
    choice = choose(make_jobs(4), store)
    assert choice.executor == Processes(workers=2, models=1, threads=1)
    assert "6 s a model" in choice.reason


def test_the_choice_is_kept(make_jobs, store, timed):
    timed({(1, 1): 1.0, (1, 2): 0.5, (4, 1): 2.0, (4, 2): 2.0})
    first = choose(make_jobs(4), store)
    timed({(1, 1): 1.0, (1, 2): 5.0, (4, 1): 2.0, (4, 2): 2.0})
    again = choose(make_jobs(4), store)
    assert again.executor == first.executor == Inline(2)
    assert "as chosen before" in again.reason


def test_threads_must_pay_more_than_other_ways():
    assert _best([Way(Inline(1), 1.0), Way(Inline(2), 0.9)]).executor == Inline(1)
    assert _best([Way(Inline(1), 1.0), Way(Stacked(4, 1), 0.9)]).executor == Stacked(4, 1)


def test_cuts_are_even_and_share_out_among_workers():
    assert [len(part) for part in cut(range(33), 32)] == [16, 17]
    assert [len(part) for part in cut(range(6), 4, workers=2)] == [3, 3]
    assert [len(part) for part in cut(range(10), 3, workers=2)] == [2, 3, 3, 2]
    assert [len(part) for part in cut(range(1), 4, workers=2)] == [1]
    assert [i for part in cut(range(33), 5) for i in part] == list(range(33))


def test_only_jobs_of_one_kind_are_grouped(make_jobs):
    jobs = [*make_jobs(4), *make_jobs(2, "float32"), *make_jobs(2, batch_size=5)]
    assert [len(g) for g in group(jobs)] == [4, 2, 2]
    assert np.unique([len(job.rows) for job in jobs]).tolist() == [30]
