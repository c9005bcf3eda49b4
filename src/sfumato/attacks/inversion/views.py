"""Random views of pictures through which a gradient passes: crops, mirrors, small turns, brightness and contrast."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from sfumato.validate import in_range

DRAWS = 8  # uniform numbers for one view


@dataclass(frozen=True, kw_only=True)
class Views:
    """How views are drawn. The default leaves a picture as it is.

    A crop has a random area and a random ratio of its sides, and is resized to the picture's own size. Ours: sides are
    not rounded to whole pixels, a side that would be longer than the picture is cut, and what a turn brings in from
    outside is the nearest pixel.

    Args:
        area: smallest and largest share of the picture in a crop, in (0, 1].
        ratio: smallest and largest width by height of a crop, relative to the picture's.
        mirror: share of views that are mirrored, left to right.
        turn: largest angle, degrees.
        jitter: largest relative change of brightness and of contrast.
    """

    area: tuple[float, float] = (1.0, 1.0)
    ratio: tuple[float, float] = (1.0, 1.0)
    mirror: float = 0.0
    turn: float = 0.0
    jitter: float = 0.0

    def __post_init__(self) -> None:
        for share in self.area:
            in_range("area", share, 1e-3, 1.0)
        in_range("mirror", self.mirror, 0.0, 1.0)
        in_range("turn", self.turn, 0.0, 180.0)
        in_range("jitter", self.jitter, 0.0, 1.0)

    def of(self, x: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
        """One view of each picture.

        Args:
            x: float [b, channels, height, width], pixels from 0 to 1.
            draws: float [b, DRAWS], uniform in [0, 1).

        Returns:
            float [b, channels, height, width], pixels from 0 to 1.
        """
        grid = F.affine_grid(_places(self, draws, x.shape[3] / x.shape[2]).to(x), list(x.shape), align_corners=False)
        seen = F.grid_sample(x, grid, mode="bilinear", padding_mode="border", align_corners=False)
        return _jittered(seen, self.jitter, draws.to(x)) if self.jitter else seen


def _places(views: Views, draws: torch.Tensor, aspect: float) -> torch.Tensor:
    """[b, 2, 3]: where in the picture, from -1 to 1, each point of the view comes from."""
    area = views.area[0] + (views.area[1] - views.area[0]) * draws[:, 0]
    low, high = (math.log(side) for side in views.ratio)
    ratio = torch.exp(low + (high - low) * draws[:, 1])
    width, height = (area * ratio).sqrt().clamp(max=1.0), (area / ratio).sqrt().clamp(max=1.0)
    right, down = (1 - width) * (2 * draws[:, 2] - 1), (1 - height) * (2 * draws[:, 3] - 1)
    flip = 1.0 - 2.0 * (draws[:, 4] < views.mirror)
    angle = math.radians(views.turn) * (2 * draws[:, 5] - 1)
    cos, sin = angle.cos(), angle.sin()
    first = torch.stack([flip * width * cos, -height * sin / aspect, right], dim=1)
    second = torch.stack([flip * width * sin * aspect, height * cos, down], dim=1)
    return torch.stack([first, second], dim=1)


def _jittered(x: torch.Tensor, jitter: float, draws: torch.Tensor) -> torch.Tensor:
    """Brightness, then contrast about the mean of all pixels, each by a factor within `jitter` of 1."""
    brightness, contrast = (1 + jitter * (2 * draws[:, column, None, None, None] - 1) for column in (6, 7))
    bright = (brightness * x).clamp(0.0, 1.0)
    mean = bright.mean(dim=(1, 2, 3), keepdim=True)
    return (mean + contrast * (bright - mean)).clamp(0.0, 1.0)
