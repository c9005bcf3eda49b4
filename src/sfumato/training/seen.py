"""What the objective of a step sees, and the notebook in which it counts the branches that it took."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import nn


@dataclass(eq=False)
class Tally:
    """How many steps each branch of an objective was taken, by model. One of the few mutable objects: a notebook.

    Args:
        models: of the stack.
        steps: branch -> float64 [models], steps; a step in which a share of the records took the branch counts so much.
    """

    models: int
    steps: dict[str, torch.Tensor] = field(default_factory=dict)

    def add(self, branch: str, taken: torch.Tensor) -> None:
        """Count a step.

        Args:
            branch: its name.
            taken: bool [rows], the rows that took it.
        """
        share = taken.detach().double().reshape(self.models, -1).mean(dim=1).cpu()
        self.steps[branch] = self.steps.get(branch, torch.zeros(self.models, dtype=torch.float64)) + share

    def of(self, model: int) -> dict[str, float]:
        """Branch -> steps, of one model."""
        return {branch: float(steps[model]) for branch, steps in self.steps.items()}


@dataclass(frozen=True, eq=False)
class Seen:
    """One forward pass as an objective sees it. Rows are folded: those of M models, one after the other.

    Args:
        outputs: logits [rows, outputs]; one column for the one-logit binary head.
        targets: soft labels [rows, classes].
        features: [rows, D], what the last linear layer was given; None unless a part of the defence needs them.
        extras: name of a part -> its extra parameters (see `Defence.extra`).
        epoch: counted from 0.
        epochs: of the whole training.
        models: M.
        tally: where branches are counted, or None where nobody counts.
        inputs: [rows, *shape], what the network was given; None where nobody says.
        heard: what layers inside the network told (see `training.hearing`), name -> [rows, ...].
    """

    outputs: torch.Tensor
    targets: torch.Tensor
    features: torch.Tensor | None = None
    extras: Mapping[str, nn.Module] = field(default_factory=dict)
    epoch: int = 0
    epochs: int = 1
    models: int = 1
    tally: Tally | None = None
    inputs: torch.Tensor | None = None
    heard: Mapping[str, torch.Tensor] = field(default_factory=dict)

    def mean(self, values: torch.Tensor) -> torch.Tensor:
        """The mean over each model's own rows, repeated for each of them; [rows] to [rows]."""
        own = values.reshape(self.models, -1)
        return own.mean(dim=1, keepdim=True).expand_as(own).reshape(-1)

    def count(self, branch: str, taken: torch.Tensor) -> None:
        """Write into the tally that the rows in `taken`, bool [rows], took this branch."""
        if self.tally is not None:
            self.tally.add(branch, taken)

    def having(self, outputs: torch.Tensor, targets: torch.Tensor) -> Seen:
        """The same step with other outputs and labels."""
        return replace(self, outputs=outputs, targets=targets)


Objective = Callable[[Seen], torch.Tensor]
