"""The standard normals of a path: from a layer's streams, or cryptographic where the noise is itself the mechanism."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from sfumato.private.noise.source import NoiseSource
from sfumato.sde.streams import StreamLayer, normals, normals_of_steps
from sfumato.seeding import Name
from sfumato.validate import at_least

TOGETHER = 2048  # normals per record that are drawn at a time; small states would else wait for the generator's seed


class Drawn:
    """Normals of one call of a layer, by step; those of several steps are drawn at a time where the state is small.

    A step that is asked for again gets the same, so a checkpointed step needs no noise to be kept.

    Args:
        layer: whose streams are used.
        call: number of the call within the pass.
        steps: N, of the path.
    """

    def __init__(self, layer: StreamLayer, call: int, steps: int) -> None:
        self.layer, self.call, self.steps = layer, call, steps
        self._first, self._drawn = -1, torch.empty(0)

    def __call__(self, step: int, h: torch.Tensor) -> torch.Tensor:
        """Of the shape of `h` [M * batch, ...]."""
        together = min(self.steps, TOGETHER // max(1, math.prod(h.shape[1:])))
        if together <= 1 or self.layer.draws is None:
            return normals(self.layer, self.call, step, h)
        first = step - step % together
        if first != self._first:
            several = min(together, self.steps - first)
            self._drawn = normals_of_steps(self.layer, self.call, first, h, several)
            self._first = first
        return self._drawn[step - first]


@dataclass(frozen=True, eq=False)
class SourceDraws:
    """A noise source as the streams of one model, for `set_noise`: every normal is drawn by it.

    With `SystemNoise` the noise is cryptographic and cannot be repeated, so a checkpointed block keeps it.

    Args:
        source: of the noise; a seeded one is for audits only.
    """

    source: NoiseSource

    @property
    def models(self) -> int:
        """1: a source gives no streams to a stack."""
        return 1

    @property
    def repeatable(self) -> bool:
        """Whether the same names give the same numbers again."""
        return self.source.audit_only

    def at(self, *names: Name) -> SourceDraws:
        """The draws at an address of the source."""
        return SourceDraws(self.source.at(*names))

    def gaussian(self, name: Name, *shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        """[1, *shape], standard normal, float32 or float64."""
        return self.source.at(name).fill(torch.empty(1, *shape, dtype=dtype))

    def keep(self, name: Name, rate: float, *shape: int) -> torch.Tensor:
        """bool [1, *shape], True with probability `rate`."""
        return torch.from_numpy(self.source.at(name).uniform(math.prod(shape)) < rate).reshape(1, *shape)


def normals_from(source: NoiseSource, steps: int, like: torch.Tensor) -> torch.Tensor:
    """[steps, *like.shape]: the normals of a whole path, of the type and on the device of `like`.

    Args:
        source: `SystemNoise` where the noise is the mechanism.
        steps: N, at least 1.
        like: a state [batch, ...], float32 or float64.

    Raises:
        UsageError: for other types, which receive no noise.
    """
    at_least("steps", steps, 1)
    return source.fill(torch.empty(steps, *like.shape, dtype=like.dtype)).to(like.device)
