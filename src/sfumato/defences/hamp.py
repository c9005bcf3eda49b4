"""HAMP."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch

from sfumato.defences.confidence_penalty import entropy
from sfumato.training.defence import Behind, Defence, PerExampleLoss
from sfumato.training.draws import Draws
from sfumato.training.losses import log_probabilities
from sfumato.validate import at_least, in_range, one_of

REDUCTIONS = ("official", "batch")
NOISES = ("auto", "uniform", "normal", "binary")


@dataclass(frozen=True, kw_only=True)
class HAMP(Defence):
    """Trains on soft labels of high entropy, and answers with the scores of noise (Chen and Pattabiraman, 2024).

    In training the loss of a record is KL(q || p) - beta * entropy(p), where q puts the largest mass on the label that
    leaves it an entropy of gamma * ln(classes). When asked, the model gives each record the scores that it has for an
    input of random noise, in the order of the record's own scores. That hides scores and leaves labels as they are:
    judge it by attacks on labels, and with `modify_outputs` off as well. Order of the data and optimiser are those of
    any training here; that the official code does not shuffle, and keeps a checkpoint by a rule of its own, is left
    out.

    Args:
        gamma: share of the highest possible entropy that a soft label has at least, in [0, 1].
        beta: strength of the reward for entropy of the answers, at least 0.
        official_steps: whether the mass on the label is a multiple of 0.01, as the official code finds it; else it is
            exact.
        reduction: "official" divides the divergence by the number of classes, too, as the official code does (its
            values of beta are meant for that); "batch" does not.
        modify_outputs: whether answers are replaced; False for the training alone, which answers like any other.
        noise_inputs: law of the noise: "uniform" in [0, 1), "normal" with mean 0 and variance 1, "binary" with zeros
            and ones alike; "auto" is normal for tables (one axis) and uniform for everything else.
    """

    name: ClassVar[str] = "hamp"
    reference: ClassVar[str] = "chen2024hamp"
    summary: ClassVar[str] = "Trains on soft labels of high entropy, and answers with the scores of random noise."
    bibtex: ClassVar[str] = """@inproceedings{chen2024hamp,
  author = {Chen, Zitao and Pattabiraman, Karthik},
  title = {Overconfidence is a Dangerous Thing: Mitigating Membership Inference Attacks by Enforcing Less Confident
           Prediction},
  booktitle = {Network and Distributed System Security Symposium},
  year = {2024}
}"""
    keeps_labels: ClassVar[bool] = True
    canary: ClassVar[str] = "mislabelled"
    adaptive: ClassVar[tuple[str, ...]] = ("augmentation-bits", "gap")

    gamma: float = 0.95
    beta: float = 0.001
    official_steps: bool = False
    reduction: str = "official"
    modify_outputs: bool = True
    noise_inputs: str = "auto"

    def __post_init__(self) -> None:
        in_range("gamma", self.gamma, 0, 1)
        at_least("beta", self.beta, 0)
        one_of("reduction", self.reduction, REDUCTIONS)
        one_of("noise_inputs", self.noise_inputs, NOISES)

    @property
    def guards(self) -> bool:
        return self.modify_outputs

    def loss(self, outputs: torch.Tensor, targets: torch.Tensor, inner: PerExampleLoss) -> torch.Tensor:
        classes = targets.shape[1]
        soft = soft_labels(targets, top_mass(self.gamma, classes, steps=self.official_steps))
        divergence = inner(outputs, soft) - torch.special.entr(soft).sum(dim=1)
        divisor = classes if self.reduction == "official" else 1
        return divergence / divisor - self.beta * entropy(outputs)

    def guard(self, logits: torch.Tensor, draws: Draws, behind: Behind) -> torch.Tensor:
        if not self.modify_outputs:
            return logits
        noise = noise_records(self.noise_inputs, len(logits), behind.shape, draws)
        return reordered(log_probabilities(behind.predict(noise).float()), logits).to(logits.dtype)


def top_mass(gamma: float, classes: int, *, steps: bool = False) -> float:
    """The largest mass on one class, the rest spread evenly, with an entropy of at least gamma * ln(classes).

    Args:
        gamma: in [0, 1].
        classes: at least 2.
        steps: whether to go down from 1 in steps of 0.01 until the entropy is reached (even labels if none does).

    Returns:
        In [1 / classes, 1].
    """
    low, high = 1 / classes, 1.0
    if steps:
        found = next((p / 100 for p in range(100, 0, -1) if _reached(p / 100, gamma, classes)), low)
        return max(found, low)
    for _ in range(60):  # entropy falls on the way from even labels to one class
        middle = (low + high) / 2
        low, high = (middle, high) if _reached(middle, gamma, classes) else (low, middle)
    return low


def _reached(top: float, gamma: float, classes: int) -> bool:
    rest = (1 - top) / (classes - 1)
    entropy_of_label = -sum(n * p * math.log(p) for n, p in ((1, top), (classes - 1, rest)) if p > 0)
    return entropy_of_label >= gamma * math.log(classes)


def soft_labels(targets: torch.Tensor, top: float) -> torch.Tensor:
    """Labels [rows, classes] with mass `top` in place of each 1 and the rest spread over the zeros."""
    rest = (1 - top) / (targets.shape[1] - 1)
    return rest + (top - rest) * targets


def noise_records(kind: str, rows: int, shape: tuple[int, ...], draws: Draws) -> torch.Tensor:
    """float32 [rows, *shape]: inputs without content, of a law of `NOISES`."""
    if kind == "auto":
        kind = "normal" if len(shape) == 1 else "uniform"
    if kind == "normal":
        return draws.gaussian("noise", rows, *shape)[0]
    if kind == "binary":
        return draws.keep("noise", 0.5, rows, *shape)[0].float()
    return draws.uniform("noise", rows, *shape)[0].float()


def reordered(scores: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """The scores of each row in the order of another row's: the label and the whole ranking are those of `like`.

    Equal scores are set apart by the least step of their number format, or the order would be lost; equal values of
    `like` count as falling from left to right, as they do for `argmax`.

    Args:
        scores: [rows, classes].
        like: [rows, classes].
    """
    falling = scores.sort(dim=1, descending=True).values
    if bool((falling[:, 1:] == falling[:, :-1]).any()):
        falling = _set_apart(falling)
    order = like.argsort(dim=1, descending=True, stable=True)
    return torch.empty_like(falling).scatter_(1, order, falling)


def _set_apart(falling: torch.Tensor) -> torch.Tensor:
    columns = list(falling.unbind(dim=1))
    lowest = torch.full_like(columns[0], -math.inf)
    for k in range(1, len(columns)):
        columns[k] = torch.minimum(columns[k], torch.nextafter(columns[k - 1], lowest))
    return torch.stack(columns, dim=1)
