"""Center-based relaxed learning."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

import torch
from torch import nn

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
from sfumato.errors import UsageError
from sfumato.training.defence import Defence
from sfumato.training.extras import Extra
from sfumato.training.losses import HEADS
from sfumato.training.seen import Objective, Seen
from sfumato.training.task import Optimizer
from sfumato.validate import at_least, in_range, one_of, positive

NORMALISATIONS = ("saturating", "logitnorm")
SMALLEST = 1e-7  # added to norms by the authors' code
CLASSIFICATION = Branches(
    "classification: distance to alpha", "classification: descent", "classification: flattening"
)  # fmt: skip
CENTRES = Branches("centres: distance to alpha", "centres: descent", "centres: flattening")


@dataclass(frozen=True, kw_only=True)
class CRL(Defence):
    """Holds two losses near levels: cross-entropy of normalised logits, and the distance of features to class centres.

    After the public code of Fang and Kim (2024). With N_t the saturating normalisation, z logits, f features of the
    last hidden layer, c learnable centres and y the label, the mean over the batch of CE(N_t(z), y) is relaxed to
    `alpha`, and that of ||N(f) - N(c_y)||^2 / 2 to `alpha_centre`, the second N with `t_centre`. In even epochs the
    distance of the mean to its level is minimised. In odd epochs the mean is minimised above its level; below it,
    logits are fitted to flattened labels, and features are drawn to their centre as far as the answer is confident and
    to the origin for the rest. The sum is minimised, the second part times `weight`. Models answer with their logits as
    they are: nothing is normalised after the training.

    The objective of the inner defence takes the place of cross-entropy, also against flattened labels; it is given
    normalised logits. For soft labels (mixup) confidence and centre are means under the label, which is ours.

    The authors' code names the eight hyper-parameters alpha, upper, t, alpha_cl, upper_cl, t_cl, lambda and lr_c, but
    does not give their values: the defaults here are ours, from `grid`. Choose them on a validation split. No `alpha`
    below `reachable_floor(t, classes)` can be reached: then the loss is plain cross-entropy on normalised logits, minus
    a constant in half of the epochs. The branches are counted, so that this is seen.

    Args:
        alpha: level of the classification part, in nats, at least 0.
        upper: largest confidence in a flattened label, in [0, 1].
        t: of the normalisation of logits; norms stay below 1 / t.
        alpha_centre: level of the mean distance to the centres, at least 0 (alpha_cl).
        upper_centre: largest confidence in the centre part, in [0, 1] (upper_cl).
        t_centre: of the normalisation of features and centres (t_cl).
        weight: of the centre part, at least 0 (lambda).
        centre_lr: constant learning rate of the centres, above 0 (lr_c).
        normalisation: "saturating", or "logitnorm": v / (t ||v||), which the authors' code has as a comment.
        threshold: "batch", as published, or "example": each example's own values are compared with the levels. The
            second is ours, not the paper's: no example's loss then depends on another one, so that it may stand under
            DP-SGD, where the centres are private parameters.
        detach_target: whether no gradient flows through confidences. It does in the authors' code. With two classes the
            flattened label is then the answer itself, and the branch lowers its entropy: losses may fall below `alpha`.
        first_epoch: number of the first epoch, 0 or 1, for what is even; 1 in the authors' code.
    """

    name: ClassVar[str] = "crl"
    reference: ClassVar[str] = "fang2024center"
    summary: ClassVar[str] = "Holds the loss of normalised logits and the distance to class centres near levels."
    bibtex: ClassVar[str] = """@inproceedings{fang2024center,
  author = {Fang, Xingli and Kim, Jung-Eun},
  title = {Center-Based Relaxed Learning Against Membership Inference Attacks},
  booktitle = {Conference on Uncertainty in Artificial Intelligence},
  series = {Proceedings of Machine Learning Research},
  volume = {244},
  pages = {1294--1306},
  year = {2024}
}"""

    needs_features: ClassVar[bool] = True
    branches: ClassVar[tuple[str, ...]] = (*CLASSIFICATION, *CENTRES)
    adaptive: ClassVar[tuple[str, ...]] = ("lira-online(statistic=hinge)",)

    alpha: float = 0.5
    upper: float = 1.0
    t: float = 0.1
    alpha_centre: float = 0.1
    upper_centre: float = 1.0
    t_centre: float = 1.0
    weight: float = 0.1
    centre_lr: float = 0.1
    normalisation: str = "saturating"
    threshold: str = "batch"
    detach_target: bool = False
    first_epoch: int = 1

    def __post_init__(self) -> None:
        one_of("normalisation", self.normalisation, NORMALISATIONS)
        for name in ("alpha", "alpha_centre", "weight"):
            at_least(name, getattr(self, name), 0)
        for name in ("upper", "upper_centre"):
            in_range(name, getattr(self, name), 0, 1)
        for name in ("t", "t_centre"):
            at_least(name, getattr(self, name), 0)
            if self.normalisation == "logitnorm":
                positive(name, getattr(self, name))
        positive("centre_lr", self.centre_lr)
        one_of("threshold", self.threshold, THRESHOLDS)
        one_of("first_epoch", self.first_epoch, (0, 1))

    @classmethod
    def grid(cls) -> dict[str, tuple[Any, ...]]:
        """Candidates for each hyper-parameter, to be chosen from on a validation split. They are ours, not the paper's.

        Leave out values of `alpha` and `t` where `alpha` is below `reachable_floor(t, classes)`.
        """
        return {
            "alpha": (0.4, 0.5, 0.8, 1.0, 2.5, 3.0),
            "upper": (1.0, 0.3, 0.1),
            "t": (0.05, 0.1, 0.2, 0.3),
            "alpha_centre": (0.01, 0.05, 0.1, 0.3),
            "upper_centre": (1.0,),
            "t_centre": (1.0,),
            "weight": (0.01, 0.1, 1.0),
            "centre_lr": (0.01, 0.1, 0.5),
        }

    def unsuited(self, classes: int) -> str:
        """Why these numbers are of no use with so many classes, or ""; a search over `grid` passes over them."""
        if self.t == 0 or self.alpha >= reachable_floor(self.t, classes):
            return ""
        return "the loss of normalised logits cannot fall to alpha, so it would never be held there"

    @property
    def couples(self) -> str:  # type: ignore[override] - depends on the threshold
        """Why one example's loss depends on others, or ""."""
        return COUPLED if self.threshold == "batch" else ""

    def extra(self, features: int, classes: int) -> Extra:
        optimizer = Optimizer(name="sgd", lr=self.centre_lr, momentum=0.9, weight_decay=5e-4)
        return Extra(Centres(classes, features), optimizer)

    def objective(self, seen: Seen, inner: Objective) -> torch.Tensor:
        trust = cache(lambda: confidence(seen.outputs, seen.targets))  # of logits as they are, for both parts
        logits = normalised(seen.outputs, self.t, self.normalisation)

        def flattening() -> torch.Tensor:
            weight = held(trust(), self.upper, detach=self.detach_target)
            return inner(against(seen, logits, flattened(seen.targets, weight)))

        values = inner(seen.having(logits, seen.targets))
        how = Relaxation(self.alpha, self.first_epoch, self.threshold, CLASSIFICATION)
        return relaxed(seen, values, flattening, how) + self.weight * self._centre_part(seen, trust)

    def _centre_part(self, seen: Seen, trust: Callable[[], torch.Tensor]) -> torch.Tensor:
        if seen.features is None or self.name not in seen.extras:
            raise UsageError(
                "Expected features and centres for crl, got a pass without them.",
                remedy="Give the centres of `extra` as `Seen.extras`, as the training loops do; a course of trainings "
                "that asks for the objective by itself cannot be combined with crl.",
            )
        features = normalised(seen.features, self.t_centre, self.normalisation)
        centres: Any = seen.extras[self.name]
        distances = halved_squares(features - centres(seen.targets, self.t_centre, self.normalisation))

        def flattening() -> torch.Tensor:
            share = held(trust(), self.upper_centre, detach=self.detach_target)
            return torch.lerp(halved_squares(features), distances, share)

        how = Relaxation(self.alpha_centre, self.first_epoch, self.threshold, CENTRES)
        return relaxed(seen, distances, flattening, how)


