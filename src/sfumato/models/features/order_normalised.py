"""Standardisation of scattering coefficients by their order, record by record."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from sfumato.errors import UnsupportedModel
from sfumato.models.features.base import Features
from sfumato.models.scattering import ScatterFeatures
from sfumato.validate import positive


@dataclass(frozen=True, kw_only=True)
class OrderNormalised(Features):
    """Mean 0 and deviation 1 within each order of the scattering coefficients of a record, its colours together.

    Groups: the averages; first order, one for each scale; second order, one for each first orientation. Coefficients
    of one group have one size, and the colours of a picture keep their contrast to each other.

    Args:
        J: scales of the transform.
        L: its orientations.
        centre: public constant that is taken from the averages, which lie in [0, 1] like the pixels.
        floor: added to a deviation, so that an even record is not blown up; ten times of it for the averages.
    """

    name: ClassVar[str] = "order-normalised"

    J: int = 2
    L: int = 8
    centre: float = 0.47
    floor: float = 1e-3

    def __post_init__(self) -> None:
        positive("floor", self.floor)

    @property
    def groups(self) -> tuple[int, ...]:
        """The group of each coefficient of one channel, [K], in kymatio's order."""
        second = ScatterFeatures(self.J, self.L).coefficients - 1 - self.J * self.L
        first = [1 + j for j in range(self.J) for _ in range(self.L)]
        # Second order runs over scale, then first orientation, then the coarser scales and their orientations.
        angles = [
            angle for scale in range(self.J) for angle in range(self.L) for _ in range((self.J - 1 - scale) * self.L)
        ]
        assert len(angles) == second
        return (0, *first, *(1 + self.J + angle for angle in angles))

    def shape(self, record: tuple[int, ...]) -> tuple[int, ...]:
        K = len(self.groups)
        if len(record) != 3 or record[0] % K:
            raise UnsupportedModel(
                f"Expected scattering coefficients (a multiple of {K}, height, width), got shape {record}.",
                remedy="Use it after `Scattering` with the same `J` and `L`.",
            )
        return record

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """float [n, C K, h, w] to float32 of the same shape."""
        self.shape(tuple(x.shape[1:]))
        if not len(x):
            return x.detach().float()
        groups = torch.tensor(self.groups, device=x.device)
        x = x.detach().float().unflatten(1, (-1, len(groups)))
        out = torch.empty_like(x)
        for group in range(int(groups.max()) + 1):
            chosen = groups == group
            part = x[:, :, chosen] - (self.centre if group == 0 else 0.0)
            out[:, :, chosen] = _standardised(part, self.floor * (1 if group else 10))
        return out.flatten(1, 2)


def _standardised(x: torch.Tensor, floor: float) -> torch.Tensor:
    """(x - mean) / (std + floor) over all values of each record of [n, ...]."""
    std, mean = torch.std_mean(x.flatten(1), dim=1)
    spread = (-1, *(1 for _ in x.shape[1:]))
    return (x - mean.view(spread)) / (std + floor).view(spread)
