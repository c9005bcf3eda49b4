"""The automatic choice of an executor, by timing a few real steps of the real task in each way that could win."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from sfumato.errors import SfumatoError, UnsupportedModel
from sfumato.execution.bundles import Bundle, threads
from sfumato.execution.choices import cores
from sfumato.execution.discovery import executor_named
from sfumato.execution.executors.base import Executor
from sfumato.execution.executors.inline import Inline
from sfumato.execution.executors.processes import Populations, Processes, rebuilt, running
from sfumato.execution.executors.stacked import Stacked
from sfumato.execution.jobs import TrainJob
from sfumato.execution.pool import messages
from sfumato.execution.store import Store
from sfumato.execution.timing import Timing, measurable, time_bundle
from sfumato.execution.travel import unpicklable
from sfumato.training.defence import configured
from sfumato.training.preparation import assemble
from sfumato.training.recipe import Recipe

LADDER = (4, 16, 64)  # sizes of stacks that are tried, while each is faster than the one before
LONGEST_STACK = 90.0  # seconds; what an interruption may cost, apart from checkpoints
WORTH_PROCESSES = 20.0  # seconds of work below which starting processes (some seconds) is not tried
TOO_SMALL = 0.5  # seconds of work below which nothing is timed
START_SECONDS = 8.0  # to start processes twice: to time them, and to use them
BUSY = 3.0  # times slower with all threads than with one: they wait for cores that others use
HOPELESS = 1.2  # times what all cores could gain at best: a stack slower than that on one thread is given up
CLEARLY = 0.97  # a way must take less than this share of the time of a simpler one
THREADS_PAY = 0.85  # the same for a way with more torch threads
MEMORY_SHARE = 0.25
TIMING_SHARE = 0.15  # of the estimated work, for timing one size of stack
STILL_GROWING = 0.95  # a larger stack is tried only if this one took less than this share of the best so far


class Choice(NamedTuple):
    """An executor, and the sentence that says why."""

    executor: Executor
    reason: str


class Way(NamedTuple):
    """A way to execute, its seconds per model, and its seconds per model and step."""

    executor: Executor
    seconds: float
    step: float = 0.0

    @property
    def text(self) -> str:
        """For the reason."""
        return f"{self.executor.describe()}: {self.seconds:.3g} s a model"


def choose(jobs: Sequence[TrainJob], store: Store, seconds_known: float | None = None) -> Choice:
    """The executor for jobs of one group (see `bundles.group`), the same again on the same machine and store.

    Args:
        jobs: those to be trained.
        store: keeps the choice.
        seconds_known: of one model that was trained before, for recipes whose steps cannot be timed.
    """
    if len(jobs) == 1:
        return Choice(Inline(), "there is one model to train")
    if not measurable(Bundle((jobs[0],))):
        return _unmeasured(jobs, seconds_known)
    about = _about(jobs)
    known = store.choices.get("executors", about)
    if known is not None:
        return Choice(executor_named(known["name"], **known["fields"]), f"as chosen before: {known['reason']}")
    choice = _measure(jobs)
    fields = asdict(choice.executor)
    store.choices.put("executors", about, {"name": choice.executor.name, "fields": fields, "reason": choice.reason})
    return choice


def _about(jobs: Sequence[TrainJob]) -> dict[str, Any]:
    first = jobs[0]
    return {
        "recipe": first.recipe_hash,
        "shape": list(first.population.records.shape),
        "classes": first.population.classes,
        "dtype": first.dtype,
        "rows": len(first.rows),
        "doublings of jobs": len(jobs).bit_length(),
    }


def _unmeasured(jobs: Sequence[TrainJob], seconds: float | None) -> Choice:
    if seconds is None:
        return Choice(Inline(), "a training function of the user's own cannot be timed in steps; one model first")
    if seconds * len(jobs) > WORTH_PROCESSES and cores() > 1 and unpicklable(jobs[0].recipe) is None:
        return Choice(Processes(), f"the first model took {seconds:.3g} s, so starting processes is worth it")
    return Choice(Inline(), f"the first model took {seconds:.3g} s, so starting processes is not worth it")


def _measure(jobs: Sequence[TrainJob]) -> Choice:
    single = _inline_ways(jobs)
    total = len(jobs) * min(way.seconds for way in single)
    if total < TOO_SMALL:
        return _fastest(single, "too little work to try more")
    counts = _thread_counts() if single[-1].seconds < BUSY * single[0].seconds else (1,)
    stacks, why_not = _stacked_ways(jobs, _best(single), total, counts)
    if counts != _thread_counts():
        why_not = f"{why_not} other programs slow several threads down".strip()
    ways = single + stacks
    total = len(jobs) * _best(ways).seconds
    if total > WORTH_PROCESSES and cores() > 1 and _processes_could_win(ways, len(jobs)):
        more, reason = _process_ways(jobs, ways)
        ways, why_not = ways + more, f"{why_not} {reason}".strip()
    return _fastest(ways, why_not)


def _best(ways: Sequence[Way]) -> Way:
    """The fastest; a later (less simple) way must be clearly faster than those before it, and threads even more so.

    Several torch threads that wait for each other slow down many times over when another program needs a core.
    """
    best = ways[0]
    for way in ways[1:]:
        enough = THREADS_PAY if _threads(way) > _threads(best) else CLEARLY
        best = way if way.seconds < enough * best.seconds else best
    return best


def _threads(way: Way) -> int:
    return way.executor.threads or 1 if isinstance(way.executor, (Inline, Stacked)) else 1


def _fastest(ways: Sequence[Way], remark: str) -> Choice:
    best = _best(ways)
    others = f"; {len(ways)} ways timed" + (f", {remark}" if remark else "")
    if best is ways[0]:
        return Choice(best.executor, f"measured {best.text}{others}")
    return Choice(best.executor, f"measured {best.text} against {ways[0].text}{others}")


def _thread_counts() -> tuple[int, ...]:
    return (1, cores()) if cores() > 1 else (1,)


def _inline_ways(jobs: Sequence[TrainJob]) -> list[Way]:
    _timed(jobs[:1], 1, 0.0)  # the first training of a process loads parts of torch
    return [_way(Inline(count), jobs[:1], count, 0.05) for count in _thread_counts()]


def _way(executor: Executor, jobs: Sequence[TrainJob], count: int, budget: float) -> Way:
    timing = _timed(jobs, count, budget)
    return Way(executor, timing.training, timing.step)


def _timed(jobs: Sequence[TrainJob], count: int, budget: float) -> Timing:
    with threads(count):
        return time_bundle(Bundle(tuple(jobs)), budget)


def _stacked_ways(
    jobs: Sequence[TrainJob], single: Way, total: float, counts: tuple[int, ...]
) -> tuple[list[Way], str]:
    """Larger and larger stacks, while that helps; and why larger ones were not tried."""
    ways: list[Way] = []
    best = single
    for models in _sizes(jobs, single.seconds):
        if 4 * models * best.step * len(counts) > TIMING_SHARE * total:
            return ways, f"timing stacks of {models} would cost too much"
        budget = min(0.15, 0.01 * total)
        try:
            tried = _stacks_of(models, jobs, single, budget, counts)
        except UnsupportedModel as error:
            return ways, f"no stack: {error.message}"
        ways += tried
        fastest = min(tried, key=lambda way: way.seconds)
        if fastest.seconds > STILL_GROWING * best.seconds and models >= LADDER[0]:
            break
        best = min(best, fastest, key=lambda way: way.seconds)
    return ways, ""


def _stacks_of(models: int, jobs: Sequence[TrainJob], single: Way, budget: float, counts: tuple[int, ...]) -> list[Way]:
    """A stack of this size on one thread, and on all of them unless it is far from worth it already."""
    tried: list[Way] = []
    for count in counts:
        tried.append(_way(Stacked(models, count), jobs[:models], count, budget))
        if tried[0].seconds > HOPELESS * cores() * single.seconds:
            break
    return tried


def _sizes(jobs: Sequence[TrainJob], single: float) -> list[int]:
    """Sizes of stacks worth a try: no more than there are jobs, than memory holds, than may be lost by a kill."""
    most = min(len(jobs), _fits_memory(jobs[0]), max(LADDER[0], int(LONGEST_STACK / max(single, 1e-6))))
    return sorted({min(size, most) for size in LADDER} - {1})


def _fits_memory(job: TrainJob) -> int:
    """Models whose weights, gradients, momenta and copies fit into a quarter of the free memory."""
    if not isinstance(job.recipe, Recipe):
        return 1
    task, population = configured(job.recipe.defence, job.recipe.task), job.population
    network = assemble(task, job.recipe.defence, population.records.shape, population.classes, job.seed)
    size = 8 * sum(p.numel() for p in network.parameters()) * job.torch_dtype.itemsize
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return max(1, int(MEMORY_SHARE * free / max(size, 1)))


def _processes_could_win(ways: Sequence[Way], jobs: int) -> bool:
    """Whether processes that did not disturb each other at all would win, with their start."""
    alone = min(way.seconds for way in ways if _threads(way) == 1)
    return START_SECONDS + jobs * alone / cores() < CLEARLY * jobs * _best(ways).seconds


def _process_ways(jobs: Sequence[TrainJob], ways: Sequence[Way]) -> tuple[list[Way], str]:
    """Processes, timed while all of them work at once: two cores may be one core's two threads."""
    reason = unpicklable(jobs[0].recipe)
    if reason is not None:
        return [], f"no processes: {reason}"
    workers = min(cores(), len(jobs))
    one_thread = [way for way in ways if isinstance(way.executor, (Inline, Stacked)) and way.executor.threads == 1]
    best = _best(one_thread).executor
    models = min(best.models, len(jobs) // workers) if isinstance(best, Stacked) else 1
    executor = Processes(workers=workers, models=max(1, models), threads=1)
    try:
        seconds = _concurrent_seconds(jobs, executor)
    except SfumatoError as error:
        return [], f"no processes: {error.message}"
    return [Way(executor, seconds)], ""


def _concurrent_seconds(jobs: Sequence[TrainJob], executor: Processes) -> float:
    """Seconds per model of all workers together, the slowest counted (their start is covered by `WORTH_PROCESSES`)."""
    parts = [tuple(jobs[i * executor.models : (i + 1) * executor.models]) for i in range(executor.worker_count)]
    bundles = [Bundle(part) for part in parts if part]
    times: list[Timing] = []
    with TemporaryDirectory(prefix="sfumato-") as folder, running(executor.worker_count, bundles) as workers:
        populations = Populations(Path(folder))
        for budget in (0.0, 1.0):  # once to warm up
            times = []
            for worker, bundle in zip(workers, bundles, strict=True):
                content = {"bundle": populations.pack(bundle), "threads": executor.thread_count, "budget": budget}
                worker.send("time", content)
            while len(times) < len(workers):
                for message in messages(workers):
                    if message.kind == "timed":
                        times.append(message.content)
                    elif message.kind == "failed":
                        raise rebuilt(message.content)
                    else:
                        raise SfumatoError(f"a worker could not time a step ({message.kind}: {message.content})")
    return max(time.training for time in times) / len(times)
