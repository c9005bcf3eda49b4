"""Several maps in a row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from sfumato.errors import UsageError
from sfumato.models.features.base import Features


@dataclass(frozen=True, kw_only=True)
class Chain(Features):
    """The first map, then the second on what it gives, and so on.

    Args:
        maps: at least one.
    """

    name: ClassVar[str] = "chain"

    maps: tuple[Features, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "maps", tuple(self.maps))
        if not self.maps:
            raise UsageError("Expected at least one map in a chain, got none.", remedy="Leave the chain out.")

    @property
    def kept_as(self) -> np.dtype | None:
        return self.maps[-1].kept_as

    def part(self, start: int, stop: int) -> Features | None:
        """The maps from `start` to before `stop` as one map; None for none."""
        maps = self.maps[start:stop]
        return (maps[0] if len(maps) == 1 else Chain(maps=maps)) if maps else None

    def shape(self, record: tuple[int, ...]) -> tuple[int, ...]:
        for part in self.maps:
            record = part.shape(record)
        return record

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        for part in self.maps:
            x = part(x)
        return x
