"""What the residual, ODE and SDE networks share: one stem and one head around three kinds of body.

The stem and head for images are those of the torchdiffeq example `odenet_mnist`, except that the first convolution is
padded, so that 28x28 becomes 7x7 and not 6x6. No layer couples the records of a batch.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from sfumato.models.base import ModelFamily
from sfumato.models.shape import flat_features, image_shape, outputs_checked
from sfumato.sde.block import SDEBlock
from sfumato.sde.diffusions.base import DiffusionField
from sfumato.sde.drifts.convolutional import ConvDrift, group_norm
from sfumato.sde.drifts.dense import DenseDrift
from sfumato.sde.integrate import Grid
from sfumato.sde.integrators.choice import integrator_named
from sfumato.validate import at_least

SMALLEST, TWICE = 8, 16  # sides from which the stem halves an image once, and twice

CHEN2018 = """@inproceedings{chen2018neural,
  author = {Chen, Ricky T. Q. and Rubanova, Yulia and Bettencourt, Jesse and Duvenaud, David},
  title = {Neural Ordinary Differential Equations},
  booktitle = {Advances in Neural Information Processing Systems},
  volume = {31},
  year = {2018}
}"""


@dataclass(frozen=True, kw_only=True)
class SteadyFamily(ModelFamily):
    """A stem to a state, a body that keeps the state's shape, and a head; the body is theirs.

    Images become [channels, height / 4, width / 4], or a half of each side where one is below 16 pixels. Records of
    any other shape are flattened and become [width].

    Args:
        channels: of the state of an image.
        width: of the state of a table's row.
    """

    channels: int = 64
    width: int = 64

    def __post_init__(self) -> None:
        at_least("channels", self.channels, 1)
        at_least("width", self.width, 1)

    @property
    def added(self) -> int:
        """Channels of zeros that the state has behind those of the stem."""
        return 0

    @abstractmethod
    def body(self, state: tuple[int, ...]) -> list[nn.Module]:
        """Fresh layers from [batch, *state] to the same.

        Args:
            state: (channels, height, width) or (width,), with the added channels.
        """

    def build(self, shape: tuple[int, ...], outputs: int) -> nn.Module:
        return self._for_images(shape, outputs) if len(shape) == 3 else self._for_tables(shape, outputs)

    def _for_images(self, shape: tuple[int, ...], outputs: int) -> nn.Module:
        image = image_shape(self.name, shape, smallest=SMALLEST)
        halved = 2 if min(image.height, image.width) >= TWICE else 1
        channels = self.channels + self.added
        body = self.body((channels, image.height >> halved, image.width >> halved))
        head = [group_norm(channels), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        layers = [*_stem(image.channels, self.channels, halved), *_zeros(self.added), *body, *head]
        return nn.Sequential(*layers, nn.Linear(channels, outputs_checked(outputs)))

    def _for_tables(self, shape: tuple[int, ...], outputs: int) -> nn.Module:
        stem = [nn.Flatten(), nn.Linear(flat_features(self.name, shape), self.width)]
        width = self.width + self.added
        layers = [*stem, *_zeros(self.added), *self.body((width,)), nn.LayerNorm(width), nn.SiLU()]
        return nn.Sequential(*layers, nn.Linear(width, outputs_checked(outputs)))


@dataclass(frozen=True, kw_only=True)
class ContinuousFamily(SteadyFamily):
    """A body that solves a differential equation on a fixed grid, all steps with the same weights.

    Args:
        steps: N, of the grid.
        horizon: T, where the grid ends.
        integrator: name of the method that takes a step.
        augmented: channels of zeros added to the state (augmented neural ODEs, Dupont et al., 2019).
        checkpointed: whether each step runs again in the backward pass instead of keeping its activations.
    """

    reference: ClassVar[str] = "chen2018neural"
    bibtex: ClassVar[str] = CHEN2018

    steps: int = 6
    horizon: float = 1.0
    integrator: str = "euler"
    augmented: int = 0
    checkpointed: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        Grid(horizon=self.horizon, steps=self.steps)
        integrator_named(self.integrator)
        at_least("augmented", self.augmented, 0)

    @property
    def added(self) -> int:
        return self.augmented

    def solver(
        self, state: tuple[int, ...], diffusion: DiffusionField | None = None, *, noise_at_test: bool = True
    ) -> SDEBlock:
        """A fresh block for states of this shape, with the drift of the published neighbours."""
        drift = ConvDrift(state[0]) if len(state) == 3 else DenseDrift(state[0], state[0])
        return SDEBlock(
            drift,
            Grid(horizon=self.horizon, steps=self.steps),
            integrator_named(self.integrator),
            diffusion,
            shape=state,
            noise_at_test=noise_at_test,
            checkpointed=self.checkpointed,
        )


class ZeroChannels(nn.Module):
    """Adds channels of zeros behind those of the state.

    Args:
        added: how many.
    """

    def __init__(self, added: int) -> None:
        super().__init__()
        self.added = added

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        """[batch, channels, ...] to [batch, channels + added, ...]."""
        return torch.cat([h, h.new_zeros(h.shape[0], self.added, *h.shape[2:])], dim=1)


def parameter_count(family: ModelFamily, shape: tuple[int, ...], outputs: int) -> int:
    """How many trained values the family's network has; takes no memory for them and draws no random number."""
    with torch.device("meta"):
        return sum(p.numel() for p in family.build(shape, outputs).parameters() if p.requires_grad)


def _zeros(added: int) -> list[nn.Module]:
    return [ZeroChannels(added)] if added else []


def _stem(before: int, channels: int, halved: int) -> list[nn.Module]:
    layers: list[nn.Module] = [nn.Conv2d(before, channels, 3, padding=1)]
    for _ in range(halved):
        layers += [group_norm(channels), nn.ReLU(), nn.Conv2d(channels, channels, 4, stride=2, padding=1)]
    return layers
