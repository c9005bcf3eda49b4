"""What a generator is to an attack, and what makes one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch

from sfumato.attacks.fits import Fit
from sfumato.attacks.inversion.evidence import ClassEvidence
from sfumato.errors import NotApplicable
from sfumato.types import Floats


class Generator(ABC):
    """A differentiable map from latents to records in the box. Its weights are fixed and need no gradient.

    Attributes:
        latent: length of a latent vector.
        conditional: whether it takes the class, too.
        stages: how many places it can be entered at: 1 for latents only; an attack that moves inside uses `enter`.
    """

    latent: int
    conditional: bool = False
    stages: int = 1

    @abstractmethod
    def __call__(self, z: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
        """Records [b, *shape] inside the box for latents [b, latent]; classes int64 [b] where it is conditional."""

    def sample(self, count: int, generator: torch.Generator) -> torch.Tensor:
        """float32 [count, latent], drawn from the prior: standard normal unless overridden."""
        return torch.randn(count, self.latent, generator=generator)

    def realism(self, x: torch.Tensor) -> torch.Tensor:
        """float [b], higher where records [b, *shape] look more like public ones, with a gradient.

        Raises:
            NotApplicable: for a generator that came without a critic.
        """
        raise NotApplicable(f"needs a critic of pictures, got {type(self).__name__}, which has none")

    def enter(
        self, stage: int, hidden: torch.Tensor, z: torch.Tensor, labels: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Records from the feature map in front of block `stage` (1 .. stages - 1) and the latents [b, latent]."""
        raise NotApplicable(f"needs a generator with blocks to enter, got {type(self).__name__}")

    def onward(
        self, stage: int, hidden: torch.Tensor, z: torch.Tensor, labels: torch.Tensor | None = None
    ) -> torch.Tensor:
        """The feature map in front of block `stage + 1` from the one in front of `stage` (1 .. stages - 2)."""
        raise NotApplicable(f"needs a generator with blocks to enter, got {type(self).__name__}")

    def hidden(self, stage: int, z: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
        """The feature map in front of block `stage` for latents [b, latent]; stage 0 gives `z` itself."""
        if stage == 0:
            return z
        raise NotApplicable(f"needs a generator with blocks to enter, got {type(self).__name__}")


@dataclass(frozen=True, kw_only=True)
class GeneratorKind(ABC):
    """How a generator is made. Fields are its numbers."""

    name: ClassVar[str] = ""
    reference: ClassVar[str] = ""
    bibtex: ClassVar[str] = ""
    summary: ClassVar[str] = ""
    needs_target: ClassVar[bool] = False  # whether the target is asked while it is made (its key then names the target)
    images_only: ClassVar[bool] = True

    @classmethod
    def example(cls) -> GeneratorKind:
        """One that is quickly made, for contract tests."""
        return cls()

    @abstractmethod
    def fit(self, evidence: ClassEvidence) -> Fit | None:
        """The job that makes its arrays, or None where nothing is trained (a generator that the user brings).

        Unless `needs_target`, the job may not touch `evidence.oracle`, so that all targets share it.
        """

    @abstractmethod
    def load(self, arrays: Mapping[str, Floats], evidence: ClassEvidence) -> Generator:
        """The generator from what the job left; `arrays` is empty where there was none."""
