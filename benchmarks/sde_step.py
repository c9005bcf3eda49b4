"""What a step of a neural SDE costs: against residual blocks, torchsde and torchdiffeq; also with clipped gradients.

    python benchmarks/sde_step.py --json

Every number compares two ways of doing the same, in a process of its own that does them in turn: forward and backward
through N drift evaluations, parameters and input. A way of ours draws its noise from named streams, as in a training,
with the generator named under `generator`; drawing is inside the time.

- `per_evaluation_ratio`: our SDE block (Euler-Maruyama, additive noise, time input) over N residual blocks with the
  same convolutions and norms, 64 channels of 28x28, batch 16, N = 10; `..._7x7` is 32 channels of 7x7, batch 64, N = 6.
  `..._without_noise` is the ODE block, `..._cryptographic` draws from AES-256 keyed by the operating system.
- `torchsde_speedup_conv`, `..._small`: time of torchsde's Euler by direct backpropagation over ours, on the same field:
  64 channels of 28x28 with 10 steps, and 64 units (batch 32) with 100 steps. `torchdiffeq_...` is its Euler against our
  ODE block. `..._adjoint_...` are their adjoints.
- `..._per_example`: clipped sums of per-example gradients, no gradient for the input: ours by the engine of
  `sfumato.private`, residual blocks by the same, the libraries by `torch.func.vmap(grad)`.

A key is the median over pairs; `KEY_low` and `KEY_high` are the order statistics that hold the true median with the
confidence `KEY_confidence` (binomial). `KEY_memory_ratio` is ours over theirs of the peak resident memory above that
before the first step, of processes that take only such steps: the median over processes, and their range as `_low` and
`_high`; below one megabyte counts as one. A way that fails has null, and `KEY_failure` says why.
The exit status is 1 if one of ours failed. Nothing else should run on the machine meanwhile: the load is printed.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

from dp_overhead import cores, median_interval, surroundings, version_of

# Not torch: a process starts with the peak memory of the one that started it, so this one stays small.

GENERATOR = "AES-256 in counter mode, Box-Muller; one stream per model, pass and step, keyed by SHA-256 of its name"
SETTINGS = {  # shape of a state, batch, steps
    "conv": ((64, 28, 28), 16, 10),
    "7x7": ((32, 7, 7), 64, 6),
    "small": ((64,), 32, 100),
}
TINY = {"conv": ((4, 5, 5), 2, 2), "7x7": ((4, 5, 5), 2, 2), "small": ((4,), 2, 3)}


@dataclass(frozen=True)
class Comparison:
    """Two ways in one setting; a speed-up is their time over ours, anything else ours over theirs."""

    setting: str
    ours: str
    other: str
    speedup: bool = False


COMPARISONS = {
    "per_evaluation_ratio": Comparison("conv", "sde", "residual"),
    "per_evaluation_ratio_without_noise": Comparison("conv", "ode", "residual"),
    "per_evaluation_ratio_cryptographic": Comparison("conv", "sde-cryptographic", "residual"),
    "per_evaluation_ratio_per_example": Comparison("conv", "sde-each", "residual-each"),
    "per_evaluation_ratio_7x7": Comparison("7x7", "sde", "residual"),
    "per_evaluation_ratio_7x7_without_noise": Comparison("7x7", "ode", "residual"),
    "per_evaluation_ratio_7x7_per_example": Comparison("7x7", "sde-each", "residual-each"),
    "torchsde_speedup_conv": Comparison("conv", "sde", "torchsde", True),
    "torchsde_speedup_small": Comparison("small", "sde", "torchsde", True),
    "torchsde_adjoint_speedup_conv": Comparison("conv", "sde", "torchsde-adjoint", True),
    "torchsde_adjoint_speedup_small": Comparison("small", "sde", "torchsde-adjoint", True),
    "torchsde_speedup_conv_per_example": Comparison("conv", "sde-each", "torchsde-each", True),
    "torchsde_speedup_small_per_example": Comparison("small", "sde-each", "torchsde-each", True),
    "torchdiffeq_speedup_conv": Comparison("conv", "ode", "torchdiffeq", True),
    "torchdiffeq_speedup_small": Comparison("small", "ode", "torchdiffeq", True),
    "torchdiffeq_adjoint_speedup_conv": Comparison("conv", "ode", "torchdiffeq-adjoint", True),
    "torchdiffeq_adjoint_speedup_small": Comparison("small", "ode", "torchdiffeq-adjoint", True),
    "torchdiffeq_speedup_conv_per_example": Comparison("conv", "ode-each", "torchdiffeq-each", True),
    "torchdiffeq_speedup_small_per_example": Comparison("small", "ode-each", "torchdiffeq-each", True),
}  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """What is run."""

    only: list[str]
    pairs: int
    warm_up: int
    processes: int
    threads: int
    tiny: bool
    time_limit: float


def asked(plan: Plan, ways: list[str], setting: str, pairs: int, task: str) -> dict:
    """The answer of a process of its own; an error is an answer, too."""
    job = {"ways": ways, "setting": setting, "pairs": pairs, "warm_up": plan.warm_up, "task": task}
    job |= {"threads": plan.threads, "tiny": plan.tiny}
    try:
        done = subprocess.run(
            [sys.executable, __file__, "--worker", json.dumps(job)],
            stdout=subprocess.PIPE, timeout=plan.time_limit, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return {"failure": f"not done after {plan.time_limit:g} s"}
    lines = done.stdout.decode().splitlines()
    return json.loads(lines[-1]) if lines else {"failure": f"the process ended with status {done.returncode}"}


def measured(plan: Plan, key: str, peaks: dict[tuple[str, str], list[float] | str]) -> dict[str, object]:
    """One comparison under its keys; `peaks` holds the memory of ways that were measured already."""
    what = COMPARISONS[key]
    ways = [what.ours, what.other]
    answer = asked(plan, ways, what.setting, plan.pairs, "time")
    if "failure" in answer:
        print(f"{key}: {answer['failure']}", file=sys.stderr, flush=True)
        return {key: None, f"{key}_failure": answer["failure"], f"{key}_failed_way": answer.get("way")}
    ours, other = answer["ms"]
    ratios = [b / a if what.speedup else a / b for a, b in zip(ours, other, strict=True)]
    interval = median_interval(ratios)
    print(f"{key}: {median(ratios):.3f} [{interval.low:.3f}, {interval.high:.3f}]", file=sys.stderr, flush=True)
    found = {
        key: median(ratios), f"{key}_low": interval.low, f"{key}_high": interval.high,
        f"{key}_confidence": interval.confidence, f"{key}_ms": median(ours), f"{key}_other_ms": median(other),
    }  # fmt: skip
    return found | memory(plan, key, peaks)


def memory(plan: Plan, key: str, peaks: dict[tuple[str, str], list[float] | str]) -> dict[str, object]:
    """The memory of both ways of a comparison, each in processes of its own."""
    what = COMPARISONS[key]
    for way in (what.ours, what.other):
        if (what.setting, way) not in peaks:
            answers = [asked(plan, [way], what.setting, 2, "memory") for _ in range(plan.processes)]
            failures = [answer["failure"] for answer in answers if "failure" in answer]
            peaks[what.setting, way] = failures[0] if failures else [max(1.0, answer["mb"]) for answer in answers]
    ours, other = peaks[what.setting, what.ours], peaks[what.setting, what.other]
    if isinstance(ours, str) or isinstance(other, str):
        return {f"{key}_memory_ratio": None, f"{key}_memory_failure": ours if isinstance(ours, str) else other}
    return {
        f"{key}_memory_ratio": median(ours) / median(other), f"{key}_memory_ratio_low": min(ours) / max(other),
        f"{key}_memory_ratio_high": max(ours) / min(other), f"{key}_mb": median(ours), f"{key}_other_mb": median(other),
    }  # fmt: skip


def work(job: dict) -> dict[str, object]:
    """Be one of the processes: time the ways of the job in turn, or remember the memory of one."""
    import torch

    from rivals.solvers import WAYS, Setting

    torch.set_num_threads(job["threads"])
    setting = Setting(*(TINY if job["tiny"] else SETTINGS)[job["setting"]])
    steps, way, before = [], "", 0.0
    try:
        for way in job["ways"]:
            steps.append(WAYS[way](setting))
            before = peak_mb()
            steps[-1]()
    except Exception as error:
        return {"failure": f"{type(error).__name__}: {' '.join(str(error).split())}"[:300], "way": way}
    for _ in range(job["warm_up"]):
        for step in steps:
            step()
    pairs = [[milliseconds(step) for step in steps] for _ in range(job["pairs"])]
    return {"ms": [list(times) for times in zip(*pairs, strict=True)], "mb": peak_mb() - before}


def milliseconds(step: Callable[[], object]) -> float:
    """The time of one step."""
    start = time.perf_counter()
    step()
    return 1000 * (time.perf_counter() - start)


def peak_mb() -> float:
    """Peak resident memory of this process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 2**20


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--only", nargs="+", default=list(COMPARISONS), choices=COMPARISONS, metavar="KEY")
    parser.add_argument("--pairs", type=int, default=15, help="pairs of steps that are counted (default 15)")
    parser.add_argument("--warm-up", type=int, default=2, help="pairs of steps that are not (default 2)")
    parser.add_argument("--processes", type=int, default=3, help="that measure the memory of a way (default 3)")
    parser.add_argument("--quick", action="store_true", help="tiny states and 2 pairs: that it runs, not a measurement")
    parser.add_argument("--threads", type=int, default=cores())
    parser.add_argument("--time-limit", type=float, default=1800, help="seconds a process may take (default 1800)")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    return parser.parse_args()


