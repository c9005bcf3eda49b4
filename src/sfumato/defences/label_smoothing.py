"""Label smoothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from sfumato.training.defence import Defence, PerExampleLoss
from sfumato.validate import in_range


@dataclass(frozen=True, kw_only=True)
class LabelSmoothing(Defence):
    """Trains on labels mixed with the uniform distribution (Szegedy et al., 2016, section 7).

    Meant as regularisation; it can raise the success of attacks that train shadow models.

    Args:
        smoothing: weight of the uniform distribution, in [0, 1].
    """

    name: ClassVar[str] = "label-smoothing"
    reference: ClassVar[str] = "szegedy2016rethinking"
    summary: ClassVar[str] = "Mixes every label with the uniform distribution over the classes."
    bibtex: ClassVar[str] = """@inproceedings{szegedy2016rethinking,
  author = {Szegedy, Christian and Vanhoucke, Vincent and Ioffe, Sergey and Shlens, Jon and Wojna, Zbigniew},
  title = {Rethinking the Inception Architecture for Computer Vision},
  booktitle = {IEEE Conference on Computer Vision and Pattern Recognition},
  pages = {2818--2826},
  year = {2016}
}"""

    smoothing: float = 0.1

    def __post_init__(self) -> None:
        in_range("smoothing", self.smoothing, 0, 1)

    def loss(self, outputs: torch.Tensor, targets: torch.Tensor, inner: PerExampleLoss) -> torch.Tensor:
        return inner(outputs, smoothed(targets, self.smoothing))


def smoothed(targets: torch.Tensor, smoothing: float) -> torch.Tensor:
    """(1 - smoothing) * targets + smoothing / classes, for soft labels [rows, classes]."""
    return (1 - smoothing) * targets + smoothing / targets.shape[1]
