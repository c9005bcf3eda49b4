"""Score rounding."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch

from sfumato.defences.memguard import keeping_label
from sfumato.training.defence import Behind, Defence
from sfumato.training.draws import Draws
from sfumato.training.losses import log_probabilities, two_column
from sfumato.validate import in_range

NOTHING = math.log(1e-30)  # told of a probability that is rounded to 0


@dataclass(frozen=True, kw_only=True)
class ScoreRounding(Defence):
    """Answers with probabilities rounded to a few digits, one of the first countermeasures to inversion.

    Fredrikson, Jha and Ristenpart (2015) name it in their abstract. Rounded probabilities need not sum to 1; one that
    is rounded to 0 is told as 1e-30. The label stays: where rounding makes others equal to it, its answer is the next
    larger number. So attacks on labels see what they saw before, the training leaks as it did, and whoever has the
    weights has everything.

    Args:
        digits: behind the point, 0 to 7.
    """

    name: ClassVar[str] = "score-rounding"
    reference: ClassVar[str] = "fredrikson2015model"
    summary: ClassVar[str] = "Answers with probabilities rounded to a few digits; labels stay."
    bibtex: ClassVar[str] = """@inproceedings{fredrikson2015model,
  author = {Fredrikson, Matt and Jha, Somesh and Ristenpart, Thomas},
  title = {Model Inversion Attacks that Exploit Confidence Information and Basic Countermeasures},
  booktitle = {ACM SIGSAC Conference on Computer and Communications Security},
  pages = {1322--1333},
  year = {2015}
}"""
    keeps_labels: ClassVar[bool] = True
    adaptive: ClassVar[tuple[str, ...]] = ("augmentation-bits", "gap", "label-noise")

    digits: int = 1

    def __post_init__(self) -> None:
        in_range("digits", self.digits, 0, 7)

    @property
    def random_answers(self) -> bool:
        return False

    def guard(self, logits: torch.Tensor, draws: Draws, behind: Behind) -> torch.Tensor:
        plain = two_column(logits, "binary" if logits.shape[1] == 1 else "multiclass")
        return keeping_label(rounded(log_probabilities(plain), self.digits), plain.argmax(dim=1))


def rounded(answers: torch.Tensor, digits: int) -> torch.Tensor:
    """Log-probabilities [rows, classes] of probabilities rounded to so many digits behind the point."""
    probabilities = answers.double().exp().round(decimals=digits)
    return probabilities.log().clamp_min(NOTHING).to(answers.dtype)
