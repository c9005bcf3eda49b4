"""Did every trainable parameter move? A step costs budget also where the optimiser does not hold the parameters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sfumato.errors import UsageError
from sfumato.private.session import Session

CHECKED_AFTER = 3  # steps with a learning rate above 0


@dataclass
class MovedCheck:
    """Looks once, after the first steps in which parameters could move, and at the end of shorter trainings.

    Args:
        session: whose parameters.
    """

    session: Session
    steps: int = 0

    def before(self, groups: Sequence[dict[str, Any]]) -> None:
        """Before each step, with the optimisers' groups of parameters."""
        if self.steps == CHECKED_AFTER:
            refuse_unmoved(self.session)
        self.steps += any(group["lr"] > 0 for group in groups)

    def at_end(self) -> None:
        """After the last step. A learning rate that was 0 throughout is a reason to stay."""
        if self.steps:
            refuse_unmoved(self.session)


def refuse_unmoved(session: Session) -> None:
    """Refuse to go on spending where a trainable parameter never moves.

    Raises:
        UsageError: naming the parameters.
    """
    unmoved = session.unmoved()
    if unmoved:
        raise UsageError(
            f"Expected every trainable parameter to move, got {len(unmoved)} that did not, after "
            f"{session.steps_taken} steps: {', '.join(unmoved[:5])}.",
            remedy="Make the optimiser after the last change to the network (adapters included), with all parameters, "
            "or freeze these.",
        )
