"""What may be said about a set of weights: a sentence with all numbers that belong to it, or the reason for none."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal
from typing import Any

from sfumato.accounting.accountants.base import Accountant
from sfumato.accounting.accountants.pld import PLD
from sfumato.accounting.adjacency import Adjacency
from sfumato.accounting.catalogue import mechanism
from sfumato.accounting.history import Event, History
from sfumato.accounting.mechanisms.base import Mechanism
from sfumato.errors import SfumatoError

AUDIT_ONLY = "audit run: the noise came from a seed, so these weights must not be released as private"


@dataclass(frozen=True)
class NoGuarantee:
    """No formal guarantee holds.

    Args:
        statement: "none, because of ...".
    """

    statement: str


@dataclass(frozen=True)
class Guarantee:
    """(epsilon, delta)-differential privacy of everything that touched the private records.

    Args:
        epsilon: an upper bound, at `delta`.
        delta: probability with which the bound on the loss may fail.
        adjacency: when two data sets are neighbours.
        unit: what one unit is, e.g. "example" or "patient, at most 20 records each".
        accountant: name of the accountant.
        mechanisms: all mechanisms, oldest first; they are composed.
        audit_only: whether the noise of any of them could be drawn again from a seed.
    """

    epsilon: float
    delta: float
    adjacency: Adjacency
    unit: str
    accountant: str
    mechanisms: tuple[Mechanism, ...]
    audit_only: bool

    @property
    def statement(self) -> str:
        """One sentence: epsilon (rounded up to 3 digits), delta, neighbours, unit, sampler and steps, accountant."""
        ran = "; then ".join(mechanism.described for mechanism in self.mechanisms)
        sentence = (
            f"epsilon {rounded_up(self.epsilon, 3)} at delta {self.delta:g}, neighbouring data sets differ by "
            f"{self.adjacency.words} ({self.adjacency}), unit: {self.unit}; {ran}; accounted by "
            f"{PLD.words if self.accountant == PLD.name else self.accountant}"
        )
        return f"{sentence} ({AUDIT_ONLY})" if self.audit_only else sentence

    def epsilon_at(self, delta: float) -> float:
        """The epsilon of the same mechanisms at another delta."""
        return PLD().epsilon(self.mechanisms, delta)


def rounded_up(value: float, digits: int) -> str:
    """`value` in decimal with `digits` significant digits, never below the value."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    exact = Decimal(repr(value))
    step = Decimal(1).scaleb(exact.adjusted() - digits + 1)
    return f"{float(exact.quantize(step, rounding=ROUND_CEILING)):.{digits}g}"


def guarantee(history: History, delta: float | None = None) -> Guarantee | NoGuarantee:
    """What holds for weights with this history: the composition of all its events, or none with the reason.

    Args:
        history: everything that touched the private records.
        delta: of the statement. None takes the one that the events state; events that state different ones give none,
            because whichever were picked would be somebody's choice after the fact.

    Raises:
        UsageError: if `delta` is not in (0, 1).
    """
    reason = history.why_no_guarantee() or _mixed(history.events)
    if reason is not None:
        return NoGuarantee(reason)
    mechanisms = []
    for event in history.events:
        try:
            mechanisms.append(mechanism(_facts(event)))
        except (SfumatoError, TypeError) as error:
            return NoGuarantee(f"none, because of {event.purpose} at stage {event.stage}: {_short(error)}")
    deltas = {float(_facts(event)["delta"]) for event in history.events}
    if delta is None and len(deltas) > 1:
        return NoGuarantee(
            f"none, because its stages state different deltas ({', '.join(f'{value:g}' for value in sorted(deltas))})"
        )
    chosen = next(iter(deltas)) if delta is None else delta
    return _composed(history, tuple(mechanisms), chosen, PLD())


def _composed(
    history: History, mechanisms: tuple[Mechanism, ...], delta: float, accountant: Accountant
) -> Guarantee | NoGuarantee:
    epsilon = accountant.epsilon(mechanisms, delta)
    if not math.isfinite(epsilon):
        return NoGuarantee(f"none, because {mechanisms[0].described} bounds nothing at delta {delta:g}")
    return Guarantee(
        epsilon=epsilon,
        delta=delta,
        adjacency=mechanisms[0].adjacency,
        unit=_facts(history.events[0])["unit"],
        accountant=accountant.name,
        mechanisms=mechanisms,
        audit_only=any(_facts(event)["audit_only"] for event in history.events),
    )


def _facts(event: Event) -> Mapping[str, Any]:
    return event.mechanism or {}


def _short(error: Exception) -> str:
    return str(getattr(error, "message", error)).rstrip(".")


def _mixed(events: tuple[Event, ...]) -> str | None:
    """Why the events cannot be added up, or None."""
    for event in events:
        facts = _facts(event)
        where = f"{event.purpose} at stage {event.stage}"
        if not isinstance(facts.get("unit"), str) or not facts["unit"]:
            return f"none, because of {where}: it states no unit of privacy"
        if not isinstance(facts.get("audit_only"), bool):
            return f"none, because of {where}: it does not say whether its noise came from a seed"
        if not _probability(facts.get("delta")):
            return f"none, because of {where}: it states no delta between 0 and 1"
        for name in ("unit", "adjacency"):
            if facts.get(name) != _facts(events[0]).get(name):
                first = _facts(events[0]).get(name)
                return (
                    f"none, because of {where}: its {name} is {facts.get(name)!r}, and that of the first is {first!r}"
                )
    return None


def _probability(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < 1
