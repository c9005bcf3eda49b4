"""What an integrator is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch

from sfumato.sde.system import System


@dataclass(frozen=True, kw_only=True)
class Integrator(ABC):
    """One step of a fixed length. Stateless: what it needs is in its arguments."""

    name: ClassVar[str] = ""
    family: ClassVar[str] = "integrator"
    summary: ClassVar[str] = ""
    reference: ClassVar[str] = ""
    bibtex: ClassVar[str] = ""
    stochastic: ClassVar[bool] = False  # whether it takes noise
    calculus: ClassVar[str] = ""  # "ito" or "stratonovich": whose solution it approximates, where it takes noise
    evaluations: ClassVar[int] = 1  # of the drift, per step
    order: ClassVar[int] = 1  # of the global error without noise
    strong_order: ClassVar[float] = 0.0  # of the error of a path, with any diagonal noise that it takes; 0: takes none
    couples: ClassVar[str] = ""  # why one record of a batch changes the steps of others, or ""

    @abstractmethod
    def step(self, system: System, t: float, dt: float, h: torch.Tensor, dw: torch.Tensor | None) -> torch.Tensor:
        """The state after one step.

        Args:
            system: drift, diffusion, slope.
            t: where the step begins.
            dt: its length, a Python number.
            h: state [batch, ...]; not written to.
            dw: Brownian increment of the state's shape, with variance dt; None for none.

        Raises:
            UsageError: if the system lacks what the integrator needs.
        """
