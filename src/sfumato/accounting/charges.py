"""What the records of a ledger say: the declaration, the runs, and what they cost together."""

from __future__ import annotations

from typing import Any, NamedTuple

from sfumato.accounting.accountants.pld import PLD
from sfumato.accounting.adjacency import Adjacency
from sfumato.accounting.catalogue import mechanism as from_plain
from sfumato.accounting.chain import Records
from sfumato.accounting.history import Event, History
from sfumato.accounting.mechanisms.base import Mechanism
from sfumato.errors import NotPrivateError, UsageError


class Declaration(NamedTuple):
    """What may be spent on the people of a name."""

    target_epsilon: float
    target_delta: float
    unit: str
    adjacency: Adjacency


class Run(NamedTuple):
    """One training in a ledger.

    Args:
        run_id: its name.
        mechanism: as planned.
        charged: steps paid for, released or not.
        block: steps that are charged at once.
        audit_only: listed, not charged.
        fingerprint: of the data at its beginning.
        config: hash of its configuration.
        closed: whether it ended in order.
        data_changed: whether the fingerprint was another one than the ledger's first.
    """

    run_id: str
    mechanism: Mechanism
    charged: int
    block: int
    audit_only: bool
    fingerprint: str
    config: str
    closed: bool
    data_changed: bool


def declaration(records: Records) -> Declaration:
    """What was declared.

    Raises:
        UsageError: if nothing was.
    """
    if not records.rows:
        raise UsageError(
            "Expected a ledger in which something was declared, got an empty one.",
            remedy="Call `declare` with the target, the unit and the neighbouring relation first.",
        )
    row = records.rows[0]
    return Declaration(row["target_epsilon"], row["target_delta"], row["unit"], Adjacency.named(row["adjacency"]))


def runs(records: Records) -> dict[str, Run]:
    """All runs by their id, oldest first. An interrupted append costs every open run a block.

    Raises:
        NotPrivateError: if a record is of an unknown kind or about an unknown run.
    """
    found: dict[str, Run] = {}
    for row in records.rows[1:]:
        if row.get("kind") == "interrupted":
            found = _interrupted(found)
        elif row.get("kind") == "begun":
            found[row["run"]] = _begun(row)
        else:
            run = found.get(row.get("run", ""))
            if run is None or row.get("kind") not in _CHANGES:
                raise NotPrivateError(
                    f"Expected a record that this version knows, got {row.get('kind')!r} as number {row['number']}.",
                    remedy="Use the version of sfumato that wrote the ledger.",
                )
            found[run.run_id] = _CHANGES[row["kind"]](run, row)
    return _interrupted(found) if records.fragment else found


def _begun(row: dict[str, Any]) -> Run:
    return Run(
        run_id=row["run"],
        mechanism=from_plain(row["mechanism"]),
        charged=0,
        block=row["block"],
        audit_only=row["audit_only"],
        fingerprint=row["fingerprint"],
        config=row["config"],
        closed=False,
        data_changed=row["data_changed"],
    )


_CHANGES = {
    "resumed": lambda run, row: run._replace(data_changed=run.data_changed or row["data_changed"]),
    "charged": lambda run, row: run._replace(charged=run.charged + row["steps"]),
    "closed": lambda run, row: run._replace(charged=run.charged - row["unused"], closed=True),
}


def _interrupted(found: dict[str, Run]) -> dict[str, Run]:
    return {
        name: run if run.closed or run.audit_only else run._replace(charged=run.charged + run.block)
        for name, run in found.items()
    }


def charged(records: Records, *, but: str = "") -> list[Mechanism]:
    """The mechanisms of all charged runs, over the steps that they paid for, without the run called `but`."""
    return [run.mechanism.lasting(run.charged) for run in runs(records).values() if run.charged and run.run_id != but]


def spent(records: Records, delta: float | None = None) -> float:
    """Epsilon of all charged runs together, at `delta` or at the declared one."""
    stated = declaration(records)
    return PLD().epsilon(charged(records), stated.target_delta if delta is None else delta)


def history(records: Records) -> History:
    """The charged runs as events, at the declared delta."""
    stated = declaration(records)
    facts = {"delta": stated.target_delta, "unit": stated.unit, "audit_only": False}
    return History(
        tuple(
            Event("ledger", f"run {run.run_id}", 0, run.mechanism.lasting(run.charged).plain() | facts)
            for run in runs(records).values()
            if run.charged
        )
    )
