"""The stages of a course of trainings: each is done once, whatever interrupts the course between or within them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch

from sfumato.errors import UsageError
from sfumato.training.checkpoint import Checkpoint
from sfumato.training.preparation import Epoch, LoopOptions

FINISHED = "finished"  # in the file of a stage that came to its end


class Finished(NamedTuple):
    """What a stage came to.

    Args:
        tensors: by name; all that outlives the stage.
        epochs: that were run.
        tallies: branch of the objective -> steps in which it was taken.
    """

    tensors: dict[str, torch.Tensor]
    epochs: int
    tallies: dict[str, float]


@dataclass(eq=False)
class Stages:
    """The notebook of one course. Each stage has a file of its own beside the training's, first for what it needs to go
    on, then for what it came to; all of them go with the training's own file.

    Args:
        options: of the whole training.
        expected: epochs of all stages together, about; for progress.
        epochs: of the stages that are finished.
        tallies: of the stages that are finished, added up.
    """

    options: LoopOptions
    expected: int
    epochs: int = 0
    tallies: dict[str, float] = field(default_factory=dict)
    _names: set[str] = field(default_factory=set)
    _start: float = field(default_factory=time.perf_counter)

    def through(self, stage: str, run: Callable[[LoopOptions], Finished]) -> Finished:
        """Do a stage, or take what it came to before an interruption.

        Args:
            stage: its name, used once in a course.
            run: does it, with the checkpoint and the progress of the stage.
        """
        if not stage or stage in self._names:
            raise UsageError(
                f"Expected a name of its own for each stage of a course, got {stage!r} again.",
                remedy="Number the stages: what a finished one came to is found by its name.",
            )
        self._names.add(stage)
        checkpoint = None if self.options.checkpoint is None else self.options.checkpoint.part(stage)
        found = None if checkpoint is None else _finished(checkpoint)
        if found is None:
            found = run(replace(self.options, checkpoint=checkpoint, on_epoch=self._told))
            if checkpoint is not None:
                _keep(found, checkpoint)
        self.epochs += found.epochs
        for branch, steps in found.tallies.items():
            self.tallies[branch] = self.tallies.get(branch, 0.0) + steps
        return found

    def _told(self, epoch: Epoch) -> None:
        """Epochs are counted over the whole course."""
        if self.options.on_epoch is not None:
            done = self.epochs + epoch.epoch
            spent = time.perf_counter() - self._start
            self.options.on_epoch(Epoch(done, max(done, self.expected), epoch.models, epoch.loss, spent))


def _keep(found: Finished, checkpoint: Checkpoint) -> None:
    numbers = {FINISHED: [1.0], "epochs": [float(found.epochs)]}
    tallies = {f"tally.{branch}": [steps] for branch, steps in found.tallies.items()}
    checkpoint.save(found.tensors, numbers | tallies, now=True)


def _finished(checkpoint: Checkpoint) -> Finished | None:
    saved = checkpoint.load()
    if saved is None or FINISHED not in saved.numbers:
        return None
    tallies = {k.removeprefix("tally."): v[0] for k, v in saved.numbers.items() if k.startswith("tally.")}
    return Finished(saved.tensors, int(saved.numbers["epochs"][0]), tallies)
