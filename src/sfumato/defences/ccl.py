"""Convex-concave loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from sfumato.training.defence import Defence, PerExampleLoss
from sfumato.training.losses import log_probabilities
from sfumato.validate import at_least, in_range, one_of, positive

FORMS = ("exponential", "quadratic")
TINY = 1e-12  # an exponent below 1 has no finite slope at a doubt of 0


@dataclass(frozen=True, kw_only=True)
class CCL(Defence):
    """Adds a concave term to the convex loss, so that training losses vary more (Liu et al., 2024).

    The loss of a record is scale * (alpha * cross-entropy - (1 - alpha) * c(p)), where p is the probability of its
    class and -c is concave. The official code adds c(p) in the focal variant; here it is subtracted in all of them.

    Args:
        alpha: weight of the convex part, in [0, 1].
        scale: of the whole loss, above 0.
        form: "exponential", c(p) = exp(p) (CCEL), or "quadratic", c(p) = p + p^2 / 2 (CCQL).
        focusing: exponent of the focal loss (1 - p)^focusing * cross-entropy, which then takes the place of
            cross-entropy; 0 for cross-entropy itself.
    """

    name: ClassVar[str] = "ccl"
    reference: ClassVar[str] = "liu2024convex"
    summary: ClassVar[str] = "Adds a concave term to the loss, so that losses on training records vary more."
    bibtex: ClassVar[str] = """@inproceedings{liu2024convex,
  author = {Liu, Zhenlong and Feng, Lei and Zhuang, Huiping and Cao, Xiaofeng and Wei, Hongxin},
  title = {Mitigating Privacy Risk in Membership Inference by Convex-Concave Loss},
  booktitle = {International Conference on Machine Learning},
  year = {2024}
}"""

    alpha: float = 0.5
    scale: float = 0.05
    form: str = "exponential"
    focusing: float = 0.0

    def __post_init__(self) -> None:
        in_range("alpha", self.alpha, 0, 1)
        positive("scale", self.scale)
        one_of("form", self.form, FORMS)
        at_least("focusing", self.focusing, 0)

    def loss(self, outputs: torch.Tensor, targets: torch.Tensor, inner: PerExampleLoss) -> torch.Tensor:
        probabilities = log_probabilities(outputs).exp()
        convex = inner(outputs, targets)
        if self.focusing:
            doubt = (1 - (targets * probabilities).sum(dim=1)).clamp_min(TINY)
            convex = doubt**self.focusing * convex
        taken = (targets * subtracted(probabilities, self.form)).sum(dim=1)
        return self.scale * (self.alpha * convex - (1 - self.alpha) * taken)


def subtracted(probabilities: torch.Tensor, form: str) -> torch.Tensor:
    """c(p), elementwise, for any shape.

    Args:
        probabilities: in [0, 1].
        form: "exponential" or "quadratic".
    """
    if form == "exponential":
        return probabilities.exp()
    return probabilities + probabilities.square() / 2
