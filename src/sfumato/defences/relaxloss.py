"""RelaxLoss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from sfumato.defences.relaxation import (
    COUPLED,
    THRESHOLDS,
    Branches,
    Relaxation,
    against,
    confidence,
    flattened,
    held,
    relaxed,
)
from sfumato.training.defence import Defence
from sfumato.training.losses import two_column
from sfumato.training.seen import Objective, Seen
from sfumato.validate import at_least, in_range, one_of

FLATTENINGS = ("official", "simplified")


@dataclass(frozen=True, kw_only=True)
class RelaxLoss(Defence):
    """Holds the training loss near a level instead of driving it to zero (Chen et al., 2022, algorithm 1).

    With CE the mean loss of the batch: in even epochs |CE - alpha| is minimised; in odd epochs CE where it is above
    alpha, and below it the loss against flattened labels of the examples that are answered wrongly, minus CE. The
    flattened label of an example keeps its own confidence, at most `upper`, and shares out the rest.

    The objective of the inner defence takes the place of cross-entropy everywhere: with label smoothing inside it is
    the smoothed loss that is held near alpha, and the flattened labels are smoothed, too.

    Args:
        alpha: the level, in nats, at least 0. 1 is the authors' for CIFAR-10 with ResNet-20.
        upper: largest confidence in a flattened label, in [0, 1].
        flattening: "official", or "simplified": the loss against flattened labels of all examples and nothing else, as
            in the public code of CRL.
        threshold: "batch", as published, or "example": each example's own loss is compared with alpha. The second is
            ours, not the paper's: no example's loss then depends on another one, so that it may stand under DP-SGD.
        detach_target: whether no gradient flows through the flattened labels. It does in the authors' code, which for
            two classes means that the entropy of wrong answers is lowered.
        first_epoch: number of the first epoch, 0 or 1, for what is even; 0 in the authors' code.
    """

    name: ClassVar[str] = "relaxloss"
    reference: ClassVar[str] = "chen2022relaxloss"
    summary: ClassVar[str] = "Holds the mean training loss near a level, and flattens answers below it."
    bibtex: ClassVar[str] = """@inproceedings{chen2022relaxloss,
  author = {Chen, Dingfan and Yu, Ning and Fritz, Mario},
  title = {RelaxLoss: Defending Membership Inference Attacks without Losing Utility},
  booktitle = {International Conference on Learning Representations},
  year = {2022}
}"""

    branches: ClassVar[tuple[str, ...]] = Branches("distance to alpha", "descent", "flattening")
    adaptive: ClassVar[tuple[str, ...]] = ("lira-online(statistic=hinge)",)

    alpha: float = 1.0
    upper: float = 1.0
    flattening: str = "official"
    threshold: str = "batch"
    detach_target: bool = False
    first_epoch: int = 0

    def __post_init__(self) -> None:
        at_least("alpha", self.alpha, 0)
        in_range("upper", self.upper, 0, 1)
        one_of("flattening", self.flattening, FLATTENINGS)
        one_of("threshold", self.threshold, THRESHOLDS)
        one_of("first_epoch", self.first_epoch, (0, 1))

    @property
    def couples(self) -> str:  # type: ignore[override] - depends on the threshold
        """Why one example's loss depends on others, or ""."""
        return COUPLED if self.threshold == "batch" else ""

    def objective(self, seen: Seen, inner: Objective) -> torch.Tensor:
        values = inner(seen)

        def flattening() -> torch.Tensor:
            weight = held(confidence(seen.outputs, seen.targets), self.upper, detach=self.detach_target)
            soft = inner(against(seen, seen.outputs, flattened(seen.targets, weight)))
            return soft if self.flattening == "simplified" else wrong(seen.outputs, seen.targets) * soft - values

        how = Relaxation(self.alpha, self.first_epoch, self.threshold, Branches(*self.branches))
        return relaxed(seen, values, flattening, how)


def wrong(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """1 where the answer is another class than the label (the most likely class of a soft one), else 0; [rows].

    Args:
        outputs: logits of either head, [rows, outputs].
        targets: [rows, classes].
    """
    head = "binary" if outputs.shape[1] == 1 else "multiclass"
    return (two_column(outputs, head).argmax(dim=1) != targets.argmax(dim=1)).to(outputs.dtype)
