"""Charging the steps of one run, before they are released."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from sfumato.accounting.accountants.pld import PLD
from sfumato.accounting.catalogue import mechanism as from_plain
from sfumato.accounting.chain import Chain, Records
from sfumato.accounting.charges import Declaration, charged, declaration, runs
from sfumato.accounting.mechanisms.base import Mechanism, whole
from sfumato.canonical import content_hash
from sfumato.errors import NotPrivateError, UsageError
from sfumato.validate import at_least

BLOCKS = 100  # a run charges its planned steps in about this many blocks, unless told otherwise


@dataclass
class Meter:
    """Charges the steps of one run; may be used as a context, which closes it unless an error ends it.

    Args:
        chain: the ledger's file.
        run_id: of the run.
        mechanism: as planned.
        audit_only: whether nothing is charged.
        block: steps that are charged at once.
        left: steps charged and not yet released.
        cleared: charges of the other runs and own steps that were found to keep the target together.
    """

    chain: Chain
    run_id: str
    mechanism: Mechanism
    audit_only: bool
    block: int
    left: int = 0
    cleared: tuple[list[Mechanism], int] = field(default_factory=lambda: ([], 0))

    def charge(self, steps: int = 1) -> None:
        """Pay for the next steps. Release them only after this returned.

        Raises:
            NotPrivateError: if they would exceed the declared target, or the run was closed elsewhere.
        """
        whole("steps", steps)
        at_least("steps", steps, 1)
        if self.audit_only:
            return
        if steps > self.left:
            self._reserve(steps - self.left)
        self.left -= steps

    def close(self) -> None:
        """End the run; steps of the last block that were not released are given back."""
        with self.chain.locked():
            records = mended(self.chain)
            if not runs(records)[self.run_id].closed:
                self.chain.append(records, kind="closed", run=self.run_id, unused=self.left)
        self.left = 0

    def _reserve(self, needed: int) -> None:
        with self.chain.locked():
            records = mended(self.chain)
            run = runs(records)[self.run_id]
            if run.closed:
                raise NotPrivateError(
                    f"Expected an open run, got {self.run_id!r}, which was closed.", remedy="Begin another run."
                )
            planned = max(self.mechanism.steps - run.charged, needed)
            steps = max(needed, min(self.block, planned))
            others = charged(records, but=self.run_id)
            if others != self.cleared[0] or run.charged + steps > self.cleared[1]:
                self.cleared = cleared(declaration(records), others, self.mechanism.lasting(run.charged + steps))
            self.chain.append(records, kind="charged", run=self.run_id, steps=steps)
        self.left += steps

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.close()


def begun(
    chain: Chain, run_id: str, mechanism: Mapping[str, Any], *, config: object, fingerprint: str, block: int | None
) -> Meter:
    """See `Ledger.begin`."""
    planned, audit_only = from_plain(mechanism), _seeded(mechanism)
    size = max(1, -(-planned.steps // BLOCKS)) if block is None else block
    whole("block", size)
    at_least("block", size, 1)
    with chain.locked():
        records = mended(chain)
        stated, found = declaration(records), runs(records)
        _fits(stated, planned, mechanism)
        first = next(iter(found.values())).fingerprint if found else fingerprint
        facts = {"run": run_id, "fingerprint": fingerprint, "data_changed": fingerprint != first}
        digest = content_hash({"config": config, "mechanism": planned.plain(), "audit_only": audit_only})
        others = charged(records, but=run_id)
        meter = Meter(chain, run_id, planned, audit_only, size)
        if run_id in found:
            _same(found[run_id].config, digest, run_id, closed=found[run_id].closed)
            if not audit_only and found[run_id].charged < planned.steps:
                meter.cleared = cleared(stated, others, planned)
            chain.append(records, kind="resumed", **facts)
            return meter
        if not audit_only:
            meter.cleared = cleared(stated, others, planned)
        more = {"mechanism": planned.plain(), "audit_only": audit_only, "block": size, "config": digest}
        chain.append(records, kind="begun", **facts, **more)
    return meter


def mended(chain: Chain) -> Records:
    """The records; an append that was interrupted is noted, and costs every open run a block. Call it locked."""
    records = chain.read()
    if not records.fragment:
        return records
    return chain.append(records, kind="interrupted", lost=len(records.fragment))


def cleared(stated: Declaration, others: list[Mechanism], own: Mechanism) -> tuple[list[Mechanism], int]:
    """The others and the own steps, if together they keep the declared target.

    Raises:
        NotPrivateError: if they do not.
    """
    epsilon = PLD().epsilon([*others, own], stated.target_delta)
    if epsilon > stated.target_epsilon:
        raise NotPrivateError(
            f"Expected at most epsilon {stated.target_epsilon:g} at delta {stated.target_delta:g}, as declared; "
            f"{own.steps} steps of this run and {len(others)} other runs come to {epsilon:.4g}.",
            remedy="Plan fewer steps or more noise; `Ledger.remaining` says how many steps are left.",
        )
    return others, own.steps


def _seeded(mechanism: Mapping[str, Any]) -> bool:
    stated = mechanism.get("audit_only")
    if not isinstance(stated, bool):
        raise UsageError(
            f"Expected `audit_only` as true or false, got {stated!r}.",
            remedy="Say whether the noise of this run comes from a seed.",
        )
    return stated


def _fits(stated: Declaration, planned: Mechanism, facts: Mapping[str, Any]) -> None:
    if (planned.adjacency, facts.get("unit")) != (stated.adjacency, stated.unit):
        raise UsageError(
            f"Expected the declared unit {stated.unit!r} under {stated.adjacency}, got {facts.get('unit')!r} under "
            f"{planned.adjacency}.",
            remedy="Epsilons of different units or relations do not add up; plan the run as declared.",
        )


def _same(before: str, now: str, run_id: str, *, closed: bool) -> None:
    if closed:
        raise UsageError(f"Expected a run that can go on, got {run_id!r}, which is over.", remedy="Use another run id.")
    if before != now:
        raise UsageError(
            f"Expected the configuration with which run {run_id!r} began, got another one.",
            remedy="Go on with the same configuration, or begin another run, which is charged by itself.",
        )
