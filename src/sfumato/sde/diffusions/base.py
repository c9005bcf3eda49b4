"""What a diffusion field is: how strong the noise is, depending on time and state."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import nn

from sfumato.sde.system import Diffusion
from sfumato.validate import at_least


class Fields(NamedTuple):
    """A diffusion along one path, and its slope (see `System`)."""

    diffusion: Diffusion
    slope: Diffusion | None


@dataclass(frozen=True, kw_only=True)
class DiffusionField(ABC):
    """A kind of diffusion. Frozen numbers; what it learns, if anything, is in the module that `build` makes.

    The diffusion coefficient buys no formal privacy for the weights, whatever its size.

    Args:
        sigma: how strong the noise is, at least 0.
    """

    name: ClassVar[str] = ""
    family: ClassVar[str] = "diffusion"
    summary: ClassVar[str] = ""
    reference: ClassVar[str] = ""
    bibtex: ClassVar[str] = ""

    sigma: float

    def __post_init__(self) -> None:
        at_least("sigma", self.sigma, 0)

    def build(self, shape: tuple[int, ...]) -> nn.Module | None:
        """What the field learns, freshly initialised, for states [batch, *shape]; None where it learns nothing.

        The module takes the initial state h_0 and is called once per path.
        """
        return None

    @abstractmethod
    def along(self, learned: torch.Tensor | None) -> Fields:
        """The diffusion along one path.

        Args:
            learned: what the module of `build` gave for h_0, or None.
        """