def plan_of(args: argparse.Namespace) -> Plan:
    """What the command line asks for."""
    pairs, warm_up, processes = (2, 0, 1) if args.quick else (args.pairs, args.warm_up, args.processes)
    return Plan(args.only, pairs, warm_up, processes, args.threads, args.quick, args.time_limit)


def table(found: dict[str, object]) -> str:
    """The numbers as text."""
    lines = [f"{'':<42}{'median':>9}{'low':>9}{'high':>9}{'memory':>9}"]
    for key in (key for key in COMPARISONS if key in found):
        names = (key, f"{key}_low", f"{key}_high", f"{key}_memory_ratio")
        cells = [f"{found[name]:>9.3f}" if found.get(name) is not None else f"{'-':>9}" for name in names]
        lines.append(f"{key:<42}{''.join(cells)} {found.get(f'{key}_failure', '')}")
    return "\n".join(lines)


def main() -> int:
    args = arguments()
    if args.worker:
        print(json.dumps(work(json.loads(args.worker))))
        return 0
    plan, peaks = plan_of(args), {}
    facts = surroundings(plan) | {name: version_of(name) for name in ("torchsde", "torchdiffeq")}
    found: dict[str, object] = {"surroundings": facts, "generator": GENERATOR}
    for key in plan.only:
        found |= measured(plan, key, peaks)
    print(json.dumps(found) if args.json else f"{json.dumps(facts)}\n{table(found)}")
    return int(any(found.get(f"{key}_failed_way") == COMPARISONS[key].ours for key in plan.only))


if __name__ == "__main__":
    sys.exit(main())
