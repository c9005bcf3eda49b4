"""Which exact way to a layer's gradient norms is the cheapest here: measured once per machine, layer and shape.

No rule of thumb is right everywhere: on large maps the library's own weight-gradient kernel called once per unit costs
no more than the ordinary gradient, on small ones a Gram matrix is many times cheaper, and what is kept per unit has to
be paid for in memory. So every way is timed on the real tensors the first time, and the choice is kept on disk.
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path

import torch

from sfumato.atomic import write_atomic
from sfumato.private.rules.base import Term

SECONDS_PER_BYTE = 5e-11  # a gradient per unit that is kept has to be worth 50 ms per gigabyte more than the time saved
FOLDER = "SFUMATO_CACHE"


class Chooser:
    """Keeps the fastest way by kind of use and shape.

    Args:
        path: a JSON file of earlier measurements on this machine, or None to keep them in memory only.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self.known: dict[str, str] = _read(path) if path is not None else {}

    @classmethod
    def of_this_machine(cls) -> Chooser:
        """With the measurements kept below the folder named by SFUMATO_CACHE, else below the user's cache folder."""
        base = os.environ.get(FOLDER) or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sfumato"
        return cls(Path(base) / "kernels.json")

    def way(self, term: Term, grad: torch.Tensor, units: int, *, dense: bool = False) -> str:
        """The way for a use: any, or one that leaves a gradient per unit (`dense`)."""
        ways = tuple(w for w in term.ways(grad, units) if not (dense and w.startswith("gram"))) or ("product",)
        if len(ways) == 1:
            return ways[0]
        key = _key(term, grad, units, ways)
        if self.known.get(key) not in ways:
            self.known[key] = self._measured(term, grad, units, ways)
            self._save()
        return self.known[key]

    def _measured(self, term: Term, grad: torch.Tensor, units: int, ways: tuple[str, ...]) -> str:
        costs: dict[str, float] = {}
        for way in ways:
            bytes_kept = 0 if way.startswith("gram") else units * term.shape.numel() * grad.element_size()
            limit = 3 * min(costs.values(), default=float("inf"))
            costs[way] = _seconds(_task(term, grad, units, way), limit) + bytes_kept * SECONDS_PER_BYTE
        return min(costs, key=lambda way: costs[way])

    def _save(self) -> None:
        if self.path is None:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(self.path, json.dumps(_read(self.path) | self.known, indent=0, sort_keys=True).encode())
        except OSError:
            self.path = None  # a read-only home costs a new measurement next time, nothing else


def _task(term: Term, grad: torch.Tensor, units: int, way: str) -> Callable[[], object]:
    factors = torch.ones(units, dtype=grad.dtype, device=grad.device)
    if way.startswith("gram"):
        return lambda: (term.squared_norms(grad, units, way), term.weighted_sum(grad, factors))
    out = grad.new_empty(units, *term.shape)

    def dense() -> None:
        flat = term.with_norms(grad, units, way, out).gradients.view(units, -1)
        torch.mv(flat.T, factors)

    return dense


def _seconds(task: Callable[[], object], limit: float) -> float:
    """The best of three runs; the first is enough where it is hopeless already."""
    best = float("inf")
    for _ in range(3):
        start = time.perf_counter()
        task()
        best = min(best, time.perf_counter() - start)
        if best > limit:
            break
    return best


def _key(term: Term, grad: torch.Tensor, units: int, ways: tuple[str, ...]) -> str:
    seen = tuple(term.saved[0].shape[1:]) if term.saved else ()
    machine = (
        f"{platform.machine()} {os.cpu_count()} cores, {torch.get_num_threads()} threads, torch {torch.__version__}"
    )
    where = grad.device.type if grad.device.type == "cpu" else torch.cuda.get_device_name(grad.device)
    size = f"{len(grad) // units} rows in about {1 << (units - 1).bit_length()} units"
    about = f"{type(term).__name__} {tuple(term.shape)} of {seen} to {tuple(grad.shape[1:])}, {size}"
    return f"{machine}; {where}; {grad.dtype}; {about}; {'/'.join(ways)}"


def _read(path: Path) -> dict[str, str]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {str(k): str(v) for k, v in found.items()} if isinstance(found, dict) else {}
