"""What every accountant does: turn mechanisms into epsilon."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from sfumato.accounting.mechanisms.base import Mechanism
from sfumato.errors import NotApplicable, UsageError


@dataclass(frozen=True)
class Accountant(ABC):
    """An upper bound on the privacy loss of mechanisms that are run one after the other."""

    name: ClassVar[str] = ""
    words: ClassVar[str] = ""

    def epsilon(self, mechanisms: Sequence[Mechanism], delta: float) -> float:
        """The epsilon for which all mechanisms together are (epsilon, delta)-DP; infinite only without a bound.

        Raises:
            UsageError: if delta is not in (0, 1), or the mechanisms state different neighbouring relations.
            NotApplicable: if this accountant has no bound for one of the mechanisms.
        """
        if not 0 < delta < 1:
            raise UsageError(
                f"Expected `delta` above 0 and below 1, got {delta!r}.",
                remedy="Choose one well below one over the number of units, e.g. 1e-6.",
            )
        running = [mechanism for mechanism in mechanisms if mechanism.steps]
        one_relation(running)
        for mechanism in running:
            reason = self.why_not(mechanism)
            if reason is not None:
                raise NotApplicable(reason, remedy="Use the PLD accountant.")
        if not running:
            return 0.0
        if any(mechanism.silent for mechanism in running):
            return math.inf
        return self._epsilon(running, delta)

    @abstractmethod
    def _epsilon(self, mechanisms: Sequence[Mechanism], delta: float) -> float:
        """Epsilon of mechanisms that all run, all with noise, all covered."""

    def why_not(self, mechanism: Mechanism) -> str | None:
        """Why this accountant does not cover the mechanism; None where it does."""
        return None


def one_relation(mechanisms: Sequence[Mechanism]) -> None:
    """Refuse mechanisms that state different neighbouring relations: their losses do not add up."""
    found = sorted({str(mechanism.adjacency) for mechanism in mechanisms})
    if len(found) > 1:
        raise UsageError(
            f"Expected one neighbouring relation, got {', '.join(found)}.",
            remedy="State all mechanisms under the same relation.",
        )