class Centres(nn.Module):
    """One point for each class in the space of features, drawn from N(0, 1).

    Args:
        classes: how many.
        features: D.
    """

    def __init__(self, classes: int, features: int) -> None:
        super().__init__()
        self.points = nn.Parameter(torch.randn(classes, features))

    def forward(self, targets: torch.Tensor, t: float, form: str) -> torch.Tensor:
        """The normalised centre of each label, [rows, D]; for soft labels [rows, classes] the mean under the label."""
        return targets @ normalised(self.points, t, form)


def normalised(vectors: torch.Tensor, t: float, form: str = "saturating") -> torch.Tensor:
    """v / (1 + t (||v|| + 1e-7)), shorter than 1 / t and about v where v is short; or v / (t (||v|| + 1e-7)).

    Args:
        vectors: [rows, D]. The one-logit head's column is the vector [0, z] without its zero.
        t: at least 0; above 0 for "logitnorm".
        form: "saturating" or "logitnorm".
    """
    norms = torch.linalg.vector_norm(vectors, dim=1, keepdim=True)
    return vectors / (norms * t + ((1 if form == "saturating" else 0) + t * SMALLEST))


def halved_squares(vectors: torch.Tensor) -> torch.Tensor:
    """Half the squared length of each row, [rows]."""
    return 0.5 * vectors.square().sum(dim=1)


def reachable_floor(t: float, classes: int, head: str = "multiclass") -> float:
    """The cross-entropy below which no example can come whose logits are shorter than R = 1 / t.

    ln(1 + (K - 1) exp(-R sqrt(K / (K - 1)))): all of the length in the direction of the right class. A level below it
    is never reached. Our derivation, not the paper's.

    Args:
        t: of the normalisation, at least 0; 0 leaves logits as long as they are, and the floor is 0.
        classes: K, at least 2.
        head: "binary" for one logit, whose distance to the other class's 0 is all of R.
    """
    at_least("t", t, 0)
    at_least("classes", classes, 2)
    one_of("head", head, HEADS)
    if t == 0:
        return 0.0
    margin = (1.0 if head == "binary" else math.sqrt(classes / (classes - 1))) / t
    return math.log1p((classes - 1) * math.exp(-margin))
