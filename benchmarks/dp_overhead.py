"""What a private step costs: private SGD against plain SGD, for our session and its rivals.

    python benchmarks/dp_overhead.py --json

A step is forward, backward, clip, noise and SGD update on a batch that is already drawn. Each way runs in a process
of its own, which takes private and plain steps of the same network in turn. `ratio` is the median of private over
plain, pair by pair; `ratio_low` and `ratio_high` are the order statistics that hold the true median with the
confidence named in `interval_confidence` (binomial, 95% or more from 6 pairs on). `memory_ratio` is the peak resident
memory of a process that takes only private steps, over that of one that takes only plain steps.

Ours draws its noise from the cryptographic generator, as shipped; the rivals draw theirs from torch's ordinary one.
`sfumato_poisson` is ours with the batch drawn by Poisson sampling, about as large on average, as in a release.
The noise-free release of each way on the fixed batch is compared with a float64 loop over single examples
(`relative_error`); a rival that is off by more than 0.001 is shown but is not the best rival. A way that fails is named
with its error. The exit status is 1 if ours failed.

Rivals: Opacus (`pip install opacus`), torch.func's vmap, vmap clipped and added 8 at a time, a loop of single examples,
and FastDP with `--fastdp CHECKOUT`. Nothing else should run on the machine meanwhile: the load is printed.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import json
import math
import os
import platform
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from statistics import median
from typing import NamedTuple

# Not torch: a process starts with the peak memory of the one that started it, so this one stays small.

NETWORKS = ("cnn", "mlp", "encoder", "wrn16_4", "resnet18")
OURS = "sfumato"
OURS_DRAWN = "sfumato_poisson"
RIVALS = (
    "opacus_hooks", "opacus_functorch", "opacus_ew", "opacus_ghost", "vmap", "vmap_8", "one_by_one", "fastdp",
)  # fmt: skip
METHODS = (OURS, OURS_DRAWN, *RIVALS)
LARGEST_ERROR = 1e-3


@dataclass(frozen=True)
class Plan:
    """What is run."""

    networks: list[str]
    methods: list[str]
    pairs: int
    warm_up: int
    threads: int
    device: str
    fastdp: str | None
    time_limit: float
    keep: str | None = None


class Interval(NamedTuple):
    """Order statistics around a median and how often they hold it."""

    low: float
    high: float
    confidence: float


def median_interval(values: list[float], confidence: float = 0.95) -> Interval:
    """The narrowest pair of order statistics that holds the true median with `confidence`, or the whole range.

    With n independent values, the k-th smallest and the k-th largest miss the median with probability
    2 P(Binomial(n, 1/2) < k).
    """
    ordered, n = sorted(values), len(values)
    missed = [2 * sum(math.comb(n, i) for i in range(k)) / 2**n for k in range(1, (n + 1) // 2 + 1)]
    allowed = [k for k, miss in enumerate(missed) if miss <= 1 - confidence]
    k = allowed[-1] if allowed else 0
    return Interval(ordered[k], ordered[n - 1 - k], max(0.0, 1 - missed[k]))


def asked(plan: Plan, task: str, network: str, way: str) -> dict[str, object]:
    """The answer of a process of its own."""
    job = {
        "task": task, "network": network, "way": way, "steps": plan.pairs if task == "time" else 3,
        "warm_up": plan.warm_up, "threads": plan.threads, "device": plan.device, "fastdp": plan.fastdp,
    }  # fmt: skip
    known = answers(plan.keep).get(json.dumps(job))
    if known is not None:
        return known
    print(f"{network}: {task} of {way} ...", file=sys.stderr, end=" ", flush=True)
    start = time.perf_counter()
    try:
        done = subprocess.run(
            [sys.executable, __file__, "--worker", json.dumps(job)],
            stdout=subprocess.PIPE, timeout=plan.time_limit, check=False,
        )  # fmt: skip
        lines = done.stdout.decode().splitlines()
        answer = json.loads(lines[-1]) if lines else {"failure": f"the process ended with status {done.returncode}"}
    except subprocess.TimeoutExpired:
        answer = {"failure": f"not done after {plan.time_limit:g} s"}
    print(answer.get("failure", f"{time.perf_counter() - start:.0f} s"), file=sys.stderr, flush=True)
    if plan.keep and "failure" not in answer:
        with open(plan.keep, "a", encoding="utf-8") as file:
            file.write(json.dumps({"job": json.dumps(job), "answer": answer}) + "\n")
    return answer


def answers(keep: str | None) -> dict[str, dict[str, object]]:
    """What processes of an interrupted run have answered already, by job; a line that broke off is left out."""
    if keep is None or not os.path.exists(keep):
        return {}
    found = {}
    with open(keep, encoding="utf-8") as file:
        for line in file:
            with contextlib.suppress(ValueError):
                kept = json.loads(line)
                found[kept["job"]] = kept["answer"]
    return found


def measured(plan: Plan, network: str, way: str, plain_mb: float | None) -> dict[str, object]:
    """Ratio, memory and error of one way."""
    answer = asked(plan, "time", network, way)
    if "failure" in answer:
        return {"ratio": None, "failure": answer["failure"]}
    private, plain = answer.pop("private_ms"), answer.pop("plain_ms")
    ratios = [a / b for a, b in zip(private, plain, strict=True)]
    interval = median_interval(ratios)
    found = {
        "ratio": median(ratios), "ratio_low": interval.low, "ratio_high": interval.high,
        "interval_confidence": interval.confidence, "private_ms": median(private), "plain_ms": median(plain),
    }  # fmt: skip
    error = answer.get("relative_error")
    print(f"{network}: {way} takes {median(ratios):.2f} times plain, error {error}", file=sys.stderr, flush=True)
    memory = asked(plan, "memory", network, way)
    if "failure" in memory:
        found["memory_failure"] = memory["failure"]
    peak = memory.get("peak_mb")
    return found | answer | {"peak_mb": peak, "memory_ratio": peak / plain_mb if peak and plain_mb else None}


def compared(plan: Plan, network: str) -> dict[str, object]:
    """One network: ours, the best rival, and every way."""
    plain = asked(plan, "memory", network, "plain")
    ways = {way: measured(plan, network, way, plain.get("peak_mb")) for way in plan.methods}
    ours = ways.get(OURS, {"ratio": None, "failure": "not asked for"})
    rivals = {way: found for way, found in ways.items() if way in RIVALS and found["ratio"] is not None}
    exact = {way: found["ratio"] for way, found in rivals.items() if (found["relative_error"] or 1) <= LARGEST_ERROR}
    best = min(exact, key=exact.__getitem__) if exact else None
    keys = ("ratio", "ratio_low", "ratio_high", "memory_ratio")
    return {
        **{key: ours.get(key) for key in keys},
        "best_rival_ratio": exact.get(best),
        "best_rival": best,
        "best_rival_memory_ratio": ways[best]["memory_ratio"] if best else None,
        "inexact_rivals": sorted(set(rivals) - set(exact)),
        "failures": {way: found["failure"] for way, found in ways.items() if "failure" in found},
        "plain_peak_mb": plain.get("peak_mb"),
        "methods": ways,
    }


def surroundings(plan: Plan) -> dict[str, object]:
    """What the numbers depend on."""
    versions = {name: version_of(name) for name in ("torch", "opacus")}
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return {**versions, "python": platform.python_version(), "cores": cores(), "load_at_start": load} | asdict(plan)


def version_of(distribution: str) -> str | None:
    """The installed version, or None."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def table(name: str, found: dict) -> str:
    """One network as text."""
    lines = [f"\n{name}", f"  {'way':<18}{'ratio':>8}{'low':>8}{'high':>8}{'memory':>9}{'MB':>8}{'error':>10}"]
    for way, row in found["methods"].items():
        if row["ratio"] is None:
            lines.append(f"  {way:<18}failed: {row['failure']}")
            continue
        numbers = [row["ratio"], row["ratio_low"], row["ratio_high"]]
        cells = [f"{number:>8.2f}" for number in numbers]
        cells += [f"{row['memory_ratio']:>9.2f}{row['peak_mb']:>8.0f}" if row["memory_ratio"] else f"{'failed':>17}"]
        cells += [f"{row['relative_error']:>10.1e}" if row["relative_error"] is not None else f"{'-':>10}"]
        lines.append(f"  {way:<18}{''.join(cells)}")
    return "\n".join([*lines, f"  best rival: {found['best_rival']}"])


