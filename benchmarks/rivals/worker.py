"""What one process of the benchmark does: time, remember, or profile one way on one network."""

from __future__ import annotations

import copy
import resource
import sys
import time
import traceback
from dataclasses import dataclass, replace

import torch
from torch import nn

from rivals.networks import NETWORKS, Batch
from rivals.plain import Settings, Step, clipped_sum_one_by_one, single_norms, trainable
from rivals.ways import WAYS

CHECK_LR = 1024.0  # The released gradient is (before - after) / lr: a large rate keeps the weights' rounding out of it.


@dataclass(frozen=True)
class Job:
    """One process.

    Args:
        task: "time", "memory" or "profile".
        steps: pairs to time, or steps to take.
        warm_up: pairs that are not counted.
    """

    task: str
    network: str
    way: str
    steps: int
    warm_up: int
    threads: int
    device: str = "cpu"
    fastdp: str | None = None


def run(job: Job) -> dict[str, object]:
    """The answer of the process; an error is an answer too: `failure` says what it was."""
    torch.set_num_threads(job.threads)
    try:
        return {"time": timed, "memory": remembered, "profile": profiled}[job.task](job)
    except Exception as error:
        traceback.print_exc(file=sys.stderr)
        return {"failure": said(error)}


def said(error: Exception) -> str:
    """Type and message of an error, one line of at most 300 characters."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]


def prepared(job: Job, settings: Settings | None = None) -> Step:
    """The step of the job's way on a fresh model."""
    network, way = NETWORKS[job.network], WAYS[job.way]
    model = way.adapt(network.module(job.device))
    return way.prepare(model, network.batch(job.device), settings or Settings(fastdp=job.fastdp))


def timed(job: Job) -> dict[str, object]:
    """Milliseconds of private and plain steps in turn, and the error of the way without noise."""
    private, plain = prepared(job), prepared(replace(job, way="plain"))
    for _ in range(job.warm_up):
        private()
        plain()
    pairs = [(milliseconds(private, job.device), milliseconds(plain, job.device)) for _ in range(job.steps)]
    found: dict[str, object] = {"private_ms": [a for a, _ in pairs], "plain_ms": [b for _, b in pairs]}
    del private, plain
    if WAYS[job.way].draws:
        return found | {"relative_error": None}
    try:
        found["relative_error"] = relative_error(job)
    except Exception as error:
        traceback.print_exc(file=sys.stderr)
        found |= {"relative_error": None, "check_failure": said(error)}
    return found


def milliseconds(step: Step, device: str) -> float:
    """The time of one step, the device's queue emptied before and after."""
    synchronise(device)
    start = time.perf_counter()
    step()
    synchronise(device)
    return 1000 * (time.perf_counter() - start)


def synchronise(device: str) -> None:
    """Wait until the device has done what it was given."""
    if device != "cpu":
        torch.cuda.synchronize()


def relative_error(job: Job) -> float:
    """Distance of the clipped mean gradient, noise off, from a float64 loop over single examples, over its norm.

    The clip is the median norm of the first nine examples, so that about half are clipped and half are not.
    """
    network, way = NETWORKS[job.network], WAYS[job.way]
    batch = network.batch(job.device)
    model = way.adapt(network.module(job.device))
    same_function(model, network.module(job.device), batch)
    exact = copy.deepcopy(model).double()
    doubled = Batch(batch.x.double() if batch.x.is_floating_point() else batch.x, batch.y)
    clip = float(single_norms(exact, Batch(doubled.x[:9], doubled.y[:9])).median())
    expected = [total / len(batch.y) for total in clipped_sum_one_by_one(exact, doubled, clip)]
    before = [p.detach().clone() for p in trainable(model)]
    way.prepare(model, batch, Settings(clip, noise_multiplier=0.0, lr=CHECK_LR, fastdp=job.fastdp))()
    released = [(b.double() - a.detach().double()) / CHECK_LR for b, a in zip(before, trainable(model), strict=True)]
    return distance(released, expected)


def distance(released: list[torch.Tensor], expected: list[torch.Tensor]) -> float:
    """||released - expected|| / ||expected||, all tensors together."""
    off = sum(float((r - e).square().sum()) for r, e in zip(released, expected, strict=True))
    return (off / sum(float(e.square().sum()) for e in expected)) ** 0.5


def same_function(adapted: nn.Module, original: nn.Module, batch: Batch) -> None:
    """Stop where a model that was adapted to a way answers otherwise than the original."""
    with torch.no_grad():
        off = (adapted(batch.x) - original(batch.x)).abs().max()
    if float(off) > 1e-4:
        raise ValueError(
            f"Expected the adapted model to compute the same function, got answers {float(off):.2g} apart."
        )


def remembered(job: Job) -> dict[str, object]:
    """Peak memory of a process that takes nothing but steps of this way, and its peak before the first, in MB."""
    step = prepared(job)
    before = peak_mb(job.device)
    for _ in range(job.warm_up + job.steps):
        step()
    return {"peak_mb": peak_mb(job.device), "before_mb": before}


def peak_mb(device: str) -> float:
    """Peak resident memory of this process, or peak of torch's allocations on the GPU."""
    if device != "cpu":
        return torch.cuda.max_memory_allocated() / 2**20
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def profiled(job: Job) -> dict[str, object]:
    """The operations that take most time in a step of this way."""
    from torch.profiler import ProfilerActivity, profile

    step = prepared(job)
    for _ in range(job.warm_up):
        step()
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if job.device != "cpu" else [])]
    with profile(activities=activities) as profiler:
        for _ in range(job.steps):
            step()
            synchronise(job.device)
    by = "self_cpu_time_total" if job.device == "cpu" else "self_cuda_time_total"
    return {"table": profiler.key_averages().table(sort_by=by, row_limit=15, max_name_column_width=45)}
