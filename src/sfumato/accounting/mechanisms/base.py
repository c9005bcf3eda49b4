"""What every private mechanism states about itself."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

from sfumato.accounting.adjacency import Adjacency
from sfumato.errors import NotPrivateError, UsageError
from sfumato.validate import at_least, in_range

if TYPE_CHECKING:  # accountants need them, plans do not, and importing them takes seconds
    from dp_accounting import DpEvent

    from sfumato.accounting.privacy_loss import Losses


@dataclass(frozen=True, kw_only=True)
class Mechanism(ABC):
    """What is released of private records, `steps` times. Fields are public facts.

    Args:
        steps: how many times.
        adjacency: the neighbouring relation.
    """

    name: ClassVar[str] = ""
    sampler: ClassVar[str] = ""
    adjacencies: ClassVar[tuple[Adjacency, ...]] = tuple(Adjacency)

    steps: int
    adjacency: Adjacency

    def __post_init__(self) -> None:
        object.__setattr__(self, "adjacency", Adjacency.named(self.adjacency))
        whole("steps", self.steps)
        at_least("steps", self.steps, 0)
        if self.adjacency not in self.adjacencies:
            raise NotPrivateError(
                f"Expected one of {', '.join(self.adjacencies)} for {self.sampler}, got {self.adjacency}: "
                f"{self.why_not(self.adjacency)}.",
                remedy="Choose another neighbouring relation or another sampler.",
            )

    @property
    @abstractmethod
    def silent(self) -> bool:
        """Whether it adds no noise at all, so that it bounds nothing."""

    @property
    def kind(self) -> str:
        """The name under which `from_plain` and the registry know this mechanism."""
        return self.name

    @property
    @abstractmethod
    def described(self) -> str:
        """Sampler, noise and steps, as part of a sentence."""

    @abstractmethod
    def dp_event(self) -> DpEvent:
        """All steps as dp-accounting's event, for its PLD accountant under `adjacency.relation`."""

    def renyi_event(self) -> DpEvent | None:
        """All steps as an event for dp-accounting's RDP accountant under add-or-remove; None where it has no bound.

        Not the same as `dp_event`: under REPLACE_ONE its PLD accountant doubles the sensitivity of a Gaussian, its RDP
        accountant does not.
        """
        return None

    @abstractmethod
    def losses(self, interval: float) -> Losses:
        """Pessimistic privacy loss of one of the `repeats` equal parts, on multiples of `interval`."""

    @property
    def repeats(self) -> int:
        """How many times `losses` is composed."""
        return self.steps

    @staticmethod
    def why_not(adjacency: Adjacency) -> str:
        """Why a relation outside `adjacencies` is not covered."""
        return f"no accountant covers {adjacency} here"

    def lasting(self, steps: int) -> Self:
        """The same mechanism over another number of steps."""
        return replace(self, steps=steps)

    def plain(self) -> dict[str, Any]:
        """JSON form: `kind` and every field."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {"kind": self.name, **values, "adjacency": self.adjacency.value}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Self:
        """Inverse of `plain`; entries that are no fields (delta, unit, ...) are left to the caller.

        Raises:
            UsageError: if a field is missing or not usable.
        """
        names = [field.name for field in fields(cls)]
        missing = [name for name in names if name not in plain]
        if missing or plain.get("kind") != cls.name:
            raise UsageError(
                f"Expected kind {cls.name!r} with {', '.join(names)}, got kind {plain.get('kind')!r} without "
                f"{', '.join(missing) or 'gaps'}.",
                remedy="Use a mechanism that sfumato wrote.",
            )
        return cls(**{name: plain[name] for name in names})


@dataclass(frozen=True, kw_only=True)
class NoisySum(Mechanism):
    """Noisy sums of clipped contributions, `steps` times.

    Args:
        noise_multiplier: standard deviation of the noise over the clipping norm, for every adjacency. 0 is no noise.
        steps: how many noisy sums are released.
        adjacency: the neighbouring relation.
    """

    noise_multiplier: float

    def __post_init__(self) -> None:
        number("noise_multiplier", self.noise_multiplier)
        at_least("noise_multiplier", self.noise_multiplier, 0)
        super().__post_init__()

    @property
    def silent(self) -> bool:
        return self.noise_multiplier == 0


def number(name: str, value: object) -> None:
    """Refuse what is no finite number; True is none."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise UsageError(f"Expected `{name}` as a finite number, got {value!r}.", remedy=f"Give `{name}` a number.")


def whole(name: str, value: object) -> None:
    """Refuse what is no whole number; True is none."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise UsageError(f"Expected `{name}` as a whole number, got {value!r}.", remedy="Use 1, 2, 3, ...")


def rate(name: str, value: float) -> None:
    """Refuse a probability outside (0, 1]."""
    number(name, value)
    in_range(name, value, math.nextafter(0, 1), 1)
