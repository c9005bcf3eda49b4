"""What one training step shares with whoever adds updates up: recomputed for rows of one's choice.

The undefended step shares the gradient of the mean objective over its batch, in train mode, with the defence's own
transform of the batch and without augmentation. A private step shares what a real session leaves in `.grad`: clipped,
noisy, over the expected batch size. Weight decay and momentum come after, and tell nothing more.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

from sfumato.data.population import Population
from sfumato.data.view import PrivateView
from sfumato.errors import NotApplicable
from sfumato.private.plan import Plan
from sfumato.private.session import make
from sfumato.sde.streams import set_noise
from sfumato.training.composition import composed_objective, course_of, reference_share, release_of, update_of
from sfumato.training.defence import Batch, Defence, chain, configured
from sfumato.training.draws import Draws
from sfumato.training.fronts import front_of
from sfumato.training.hearing import passed
from sfumato.training.losses import task_loss
from sfumato.training.preparation import Assignment, LoopOptions, assemble, prepare
from sfumato.training.recipe import AnyRecipe, Recipe
from sfumato.training.seen import Seen
from sfumato.training.splitting import split_rows
from sfumato.training.task import Task
from sfumato.training.trained import Trained
from sfumato.types import Rows


@dataclass(frozen=True, eq=False)
class StepObjective:
    """What a step minimises, row by row: the objective of the whole chain of defences.

    Args:
        task: as the defence has configured it.
        defence: its parts apply outermost first.
        epoch: counted from 0, for objectives that change while training.
    """

    task: Task
    defence: Defence
    epoch: int = 0

    def __call__(self, network: nn.Module, x: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """[b] for records [b, *shape] and soft labels [b, classes]."""
        seen = Seen(torch.empty(0), targets, epoch=self.epoch, epochs=self.task.epochs)
        inside = network if any(part.needs_features for part in chain(self.defence)) else None
        return composed_objective(self.defence, task_loss(self.task.head))(passed(network, x, seen, inside=inside))

    def spec(self) -> dict[str, Any]:
        """What names it in the key of a reconstruction."""
        return {"objective": self.defence, "task": self.task, "epoch": self.epoch}


@dataclass(frozen=True, eq=False)
class StepMaker:
    """A model in the middle of its training, and how its next step is made.

    Args:
        network: in train mode, with the layers in front of it; takes records.
        objective: of a step.
        plan: of a private update, or None.
        rows: int64 [k], the records that its steps draw from.
        classes: of the population.
    """

    network: nn.Module
    objective: StepObjective
    plan: Plan | None
    rows: Rows
    classes: int = field(default=2)

    def update(self, x: torch.Tensor, labels: torch.Tensor, unit_of: Rows, seed: int) -> dict[str, torch.Tensor]:
        """Parameter name -> what the step on exactly these records shares.

        Args:
            x: float32 [b, *shape].
            labels: int64 [b].
            unit_of: int64 [b], the unit of each record, 0 .. units - 1; read by plans for units of several records.
            seed: of the noise of a private step, and of what layers and transforms draw.
        """
        network, draws = copy.deepcopy(self.network), Draws((seed,), ("shared step",))
        batch = Batch(x, torch.eye(self.classes)[labels])
        for depth, part in enumerate(chain(self.objective.defence)):
            batch = part.transform(batch, draws.at("transform", depth, part.name))
        if self.plan is not None:
            return _private(network, self.plan, self.objective, batch, unit_of, draws)
        set_noise(network, draws.at("layers"))
        self.objective(network, batch.x, batch.targets).mean().backward()
        return _gradients(network)


def step_maker(recipe: AnyRecipe, trained: Trained | None, population: Population, rows: Rows, seed: int) -> StepMaker:
    """A model from a recipe, before its first step or with trained weights.

    Args:
        recipe: of the training.
        trained: model of this recipe on these rows; None for fresh weights, behind whatever is fitted before the first
            step.
        population: all records.
        rows: int64 [k], the training set.
        seed: of fresh weights.

    Raises:
        NotApplicable: if a step of this recipe cannot be reproduced by itself; the reason reaches the record.
    """
    if not isinstance(recipe, Recipe):
        raise NotApplicable("needs a single training step, got an estimator or a function that trains")
    task, defence = configured(recipe.defence, recipe.task), recipe.defence
    plan = update_of(defence, population)
    _refuse(task, defence, population, plan)
    seed = seed if trained is None else trained.seed
    if trained is None:
        run = prepare(task, defence, population, [Assignment(rows, seed)], LoopOptions(), plan=plan)
        state, fit = run.state(0), run.fit_rows[0].numpy()
    else:
        state, fit = _stored(trained), _fit_rows(task, defence, population, rows, seed)
    network = assemble(task, defence, population.records.shape, population.classes, seed)
    network.load_state_dict(state)
    network.train()
    if front_of(defence, population.records.shape) is not None:
        network[0].eval().requires_grad_(False)  # type: ignore[index] - `assemble` put it there
    epoch = 0 if trained is None else max(0, task.epochs - 1)
    return StepMaker(network, StepObjective(task, defence, epoch), plan, fit, population.classes)


def _refuse(task: Task, defence: Defence, population: Population, plan: Plan | None) -> None:
    """Refuse what a step alone does not show."""
    part = course_of(defence)
    if part is not None:
        raise NotApplicable(f"needs a step that can be taken alone, got {part.name}, whose course is several trainings")
    extra = next((one for one in chain(defence) if type(one).extra is not Defence.extra), None)
    if extra is not None:
        raise NotApplicable(
            f"needs a step that can be taken alone, got {extra.name}, whose objective has parameters of its own, which "
            "are not kept"
        )
    if task.features is not None:
        raise NotApplicable("needs a network that sees records, got one that sees fixed features of them")
    if plan is None and release_of(defence, population) is not None:
        raise NotApplicable("needs a step on records, got one on noisy copies that were released once before")


def _stored(trained: Trained) -> Mapping[str, torch.Tensor]:
    if trained.state is None:
        raise NotApplicable("needs the weights before the step, got a model without any")
    return {name: value.float() if value.is_floating_point() else value for name, value in trained.state.items()}


def _fit_rows(task: Task, defence: Defence, population: Population, rows: Rows, seed: int) -> Rows:
    """int64: the rows that the network is fitted to, without those set aside."""
    views = [PrivateView(population, rows)]
    fit, _, _ = split_rows(task, reference_share(defence), views, Draws((seed,), ("training",)))
    return fit[0].numpy()


def _private(
    network: nn.Module, plan: Plan, objective: StepObjective, batch: Batch, unit_of: Rows, draws: Draws
) -> dict[str, torch.Tensor]:
    """One step of a real session that draws exactly the units of the batch, with noise from a seed."""

    def loss(module: nn.Module, x: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        set_noise(module, draws.at("layers"))
        return objective(module, x, targets)

    units = unit_of if plan.max_records_per_unit > 1 else np.arange(len(batch.x), dtype=np.int64)
    session = make(
        network, plan=plan, data=(batch.x, batch.targets), loss=loss, audit_seed=draws.seeds[0], unit_of=units
    )
    session.backward(units=np.unique(units))
    return _gradients(network)


def _gradients(network: nn.Module) -> dict[str, torch.Tensor]:
    """Of every parameter that is trained; 0 where the step did not touch it."""
    return {
        name: torch.zeros_like(p) if p.grad is None else p.grad.detach().clone()
        for name, p in network.named_parameters()
        if p.requires_grad
    }
