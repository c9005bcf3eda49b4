"""The processes that take a private step together: the contract, and the job of one process."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TypeVar

import torch

from sfumato.types import Rows

T = TypeVar("T")


class Job(ABC):
    """What a step needs of the processes it runs in. Every process calls the same methods in the same order."""

    @property
    @abstractmethod
    def first(self) -> bool:
        """Whether this process is the one that draws units and noise, and charges steps."""

    @abstractmethod
    def drawn(self, draw: Callable[[], Rows]) -> Rows:
        """int64 [k]: what `draw` gives in the first process, in all of them."""

    @abstractmethod
    def share(self, units: Rows) -> Rows:
        """The units whose gradients this process computes; the shares of all processes are a partition."""

    @abstractmethod
    def together(self, action: Callable[[], T]) -> T:
        """Run `action`, which must not use the job, in every process.

        Raises:
            NotPrivateError: in every process, if it fails in one (there, the failure itself).
        """

    @abstractmethod
    def total(self, tensor: torch.Tensor) -> torch.Tensor:
        """The sum over the processes, in place and in all of them; the shape is the same everywhere."""

    @abstractmethod
    def joined(self, tensor: torch.Tensor) -> torch.Tensor:
        """The rows of all processes, one process after the other, in all of them; numbers of rows may differ."""

    @abstractmethod
    def from_first(self, tensor: torch.Tensor) -> torch.Tensor:
        """The tensor of the first process, in place and in all of them; the shape is the same everywhere."""

    @abstractmethod
    def refuse_difference(self, step: int, state: Callable[[], bytes]) -> None:
        """Compare a digest [32 bytes] between the processes, at the first step and now and then afterwards.

        Raises:
            NotPrivateError: in every process, if it is not the same everywhere.
        """


class Alone(Job):
    """One process."""

    @property
    def first(self) -> bool:
        return True

    def drawn(self, draw: Callable[[], Rows]) -> Rows:
        return draw()

    def share(self, units: Rows) -> Rows:
        return units

    def together(self, action: Callable[[], T]) -> T:
        return action()

    def total(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor

    def joined(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor

    def from_first(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor

    def refuse_difference(self, step: int, state: Callable[[], bytes]) -> None:
        return
