"""Releasing noisy copies of records, once, before anything is trained on them: what is released, in public numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sfumato.accounting.mechanisms.base import Mechanism, NoisySum
from sfumato.errors import UsageError


@dataclass(frozen=True)
class Release:
    """What takes the place of the training records: everything that is computed from it costs nothing more.

    Args:
        mechanisms: through which each record is read, all of them once.
        delta: at which epsilon is stated; well below 1 / (number of units).
        unit: what is protected, in words that are part of the claim.
        copies: noisy copies of each record.
        facts: more plain facts for the record.
    """

    mechanisms: tuple[Mechanism, ...]
    delta: float
    unit: str
    copies: int
    facts: tuple[tuple[str, Any], ...] = ()

    def __post_init__(self) -> None:
        if not 0 < self.delta < 1:
            raise UsageError(f"Expected `delta` in (0, 1), got {self.delta!r}.", remedy="A usual value is 1e-5.")
        if not any(isinstance(mechanism, NoisySum) for mechanism in self.mechanisms):
            raise UsageError(
                "Expected a mechanism for the inputs, got none.", remedy="Name what the records are read through."
            )

    @property
    def noise_multiplier(self) -> float:
        """Of the noise on the inputs."""
        return next(one.noise_multiplier for one in self.mechanisms if isinstance(one, NoisySum))

    def events(self, *, audit_only: bool) -> list[dict[str, Any]]:
        """What a history keeps of each mechanism, as an accountant reads it.

        Args:
            audit_only: whether the noise came from a seed.
        """
        facts = {"delta": self.delta, "unit": self.unit, "audit_only": audit_only, **dict(self.facts)}
        return [mechanism.plain() | facts for mechanism in self.mechanisms]