def profiles(plan: Plan) -> None:
    """Print the operations that take most of our step and of the plain one."""
    for network in plan.networks:
        for way in (OURS, "plain") if len(plan.methods) > 3 else (*plan.methods, "plain"):
            answer = asked(plan, "profile", network, way)
            print(f"\n{network}, {way}\n{answer.get('table', answer.get('failure'))}")


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--only", nargs="+", default=list(NETWORKS), choices=[*NETWORKS, "vit_b16"])
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    parser.add_argument("--pairs", type=int, default=15, help="pairs of steps that are counted (default 15)")
    parser.add_argument("--warm-up", type=int, default=3, help="pairs of steps that are not (default 3)")
    parser.add_argument("--quick", action="store_true", help="3 pairs after 1: a look, not a measurement")
    parser.add_argument("--threads", type=int, default=cores())
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--fastdp", metavar="CHECKOUT", help="folder of a FastDP checkout")
    parser.add_argument("--time-limit", type=float, default=1800, help="seconds a process may take (default 1800)")
    parser.add_argument("--keep", metavar="FILE", help="keep answers here, and go on from those that are there")
    parser.add_argument("--profile", action="store_true", help="print where the time goes instead")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    return parser.parse_args()


def plan_of(args: argparse.Namespace) -> Plan:
    """What the command line asks for; FastDP is a rival only where a checkout is given."""
    methods = [way for way in args.methods if way != "fastdp" or args.fastdp]
    pairs, warm_up = (3, 1) if args.quick else (args.pairs, args.warm_up)
    return Plan(args.only, methods, pairs, warm_up, args.threads, args.device, args.fastdp, args.time_limit, args.keep)


def work(job: str) -> None:
    """Be one of the processes: the answer is the last line of the output."""
    from rivals.worker import Job, run

    print(json.dumps(run(Job(**json.loads(job)))))


def main() -> int:
    args = arguments()
    if args.worker:
        work(args.worker)
        return 0
    plan = plan_of(args)
    if args.profile:
        profiles(plan)
        return 0
    found = {network: compared(plan, network) for network in plan.networks}
    if args.json:
        print(json.dumps({"surroundings": surroundings(plan)} | found))
    else:
        print("\n".join([json.dumps(surroundings(plan)), *(table(name, one) for name, one in found.items())]))
    return int(OURS in plan.methods and any(one["ratio"] is None for one in found.values()))


if __name__ == "__main__":
    sys.exit(main())
