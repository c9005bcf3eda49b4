"""Generators that are a chain of blocks, which an attack can enter at each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from sfumato.attacks.inversion.generators.base import Generator
from sfumato.attacks.inversion.generators.boxed import into_box
from sfumato.errors import UsageError
from sfumato.targets.boundary import Box

Block = Callable[[torch.Tensor, torch.Tensor, torch.Tensor | None], torch.Tensor]  # feature map, latents, classes
Critic = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True, eq=False, kw_only=True)
class StagedGenerator(Generator):
    """One block after another; what the last one leaves is moved into the box.

    Args:
        blocks: the first is given the latents, each other one the feature map that the one before left. All may read
            the latents and the classes.
        latent: length of a latent vector.
        box: where records lie.
        conditional: whether the blocks read the classes.
        critic: records [b, *shape] to how real they look, float [b]; or None.
    """

    blocks: tuple[Block, ...]
    latent: int
    box: Box
    conditional: bool = False
    critic: Critic | None = None
    stages: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "stages", len(self.blocks))

    def __call__(self, z: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
        return into_box(self._chained(0, len(self.blocks), z, z, labels), self.box)

    def realism(self, x: torch.Tensor) -> torch.Tensor:
        return super().realism(x) if self.critic is None else self.critic(x)

    def enter(
        self, stage: int, hidden: torch.Tensor, z: torch.Tensor, labels: torch.Tensor | None = None
    ) -> torch.Tensor:
        self._assert_stage(stage, 1, self.stages - 1)
        return into_box(self._chained(stage, self.stages, hidden, z, labels), self.box)

    def onward(
        self, stage: int, hidden: torch.Tensor, z: torch.Tensor, labels: torch.Tensor | None = None
    ) -> torch.Tensor:
        self._assert_stage(stage, 1, self.stages - 2)
        return self._chained(stage, stage + 1, hidden, z, labels)

    def hidden(self, stage: int, z: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
        self._assert_stage(stage, 0, self.stages - 1)
        return self._chained(0, stage, z, z, labels)

    def _chained(
        self, first: int, last: int, hidden: torch.Tensor, z: torch.Tensor, labels: torch.Tensor | None
    ) -> torch.Tensor:
        if self.conditional and labels is None:
            raise UsageError("Expected classes for a generator that takes them, got none.", remedy="Pass `labels`.")
        for block in self.blocks[first:last]:
            hidden = block(hidden, z, labels)
        return hidden

    def _assert_stage(self, stage: int, low: int, high: int) -> None:
        if not low <= stage <= high:
            raise UsageError(
                f"Expected a stage from {low} to {high}, got {stage}.",
                remedy=f"This generator has {self.stages} blocks; count from 0.",
            )
