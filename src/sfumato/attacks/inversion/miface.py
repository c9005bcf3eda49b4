"""MIFace: gradient descent on a record itself, without a generator, until the model is sure of the class."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from sfumato.attacks.evidence import ThreatModel
from sfumato.attacks.inversion.base import ClassInversion, Reconstructions
from sfumato.attacks.inversion.evidence import ClassEvidence
from sfumato.attacks.inversion.latent_descent import ClassStreams
from sfumato.seeding import Name
from sfumato.targets.boundary import Box
from sfumato.targets.oracle import Oracle
from sfumato.types import Floats
from sfumato.validate import at_least, in_range, one_of, positive

STARTS = ("zero", "low", "middle")
FREDRIKSON = """@inproceedings{fredrikson2015model,
  title = {Model Inversion Attacks that Exploit Confidence Information and Basic Countermeasures},
  author = {Fredrikson, Matt and Jha, Somesh and Ristenpart, Thomas},
  booktitle = {ACM SIGSAC Conference on Computer and Communications Security},
  note = {doi:10.1145/2810103.2813677},
  year = {2015}
}"""


class Slope(NamedTuple):
    """Cost float [b] of records, and its gradient float [b, *shape] by the record."""

    cost: torch.Tensor
    gradient: torch.Tensor


class Walked(NamedTuple):
    """The best iterates float [b, *shape], their cost float [b], and the steps int64 [b] that each walk took."""

    best: torch.Tensor
    cost: torch.Tensor
    steps: torch.Tensor


@dataclass(frozen=True, kw_only=True)
class Descent:
    """How a walk goes and when it ends; see `MIFace`."""

    steps: int
    learning_rate: float
    window: int
    threshold: float
    stop: bool


Slopes = Callable[[torch.Tensor, torch.Tensor], Slope]
Move = Callable[[torch.Tensor], torch.Tensor]


def stops(cost: torch.Tensor, last: torch.Tensor, threshold: float) -> torch.Tensor:
    """bool [b]: the cost float [b] did not beat the worst of the last costs [window, b], or is low enough.

    The ART library's `MIFace` has this the other way round: there a walk goes on while either holds, so that it usually
    runs to the last step.
    """
    return (cost >= last.amax(dim=0)) | (cost <= threshold)


def descend(slopes: Slopes, start: torch.Tensor, process: Move, descent: Descent) -> Walked:
    """x <- process(x - learning_rate * gradient of the cost), each record on its own; the best iterate is returned.

    Fredrikson, Jha and Ristenpart, CCS 2015. The start counts as an iterate. Before a window of costs is there, missing
    ones count as infinite, so no walk ends for want of progress.

    Args:
        slopes: records [k, *shape] and which walks they belong to (int64 [k], rows of `start`) to their `Slope`.
        start: float [b, *shape].
        process: what is done after each step; it must lead into the box.
        descent: how far.
    """
    x, best = start.clone(), start.clone()
    lowest = torch.full((len(x),), torch.inf, dtype=x.dtype)
    last = torch.full((descent.window, len(x)), torch.inf, dtype=x.dtype)
    taken, going = torch.zeros(len(x), dtype=torch.int64), torch.arange(len(x))
    for step in range(descent.steps + 1):
        cost, gradient = slopes(x[going], going)
        better = cost < lowest[going]
        best[going[better]], lowest[going[better]] = x[going[better]], cost[better]
        ended = stops(cost, last[:, going], descent.threshold) & descent.stop
        last[step % descent.window, going] = cost
        going, gradient = going[~ended], gradient[~ended]
        if step == descent.steps or not len(going):
            break
        x[going] = process(x[going] - descent.learning_rate * gradient)
        taken[going] += 1
    return Walked(best, lowest, taken)


def confidence_slopes(oracle: Oracle, labels: torch.Tensor) -> Slopes:
    """The published cost 1 - p_y, with its gradient; `labels` int64 [b] are the classes of the walks."""

    def slopes(x: torch.Tensor, walks: torch.Tensor) -> Slope:
        x = x.detach().requires_grad_()
        cost = 1 - oracle.logits(x).softmax(dim=1).gather(1, labels[walks, None])[:, 0]
        return Slope(cost.detach(), torch.autograd.grad(cost.sum(), x)[0])

    return slopes


def denoised(x: torch.Tensor) -> torch.Tensor:
    """The median of the 3 x 3 pixels around each, for pictures [b, channels, height, width]."""
    around = F.pad(x, (1, 1, 1, 1), mode="replicate").unfold(2, 3, 1).unfold(3, 3, 1)
    return around.flatten(4).median(dim=4).values


def sharpened(x: torch.Tensor) -> torch.Tensor:
    """Each pixel moved away from the mean of the 3 x 3 around it, by half the difference."""
    blurred = F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    return x + 0.5 * (x - blurred)


PROCESSES: dict[str, Move] = {"none": lambda x: x, "denoise": denoised, "sharpen": sharpened}


def starting_points(start: str, box: Box, labels: torch.Tensor, images: int, seed: int, *names: Name) -> torch.Tensor:
    """float32 [q, images, *shape]: the chosen point for the first guess, points drawn from the box for the others.

    Args:
        start: one of `STARTS`; zero is moved into the box.
        box: where records lie.
        labels: int64 [q].
        images: guesses for each class.
        seed: root of the streams.
        names: of the stream.
    """
    low, high = box.low.float(), box.high.float()
    first = {"zero": torch.zeros_like(low).clamp(low, high), "low": low, "middle": (low + high) / 2}[start]
    drawn = low + (high - low) * ClassStreams(seed, labels, *names).uniform(images, *low.shape)
    drawn[:, 0] = first
    return drawn


@dataclass(frozen=True, kw_only=True)
class MIFace(ClassInversion):
    """Descent on 1 - p_y from a blank record, with the model's weights.

    The paper's stopping rule ends a walk whose cost did not fall below the worst of the last `window` costs, or that is
    low enough. The threshold is a cost: 0.01 means a confidence of 0.99.

    Args:
        images: guesses for each class. The first starts where `start` says, as published; more start at random.
        steps: most steps.
        learning_rate: of the descent.
        window: costs that are compared with.
        threshold: cost at which a walk ends.
        stop: whether the stopping rule is used; without it a walk takes all its steps.
        start: "zero" (as published, moved into the box), "low" or "middle" of the box.
        process: what is done to a picture after each step: "none", "denoise" (median of 3 x 3) or "sharpen".
    """

    name: ClassVar[str] = "miface"
    reference: ClassVar[str] = "fredrikson2015model"
    bibtex: ClassVar[str] = FREDRIKSON
    summary: ClassVar[str] = "Gradient descent on a blank record until the model is sure of the class."
    threat_model: ClassVar[ThreatModel] = ThreatModel(access="weights", knowledge="The range of values of a record.")

    images: int = 1
    steps: int = 2000
    learning_rate: float = 0.1
    window: int = 100
    threshold: float = 0.01
    stop: bool = True
    start: str = "zero"
    process: str = "none"

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("steps", self.steps, 1)
        at_least("window", self.window, 1)
        positive("learning_rate", self.learning_rate)
        in_range("threshold", self.threshold, 0.0, 1.0)
        one_of("start", self.start, STARTS)
        one_of("process", self.process, PROCESSES)

    @classmethod
    def example(cls) -> MIFace:
        return cls(images=2, steps=200, learning_rate=0.5)

    def refuses(self, evidence: ClassEvidence) -> tuple[str, ...]:
        if self.process != "none" and len(evidence.oracle.shape) != 3:
            return (f"needs pictures to {self.process}, got records of shape {evidence.oracle.shape}",)
        return ()

    def reconstruct(self, evidence: ClassEvidence, fitted: Sequence[dict[str, Floats]] = ()) -> Reconstructions:
        oracle, before = evidence.oracle, evidence.oracle.queries
        labels = torch.from_numpy(np.asarray(evidence.labels, dtype=np.int64))
        starts = starting_points(self.start, evidence.box, labels, self.images, evidence.seed, "miface")
        rows = labels.repeat_interleave(self.images)
        descent = Descent(
            steps=self.steps,
            learning_rate=self.learning_rate,
            window=self.window,
            threshold=self.threshold,
            stop=self.stop,
        )
        walked = descend(confidence_slopes(oracle, rows), starts.flatten(0, 1), self._process(oracle), descent)
        return gathered(walked, len(labels), oracle.queries - before)

    def _process(self, oracle: Oracle) -> Move:
        step = PROCESSES[self.process]
        return lambda x: oracle.clamped(step(oracle.clamped(x)))


def gathered(walked: Walked, classes: int, queries: int) -> Reconstructions:
    """Walks of q classes, those of one class side by side, as guesses: lowest cost first, 1 - cost as confidence."""
    records = walked.best.unflatten(0, (classes, -1)).detach().numpy().astype(np.float32)
    confidence = 1 - walked.cost.double().unflatten(0, (classes, -1)).numpy()
    rows, best = np.arange(classes)[:, None], np.argsort(-confidence, axis=1, kind="stable")
    facts = {"steps": float(walked.steps.double().mean()), "cost": float(walked.cost.mean())}
    return Reconstructions(records[rows, best], confidence[rows, best], queries, facts=facts)
