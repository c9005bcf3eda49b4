"""The label alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from sfumato.defences.score_rounding import NOTHING
from sfumato.training.defence import Behind, Defence
from sfumato.training.draws import Draws
from sfumato.training.losses import two_column


@dataclass(frozen=True, kw_only=True)
class Top1(Defence):
    """Answers with the label and nothing else: probability 1 for it, and 1e-30 for every other class.

    The end of restricting answers to the k largest, which Shokri et al. (2017) try against membership inference. It
    stops attacks that need scores, and none that asks for labels only: boundary repulsion inverts a network by labels
    alone. The training leaks as it did, and whoever has the weights has everything.
    """

    name: ClassVar[str] = "top-1"
    reference: ClassVar[str] = "shokri2017membership"
    summary: ClassVar[str] = "Answers with the label alone."
    bibtex: ClassVar[str] = """@inproceedings{shokri2017membership,
  author = {Shokri, Reza and Stronati, Marco and Song, Congzheng and Shmatikov, Vitaly},
  title = {Membership Inference Attacks Against Machine Learning Models},
  booktitle = {IEEE Symposium on Security and Privacy},
  pages = {3--18},
  year = {2017}
}"""
    keeps_labels: ClassVar[bool] = True
    adaptive: ClassVar[tuple[str, ...]] = ("augmentation-bits", "gap", "label-noise")

    @property
    def random_answers(self) -> bool:
        return False

    def guard(self, logits: torch.Tensor, draws: Draws, behind: Behind) -> torch.Tensor:
        return only_labels(two_column(logits, "binary" if logits.shape[1] == 1 else "multiclass"))


def only_labels(answers: torch.Tensor) -> torch.Tensor:
    """Answers [rows, classes] with 0 at the largest of each row, the first of equal ones, and log(1e-30) elsewhere."""
    told = torch.full_like(answers, NOTHING)
    return told.scatter(1, answers.argmax(dim=1, keepdim=True), 0.0)
