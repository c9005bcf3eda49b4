"""MIST, as far as it is known."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, count, islice
from typing import ClassVar

import torch
from torch import nn

from sfumato.errors import UsageError
from sfumato.training.defence import Batch, Defence
from sfumato.training.draws import Draws
from sfumato.training.losses import two_column
from sfumato.training.refusals import refuse_unheeded
from sfumato.training.seen import Seen
from sfumato.training.task import Task
from sfumato.training.workshop import Workshop
from sfumato.validate import at_least, one_of

_Batch = tuple[torch.Tensor, Draws]  # rows, and the streams of their step
OPTIMIZERS = ("fresh", "kept")
FORWARD = 1 / 3  # of a step's time is its forward pass, about


@dataclass(frozen=True, kw_only=True)
class MIST(Defence):
    """Averages local networks, each made to answer for its records as those do that did not just fit them (Li, Li and
    Ribeiro, USENIX Security 2024).

    As third parties describe it: in each epoch the training set is cut at random into M parts, no unit of privacy
    across two of them, and each part gets a local network. Phase 1: T1 steps on the objective of the chain, on the
    network's own part. Phase 2: T2 steps on the cross-difference loss, weight / (M - 1) times the sum over the other
    networks j of ||p_i(x) - p_j(x)||_1 for x in its own part, where the others are fixed as phase 1 left them and
    answer in eval mode. Then all weights are averaged, and floating-point buffers with them; whole-number buffers
    (counts of batches) are the first network's.

    Args:
        parts: M, at least 2.
        steps_fit: T1 in each epoch; None for one pass over the part.
        steps_difference: T2 in each epoch; None for one pass over the part, 0 for plain averaging.
        weight: of the cross-difference loss (lambda), at least 0.
        reset: whether local networks begin each epoch as the average; else each goes on from its own weights.
        optimizers: "fresh": a local network begins each epoch with an optimiser without memory, which phase 2 goes on
            with; "kept": each has one optimiser throughout. The learning rate follows the task's schedule by the step.
    """

    name: ClassVar[str] = "mist"
    reference: ClassVar[str] = "li2024mist"
    summary: ClassVar[str] = "Averages networks that agree, on each one's records, with those that did not fit them."
    bibtex: ClassVar[str] = """@inproceedings{li2024mist,
  author = {Li, Jiacheng and Li, Ninghui and Ribeiro, Bruno},
  title = {{MIST}: Defending Against Membership Inference Attacks Through Membership-Invariant Subspace Training},
  booktitle = {USENIX Security Symposium},
  year = {2024}
}"""
    reconstruction: ClassVar[str] = (
        "no official code was found, and the phases are as third parties describe them; whether local networks begin "
        "each epoch as the average, what becomes of their optimisers, and all default numbers are our choice"
    )
    canary: ClassVar[str] = "mislabelled"

    parts: int = 4
    steps_fit: int | None = None
    steps_difference: int | None = None
    weight: float = 1.0
    reset: bool = True
    optimizers: str = "fresh"

    def __post_init__(self) -> None:
        at_least("parts", self.parts, 2)
        at_least("weight", self.weight, 0)
        one_of("optimizers", self.optimizers, OPTIMIZERS)
        if self.steps_fit is not None:
            at_least("steps_fit", self.steps_fit, 1)
        if self.steps_difference is not None:
            at_least("steps_difference", self.steps_difference, 0)

    @property
    def trainings(self) -> float:
        if self.steps_difference == 0:
            return 1.0
        given = self.steps_fit is not None and self.steps_difference is not None
        ratio = (self.steps_difference or 1) / (self.steps_fit or 1) if given else 1.0
        return 1.0 + ratio * (1.0 + (self.parts - 1) * FORWARD)

    def check(self, task: Task, whole: Defence, network: Callable[[], nn.Module]) -> None:
        refuse_unheeded(task, whole, self)

    def course(self, workshop: Workshop) -> nn.Module:
        self.check(workshop.task, workshop.run.defence, workshop.network)
        network = workshop.network()
        team = [_Local(self, workshop, workshop.network()) for _ in range(self.parts)]
        kept: dict[str, nn.Module | torch.optim.Optimizer] = {}
        if not self.reset:
            kept |= {f"local {index}": local.network for index, local in enumerate(team)}
        if self.optimizers == "kept":
            kept |= {f"optimiser {index}": local.optimizer for index, local in enumerate(team)}

        def epoch(number: int) -> float:
            return self._epoch(workshop, network, team, number)

        return workshop.loop(self.name, network, kept, workshop.task.epochs, epoch)

    def _epoch(self, workshop: Workshop, network: nn.Module, team: Sequence[_Local], epoch: int) -> float:
        draws = workshop.draws.at("epoch", epoch)
        rows = partition(workshop.fit_rows, workshop.units(workshop.fit_rows), self.parts, draws)
        for index, local in enumerate(team):
            local.begin(network, rows[index], epoch, draws.at("local", index))
        losses = [local.fit() for local in team]
        fixed = [copy.deepcopy(local.network) for local in team] if self.steps_difference != 0 else []
        for index, local in enumerate(team):
            local.agree([*fixed[:index], *fixed[index + 1 :]])
        network.load_state_dict(averaged([local.network.state_dict() for local in team]))
        return sum(losses) / len(losses)


class _Local:
    """A local network in its epoch.

    Args:
        method: its numbers.
        workshop: of the course.
        network: its own.
    """

    def __init__(self, method: MIST, workshop: Workshop, network: nn.Module) -> None:
        self.method, self.workshop, self.network = method, workshop, network
        self.optimizer = workshop.optimizer([p for p in network.parameters() if p.requires_grad])
        self.epoch, self.done = 0, 0
        self.fits: list[_Batch] = []
        self.differences: list[_Batch] = []

    def begin(self, average: nn.Module, rows: torch.Tensor, epoch: int, draws: Draws) -> None:
        """Start an epoch on the records of the own part."""
        if self.method.reset:
            self.network.load_state_dict(average.state_dict())
        if self.method.optimizers == "fresh":
            self.optimizer.state.clear()
        self.network.train()
        self.epoch, self.done = epoch, 0
        self.fits = self._batches(rows, self.method.steps_fit, draws.at("fit"))
        self.differences = self._batches(rows, self.method.steps_difference, draws.at("difference"))

    def fit(self) -> float:
        """Phase 1; the mean loss."""
        losses = []
        for rows, draws in self.fits:
            seen = self._seen(self.workshop.batch(rows, draws), draws)
            losses.append(self._descend(self.workshop.objective(seen).mean()))
        return sum(losses) / len(losses)

    def agree(self, others: Sequence[nn.Module]) -> None:
        """Phase 2, with the other networks fixed."""
        head = self.workshop.task.head
        for rows, draws in self.differences:
            batch = self.workshop.batch(rows, draws, transformed=False)
            theirs = torch.stack([self.workshop.answers(other, batch.x) for other in others])
            own = two_column(self._seen(batch, draws).outputs, head)
            self._descend(self.method.weight * cross_difference(own, theirs).mean())

    def _batches(self, rows: torch.Tensor, steps: int | None, draws: Draws) -> list[_Batch]:
        """So many batches, pass after pass over the rows; None for one pass."""
        if steps is None:
            return list(self.workshop.batches(rows, draws))
        passes = (self.workshop.batches(rows, draws.at("pass", number)) for number in count())
        return list(islice(chain.from_iterable(passes), steps))

    def _seen(self, batch: Batch, draws: Draws) -> Seen:
        return self.workshop.seen(self.network, batch, draws, self.epoch, self.workshop.task.epochs)

    def _descend(self, loss: torch.Tensor) -> float:
        share = self.done / (len(self.fits) + len(self.differences))
        self.workshop.set_rate(self.optimizer, (self.epoch + share) / self.workshop.task.epochs)
        self.done += 1
        return self.workshop.descend(loss, self.optimizer)


def partition(rows: torch.Tensor, units: torch.Tensor, parts: int, draws: Draws) -> list[torch.Tensor]:
    """Rows cut at random into parts of nearly as many units each; no unit is cut.

    Args:
        rows: int64 [k].
        units: int64 [k], their units of privacy.
        parts: M.
        draws: streams of one model.

    Raises:
        UsageError: if there are fewer units than parts.
    """
    names, unit = torch.unique(units, return_inverse=True)
    if len(names) < parts:
        raise UsageError(
            f"Expected at least one unit of privacy in each of {parts} parts, got {len(names)} units.",
            remedy="Lower `parts`, or use more records.",
        )
    part_of = torch.empty(len(names), dtype=torch.int64)
    for part, chosen in enumerate(draws.permutation("parts", len(names))[0].tensor_split(parts)):
        part_of[chosen] = part
    return [rows[part_of[unit] == part] for part in range(parts)]


def cross_difference(own: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """How far a network's probabilities are from those of others: the mean over these of ||p_i(x) - p_j(x)||_1.

    Args:
        own: logits [rows, classes].
        others: logits [networks, rows, classes].

    Returns:
        [rows], each in [0, 2].
    """
    return (own.softmax(dim=-1) - others.softmax(dim=-1)).abs().sum(dim=-1).mean(dim=0)


def averaged(states: Sequence[Mapping[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """The mean of each floating-point tensor of several states of one network; others are the first one's."""
    first = states[0]
    return {
        name: torch.stack([state[name] for state in states]).mean(dim=0) if value.is_floating_point() else value.clone()
        for name, value in first.items()
    }
