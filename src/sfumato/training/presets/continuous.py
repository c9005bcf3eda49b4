"""What the presets of residual, ODE and SDE networks share, so that they differ in the body alone."""

from __future__ import annotations

from dataclasses import dataclass

from sfumato.training.presets.base import Preset


@dataclass(frozen=True, kw_only=True)
class SteadyPreset(Preset):
    """SGD with momentum 0.9, as the published neighbours have it, at a batch of 64 and without augmentation.

    Args:
        channels: of the state of an image.
        width: of the state of a table's row.
    """

    batch_size: int = 64
    channels: int = 64
    width: int = 64


@dataclass(frozen=True, kw_only=True)
class ContinuousPreset(SteadyPreset):
    """A network around one differential equation.

    Args:
        steps: of the grid.
        horizon: where the grid ends.
        integrator: name of the method that takes a step.
        augmented: channels of zeros added to the state.
        checkpointed: whether each step runs again in the backward pass instead of keeping its activations.
    """

    steps: int = 6
    horizon: float = 1.0
    integrator: str = "euler"
    augmented: int = 0
    checkpointed: bool = False
