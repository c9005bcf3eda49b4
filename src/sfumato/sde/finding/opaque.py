"""A module that is taken as a residual block without looking inside: B(h) = h + (B(h) - h)."""

from __future__ import annotations

from typing import cast

import torch

from sfumato.sde.block import SDEBlock
from sfumato.sde.finding.drift import OpaqueDrift


class OpaqueBlock(SDEBlock):
    """As `SDEBlock`, over an `OpaqueDrift`.

    One step of Euler's method without noise is B(h) itself, which h + (B(h) - h) is not after rounding.
    """

    def forward(self, h: torch.Tensor, noise: torch.Tensor | None = None) -> torch.Tensor:
        """[batch, *shape] to the same, see `SDEBlock.forward`."""
        one_step = self.grid.steps == 1 and self.integrator.evaluations == 1
        if (self.before_start or one_step) and not self.level and self.after is None:
            return cast(OpaqueDrift, self.drift).block(h)
        return super().forward(h, noise)
