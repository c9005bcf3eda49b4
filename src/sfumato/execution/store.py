"""Results of jobs on disk, by content hash: atomic, checked, shared by concurrent runs, and never larger than asked.

    jobs/ab/abcd.../    manifest.json, logits.npz, scalars-<query set>[@<records asked>].npz, weights.safetensors
    fits/ab/abcd.../    manifest.json, arrays.npz
    locks/ running/ aside/ temporary/ choices.json

Only JSON, npz and safetensors. A write goes to `temporary/` and is renamed into place; writers hold the key's lock.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

from sfumato.atomic import write_atomic
from sfumato.errors import StoreMismatch, UsageError
from sfumato.execution.choices import Choices
from sfumato.execution.files import (
    MANIFEST,
    Manifest,
    damaged,
    digest,
    npz_arrays,
    npz_bytes,
    publish,
    read_checked,
    read_manifest,
    write_manifest,
)
from sfumato.execution.jobs import JobResult, TrainJob
from sfumato.execution.locks import locked
from sfumato.targets.queries import BASE, QuerySet
from sfumato.training.trained import Trained
from sfumato.types import Floats
from sfumato.validate import at_least

LOGITS, WEIGHTS, ARRAYS = "logits.npz", "weights.safetensors", "arrays.npz"
State = Literal["ready", "needs queries", "needs training"]


class Fit(Protocol):
    """What an attack trains for itself: a key, and a pure function that yields arrays."""

    @property
    def key(self) -> str:
        """Content hash of its specification."""
        ...

    def run(self) -> dict[str, Floats]:
        """Train; the arrays that the attack will read."""
        ...


class Dropped(NamedTuple):
    """Weights that were deleted to keep the store under its limit."""

    models: int
    bytes: int


class Contents(NamedTuple):
    """What a store holds, and how large it is in bytes."""

    jobs: int
    with_weights: int
    fits: int
    weight_bytes: int
    total_bytes: int


@dataclass(frozen=True)
class Store:
    """A folder of results.

    Args:
        root: the folder; made when something is first written.
        limit_bytes: most bytes of weights to keep; answers are always kept.
    """

    root: Path
    limit_bytes: int = 5_000_000_000

    def __post_init__(self) -> None:
        object.__setattr__(self, "root", Path(self.root))
        at_least("limit_bytes", self.limit_bytes, 0)

    @property
    def choices(self) -> Choices:
        """Choices of kernels and executors."""
        return Choices(self.root / "choices.json")

    def lock(self, key: str, *, wait: bool = True) -> AbstractContextManager[bool]:
        """The lock of one key; see `locks.locked`."""
        return locked(self.root / "locks" / key[:2] / key, wait=wait)

    def checkpoint_path(self, key: str) -> Path:
        """Where a running training may keep what it needs to go on; the folder exists."""
        folder = self.root / "running"
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"{key}.safetensors"

    def state_of(self, job: TrainJob, queries: Sequence[QuerySet] = ()) -> State:
        """What is left to do for a job whose answers to `queries` are wanted.

        Raises:
            StoreMismatch: if its entry is damaged.
        """
        manifest = read_manifest(self._job(job.key), job.key)
        if manifest is None:
            return "needs training"
        missing = [q for q in queries if q != BASE and _scalars_file(q.key, job.asked_hash) not in manifest.files]
        if not missing:
            return "ready"
        return "needs queries" if WEIGHTS in manifest.files else "needs training"

    def get(self, key: str, queries: Sequence[QuerySet] = (), *, asked: str = "") -> JobResult | None:
        """The stored result with the answers to these query sets (those that are there), or None.

        Args:
            key: of the job.
            queries: query sets besides the base query.
            asked: `TrainJob.asked_hash`, for query sets that ask only the records in the game.

        Raises:
            StoreMismatch: if the entry is damaged.
        """
        folder = self._job(key)
        manifest = read_manifest(folder, key)
        if manifest is None:
            return None
        found = {q.key: name for q in queries if (name := _scalars_file(q.key, asked)) in manifest.files}
        logits = npz_arrays(read_checked(folder, LOGITS, manifest), folder / LOGITS)
        if "logits" not in logits:
            raise damaged(folder / LOGITS, "an archive without logits")
        return JobResult(
            key=key,
            logits=logits["logits"],
            scalars={q: npz_arrays(read_checked(folder, n, manifest), folder / n) for q, n in found.items()},
            facts=manifest.facts,
            has_weights=WEIGHTS in manifest.files,
            asked=asked,
        )

    def put(self, result: JobResult, trained: Trained | None) -> None:
        """Write a result and, if `trained` has any, its weights. The caller holds the lock of the key."""
        folder, temporary = self._job(result.key), self._temporary(result.key)
        data = {LOGITS: npz_bytes({"logits": result.logits})}
        data |= {_scalars_file(name, result.asked): npz_bytes(table) for name, table in result.scalars.items()}
        for name, content in data.items():
            (temporary / name).write_bytes(content)
        files = {name: digest(content) for name, content in data.items()}
        if trained is not None and trained.state is not None:
            trained.save(temporary / WEIGHTS, key=result.key)
            files[WEIGHTS] = digest((temporary / WEIGHTS).read_bytes())
        write_manifest(temporary, Manifest(result.key, files, dict(result.facts)))
        if folder.is_dir():  # trained again for queries that need weights; the old answers are superseded as a whole
            self._set_aside(folder, keep=False)
        publish(temporary, folder)

    def add_scalars(self, key: str, scalars: Mapping[str, Mapping[str, Floats]], *, asked: str = "") -> None:
        """Add answers to further query sets; `asked` as for `get`. The caller holds the lock of the key."""
        folder = self._job(key)
        manifest = read_manifest(folder, key)
        if manifest is None:
            raise damaged(folder / MANIFEST, "no result to add answers to")
        for name, table in scalars.items():
            content, file = npz_bytes(table), _scalars_file(name, asked)
            write_atomic(folder / file, content)
            manifest.files[file] = digest(content)
        write_manifest(folder, manifest)

    def weights(self, key: str) -> Trained | None:
        """The trained model, or None if its weights are not stored.

        Raises:
            StoreMismatch: if the entry is damaged.
        """
        folder = self._job(key)
        manifest = read_manifest(folder, key)
        if manifest is None or WEIGHTS not in manifest.files:
            return None
        try:
            read_checked(folder, WEIGHTS, manifest)
            return Trained.load(folder / WEIGHTS, key=key)
        except (StoreMismatch, UsageError):
            now = read_manifest(folder, key)
            if now is None or WEIGHTS not in now.files:  # another run has just dropped them
                return None
            raise

    def queries_of(self, key: str, *, asked: str = "") -> list[QuerySet]:
        """The query sets, besides the base query, whose answers are stored; of games, those of the records `asked`."""
        manifest = read_manifest(self._job(key), key)
        names = [] if manifest is None else [n for n in manifest.files if n.startswith("scalars-")]
        parts = [name.removeprefix("scalars-").removesuffix(".npz").partition("@") for name in names]
        return [QuerySet.from_key(query) for query, _, records in parts if records in ("", asked)]

    def get_fit(self, key: str) -> dict[str, Floats] | None:
        """The arrays of a fit, or None.

        Raises:
            StoreMismatch: if the entry is damaged.
        """
        folder = self.root / "fits" / key[:2] / key
        manifest = read_manifest(folder, key)
        return None if manifest is None else npz_arrays(read_checked(folder, ARRAYS, manifest), folder / ARRAYS)

    def put_fit(self, key: str, arrays: Mapping[str, Floats]) -> None:
        """Keep the arrays of a fit. The caller holds the lock of the key."""
        temporary = self._temporary(key)
        content = npz_bytes(arrays)
        (temporary / ARRAYS).write_bytes(content)
        write_manifest(temporary, Manifest(key, {ARRAYS: digest(content)}, {}))
        publish(temporary, self.root / "fits" / key[:2] / key)

    def move_aside(self, key: str) -> Path | None:
        """Take a damaged entry out of the way, so that the key counts as absent; where it lies now."""
        moved = None
        for kind in ("jobs", "fits"):
            folder = self.root / kind / key[:2] / key
            moved = self._set_aside(folder, keep=True) if folder.exists() else moved
        return moved

    def shrink(self) -> Dropped:
        """Delete weights until they fit under the limit: of those of at least mean size, the oldest first.

        The caller holds no lock of a key.
        """
        with locked(self.root / "locks" / "weights", wait=True):
            found = sorted(self._weight_files(), key=lambda item: item.age_key)
            total, models, freed = sum(item.bytes for item in found), 0, 0
            while found and total - freed > self.limit_bytes:
                mean = sum(item.bytes for item in found) / len(found)
                oldest = next(item for item in found if item.bytes >= mean)
                found.remove(oldest)
                if self._drop(oldest.path):
                    models, freed = models + 1, freed + oldest.bytes
        return Dropped(models, freed)

    def contents(self) -> Contents:
        """Counts and sizes."""
        weights = self._weight_files()
        files = [path for path in self.root.rglob("*") if path.is_file()] if self.root.is_dir() else []
        return Contents(
            jobs=len(self.keys()),
            with_weights=len(weights),
            fits=len(list((self.root / "fits").glob("*/*"))),
            weight_bytes=sum(item.bytes for item in weights),
            total_bytes=sum(path.stat().st_size for path in files),
        )

    def keys(self) -> list[str]:
        """Keys of all stored jobs, sorted."""
        return sorted(path.name for path in (self.root / "jobs").glob("*/*"))

    def facts(self, key: str) -> dict[str, Any] | None:
        """The facts of a stored job without its arrays, or None."""
        manifest = read_manifest(self._job(key), key)
        return None if manifest is None else manifest.facts

    def _job(self, key: str) -> Path:
        return self.root / "jobs" / key[:2] / key

    def _temporary(self, key: str) -> Path:
        """A fresh folder; what a killed writer of this key left behind is removed (the lock is held)."""
        for stale in (self.root / "temporary").glob(f"{key}-*"):
            shutil.rmtree(stale, ignore_errors=True)
        folder = self.root / "temporary" / f"{key}-{os.getpid()}"
        folder.mkdir(parents=True)
        return folder

    def _set_aside(self, folder: Path, *, keep: bool) -> Path:
        number = 0
        while (place := self.root / "aside" / f"{folder.name}-{number}").exists():
            number += 1
        place.parent.mkdir(parents=True, exist_ok=True)
        os.rename(folder, place)
        if not keep:
            shutil.rmtree(place)
        return place

    def _weight_files(self) -> list[_WeightFile]:
        found = []
        for path in (self.root / "jobs").glob(f"*/*/{WEIGHTS}"):
            try:
                status = path.stat()
            except FileNotFoundError:  # another run has just dropped it
                continue
            found.append(_WeightFile((status.st_mtime_ns, path.parent.name), status.st_size, path))
        return found

    def _drop(self, path: Path) -> bool:
        """First out of the manifest, then off the disk; weights in use by another run stay, and False is returned."""
        folder = path.parent
        with self.lock(folder.name, wait=False) as held:
            if not held:
                return False
            try:
                manifest = read_manifest(folder, folder.name)
            except StoreMismatch:
                manifest = None  # damaged: whoever reads it next says so and moves it aside
            if manifest is not None and manifest.files.pop(WEIGHTS, None) is not None:
                write_manifest(folder, manifest)
            path.unlink(missing_ok=True)
        return True


class _WeightFile(NamedTuple):
    age_key: tuple[int, str]
    bytes: int
    path: Path


def _scalars_file(name: str, asked: str) -> str:
    whole = QuerySet.from_key(name).scope == "all"
    return f"scalars-{name}.npz" if whole else f"scalars-{name}@{asked}.npz"
