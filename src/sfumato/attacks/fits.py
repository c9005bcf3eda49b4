"""What an attack must train is declared as a job, so that it is planned, cached and resumed like a shadow model."""

from __future__ import annotations

from abc import ABC, abstractmethod

from sfumato.canonical import content_hash
from sfumato.types import Floats


class Fit(ABC):
    """One model that an attack needs for one target. Frozen dataclasses whose fields determine the result."""

    @abstractmethod
    def run(self) -> dict[str, Floats]:
        """Train, and return the arrays that the attack's `score` will read. A pure function of the fields."""

    @property
    def key(self) -> str:
        """Content hash: equal fits are run once. Arrays count by their digest."""
        return content_hash({"fit": type(self).__qualname__, "of": self})
