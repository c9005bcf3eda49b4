"""What was spent on the records of the same people, over all trainings, on disk.

A ledger belongs to a name that the user declares for the people concerned ("patients of ward 7"), not to a file of
data: if the data change, the change is noted and the same people go on paying. Names that were ever declared stand in
an index beside the ledgers, and a missing ledger for such a name is an error. Deleting the whole folder, index
included, or putting back an older copy of all of it, cannot be noticed from inside; a checkpoint that carries
`Ledger.head` can, by `Ledger.expect`.

Steps are charged before they are released, in blocks: a crash loses at most the rest of a block, never a charge.

The mechanisms of later runs are composed as if their parameters had been fixed beforehand; do not choose them by
looking at what earlier private runs gave.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from sfumato.accounting.adjacency import Adjacency
from sfumato.accounting.calibrate import STEPS, Target, calibrated
from sfumato.accounting.catalogue import mechanism as from_plain
from sfumato.accounting.chain import Chain
from sfumato.accounting.charges import Declaration, Run, charged, declaration, history, runs, spent
from sfumato.accounting.guarantee import Guarantee, NoGuarantee, guarantee
from sfumato.accounting.history import History
from sfumato.accounting.meter import Meter, begun
from sfumato.errors import NotPrivateError, UsageError
from sfumato.validate import one_of

INDEX = "index.jsonl"


def declared_names(folder: str | Path) -> tuple[str, ...]:
    """All names that were declared in this folder, oldest first.

    Raises:
        NotPrivateError: if the index was tampered with.
    """
    return tuple(str(row["name"]) for row in _index(Path(folder)).read().rows)


def _index(folder: Path) -> Chain:
    return Chain(folder / INDEX, "the index of ledgers")


@dataclass(frozen=True)
class Ledger:
    """The ledger of one name.

    Args:
        folder: holds the index and all ledgers.
        name: declared for the people concerned.
    """

    folder: Path
    name: str

    @classmethod
    def open(cls, folder: str | Path, name: str, *, create: bool = False) -> Self:
        """The ledger of `name`, verified.

        Args:
            folder: of ledgers.
            name: declared for the people concerned.
            create: whether a name that was never declared is meant; declare it next.

        Raises:
            UsageError: if the name is unknown and not meant to be new.
            NotPrivateError: if the name is known and its ledger missing, or a file was tampered with.
        """
        if not name.strip():
            raise UsageError("Expected a name for the people concerned, got none.", remedy="Name them, e.g. 'ward 7'.")
        ledger, known = cls(Path(folder), name), declared_names(folder)
        records = ledger.chain.read()
        if name in known and not records.rows:
            raise NotPrivateError(
                f"Expected the ledger of {name!r}, which was declared before, got no file at {ledger.chain.path}.",
                remedy="Restore it from a backup. Without it nobody can say what was spent on these people.",
            )
        if name not in known and len(records.rows) > 1:
            raise NotPrivateError(
                f"Expected {name!r} in the index of {folder}, got a ledger with charges that the index does not know.",
                remedy="Restore the folder from a backup.",
            )
        if name not in known and not create:
            one_of("name of a ledger", name, known or ["(none was declared)"])
        return ledger

    def declare(self, target_epsilon: float, target_delta: float, unit: str, adjacency: Adjacency | str) -> Declaration:
        """State once what may be spent on these people; the same statement again changes nothing.

        Raises:
            UsageError: if a value is not usable, or something else was declared before.
        """
        Target(target_epsilon, target_delta)
        if not unit.strip():
            raise UsageError("Expected the unit of privacy, got none.", remedy='Say "example" or "patient", ...')
        stated = Declaration(float(target_epsilon), float(target_delta), unit, Adjacency.named(adjacency))
        with self.chain.locked():
            records = self.chain.read()
            if not records.rows:
                self.chain.append(records, kind="declared", name=self.name, **stated._asdict())
            elif declaration(records) != stated:
                raise UsageError(
                    f"Expected what was declared for {self.name!r} before, {declaration(records)}, got {stated}.",
                    remedy="Keep to it; raising a target after the fact is no guarantee.",
                )
        index = _index(self.folder)
        with index.locked():
            records = index.read()
            if self.name not in {row["name"] for row in records.rows}:
                index.append(records, name=self.name, file=self.chain.path.name)
        return stated

    @property
    def chain(self) -> Chain:
        """The file."""
        readable = re.sub(r"[^a-z0-9]+", "-", self.name.lower()).strip("-")[:40]
        short = hashlib.sha256(self.name.encode()).hexdigest()[:12]
        return Chain(self.folder / f"{readable}-{short}.jsonl", self.name)

    @property
    def declared(self) -> Declaration:
        """What was declared."""
        return declaration(self.chain.read())

    @property
    def head(self) -> str:
        """Hash of the newest record, for a checkpoint to carry."""
        return self.chain.read().head

    def expect(self, head: str) -> Self:
        """This ledger, if `head` was its newest record at some time.

        Raises:
            NotPrivateError: if it was not: an older copy was put in place, or the ledger begun anew.
        """
        if not self.chain.read().contains(head):
            raise NotPrivateError(
                f"Expected the ledger of {self.name!r} to contain record {head[:12]}, which a checkpoint names, got "
                "one without it.",
                remedy="Restore the ledger from a backup.",
            )
        return self

    def verify(self) -> int:
        """Check every record; how many there are.

        Raises:
            NotPrivateError: if a file was tampered with, cut or reordered.
        """
        records = self.chain.read()
        runs(records)
        return len(records.rows)

    def runs(self) -> tuple[Run, ...]:
        """All runs, oldest first."""
        return tuple(runs(self.chain.read()).values())

    def history(self) -> History:
        """The charged runs as events."""
        return history(self.chain.read())

    def guarantee(self, delta: float | None = None) -> Guarantee | NoGuarantee:
        """What all charged runs together keep; none before the first."""
        return guarantee(self.history(), delta)

    def spent(self, delta: float | None = None) -> float:
        """Epsilon of all charged runs together, at `delta` or at the declared one."""
        return spent(self.chain.read(), delta)

    def begin(
        self,
        run_id: str,
        mechanism: Mapping[str, Any],
        *,
        config: object,
        fingerprint: str,
        block: int | None = None,
    ) -> Meter:
        """Begin a run, or go on with one after a crash; charge its steps at the meter that comes back.

        Args:
            run_id: unique in this ledger.
            mechanism: as planned: `Mechanism.plain()` with "unit" and "audit_only". An audit-only run is listed, and
                nothing is charged.
            config: everything that must be the same when the run goes on; values that `sfumato.canonical` can write.
            fingerprint: of the data, e.g. a hash.
            block: steps charged at once; a hundredth of the plan by default.

        Raises:
            NotPrivateError: if the plan would exceed the declared target.
            UsageError: if the run is over, its configuration was changed, or it does not fit the declaration.
        """
        return begun(self.chain, run_id, mechanism, config=config, fingerprint=fingerprint, block=block)

    def remaining(self, mechanism: Mapping[str, Any]) -> int:
        """How many steps of this mechanism still keep the declared target (to within the slack of calibration)."""
        records = self.chain.read()
        stated, step = declaration(records), from_plain(mechanism)
        target = Target(stated.target_epsilon, stated.target_delta, tuple(charged(records)))
        try:
            found = calibrated(lambda n: step.lasting(int(n)), target, STEPS, rising=True, whole=True)
        except UsageError:
            return 0
        return int(found)
