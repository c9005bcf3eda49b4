"""Randomised response: a label that is sometimes another one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from sfumato.accounting.adjacency import Adjacency
from sfumato.accounting.mechanisms.base import Mechanism, number, whole
from sfumato.validate import at_least

if TYPE_CHECKING:
    from dp_accounting import DpEvent

    from sfumato.accounting.privacy_loss import Losses


@dataclass(frozen=True, kw_only=True)
class RandomisedResponse(Mechanism):
    """Each unit's label as it is with probability `truth`, else drawn from all classes (Kairouz, Oh, Viswanath 2014).

    Args:
        label_epsilon: of one answer when the label is replaced by another, above 0; no delta is needed.
        classes: k, how many labels there are: public.
        steps: how many answers are released about each unit.
        adjacency: REPLACE_ONE; or REPLACE_SPECIAL, where the unit without a contribution answers uniformly at random.
    """

    name: ClassVar[str] = "randomised-response"
    sampler: ClassVar[str] = "an answer about every unit"
    adjacencies: ClassVar[tuple[Adjacency, ...]] = (Adjacency.REPLACE_ONE, Adjacency.REPLACE_SPECIAL)

    label_epsilon: float
    classes: int

    def __post_init__(self) -> None:
        super().__post_init__()
        number("label_epsilon", self.label_epsilon)
        at_least("label_epsilon", self.label_epsilon, math.nextafter(0, 1))
        whole("classes", self.classes)
        at_least("classes", self.classes, 2)

    @staticmethod
    def why_not(adjacency: Adjacency) -> str:
        return f"whoever counts the answers knows the number of units, which {adjacency} keeps secret"

    @property
    def silent(self) -> bool:
        return False

    @property
    def truth(self) -> float:
        """Probability with which the label itself is answered without drawing: (e^eps - 1) / (e^eps + k - 1)."""
        false = math.exp(-self.label_epsilon)
        return -math.expm1(-self.label_epsilon) / (1 + (self.classes - 1) * false)

    @property
    def described(self) -> str:
        times = "" if self.steps == 1 else f", {self.steps} answers"
        return f"randomised response over {self.classes} labels at epsilon {self.label_epsilon:g}{times}"

    def dp_event(self) -> DpEvent:
        from dp_accounting import ComposedDpEvent, RandomizedResponseDpEvent

        # one by one: dp-accounting 0.6's PLD accountant counts a self-composed randomised response once only
        return ComposedDpEvent([RandomizedResponseDpEvent(1 - self.truth, self.classes)] * self.steps)

    def losses(self, interval: float) -> Losses:
        from sfumato.accounting.privacy_loss import randomised_response

        special = self.adjacency is Adjacency.REPLACE_SPECIAL
        return randomised_response(self.label_epsilon, self.classes, interval, special=special)
