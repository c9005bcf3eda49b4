"""What touched the private records, in order. A guarantee is computed from the whole of it, or there is none.

Every read of private records writes an `Event`. An event with a mechanism can be accounted for; one without makes the
guarantee *none, because of this event*. Weights carry the history of every stage that led to them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sfumato.errors import UsageError


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

    def __post_init__(self) -> None:
        if not self.stage or not self.purpose or self.records < 0:
            raise UsageError(
                f"Expected a stage, a purpose and a number of records from 0, got {self.stage!r}, {self.purpose!r} and "
                f"{self.records!r}.",
                remedy="Say where and why the records were read; the sentence in the report is made from it.",
            )
        if self.mechanism is not None and not self.mechanism:
            raise UsageError(
                "Expected the description of a private mechanism, got an empty one.",
                remedy="Pass None for an ordinary read; an empty description would count as private.",
            )

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
        """Inverse of `plain`.

        Raises:
            UsageError: if a row is no complete event.
        """
        try:
            return cls(tuple(Event(**row) for row in rows))
        except TypeError as error:
            raise UsageError(
                f"Expected events with stage, purpose, records and mechanism, got {error}.",
                remedy="Use a history that sfumato wrote.",
            ) from error
