"""Group normalisation without parameters, as a feature map."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch.nn.functional import group_norm

from sfumato.errors import UnsupportedModel
from sfumato.models.features.base import Features
from sfumato.validate import at_least, positive


@dataclass(frozen=True, kw_only=True)
class GroupNormalised(Features):
    """Mean 0 and variance 1 within each group of channels of each record (Wu and He, 2018).

    Args:
        groups: of equally many neighbouring channels.
        eps: added to the variance.
    """

    name: ClassVar[str] = "group-normalised"
    reference: ClassVar[str] = "wu2018group"
    bibtex: ClassVar[str] = """@inproceedings{wu2018group,
  author = {Wu, Yuxin and He, Kaiming},
  title = {Group Normalization},
  booktitle = {European Conference on Computer Vision},
  year = {2018}
}"""

    groups: int = 27
    eps: float = 1e-5

    def __post_init__(self) -> None:
        at_least("groups", self.groups, 1)
        positive("eps", self.eps)

    def shape(self, record: tuple[int, ...]) -> tuple[int, ...]:
        if not record or record[0] % self.groups:
            raise UnsupportedModel(
                f"Expected channels in {self.groups} equal groups, got records of shape {record}.",
                remedy="Choose a number of groups that divides the number of channels.",
            )
        return record

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """float [n, channels, ...] to float32 of the same shape."""
        self.shape(tuple(x.shape[1:]))
        return group_norm(x.detach().float(), self.groups, eps=self.eps) if len(x) else x.detach().float()
