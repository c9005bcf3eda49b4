"""What touched the private records, in order. A guarantee is computed from the whole of it, or there is none.

Every read of private records writes an `Event`. An event with a mechanism can be accounted for; one without makes the
guarantee *none, because of this event*. Weights carry the history of every stage that led to them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

NO_ACCOUNTANT = "none, because no accountant covers the mechanisms used"


@dataclass(frozen=True)
class Event:
    """One read of private records.

    Args:
        stage: where it happened, e.g. "data", "training".
        purpose: why, e.g. "ordinary training, 12 epochs", "fit input standardisation".
        records: how many records were read.
        mechanism: description of the private mechanism that the read went through; None for an ordinary read.
    """

    stage: str
    purpose: str
    records: int
    mechanism: dict[str, Any] | None = None

    @property
    def private(self) -> bool:
        """Whether the read went through a mechanism that an accountant can cover."""
        return self.mechanism is not None


@dataclass(frozen=True)
class History:
    """The events that led to a set of weights, oldest first."""

    events: tuple[Event, ...] = ()

    def __add__(self, other: History) -> History:
        return History(self.events + other.events)

    def then(self, event: Event) -> History:
        """This history and one more event."""
        return History((*self.events, event))

    def why_no_guarantee(self) -> str | None:
        """The sentence that says why no formal guarantee holds, or None where every read was private."""
        if not self.events:
            return "none, because no event was recorded"
        for event in self.events:
            if not event.private:
                return f"none, because of {event.purpose} at stage {event.stage}"
        return None

    def plain(self) -> list[dict[str, Any]]:
        """JSON form, oldest event first."""
        return [
            {"stage": e.stage, "purpose": e.purpose, "records": e.records, "mechanism": e.mechanism}
            for e in self.events
        ]

    @classmethod
    def from_plain(cls, rows: list[dict[str, Any]]) -> History:
        """Inverse of `plain`."""
        return cls(tuple(Event(**row) for row in rows))
