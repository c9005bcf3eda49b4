"""What a course of several trainings works with: one model's rows, streams, networks, and trainings that resume."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import nn

from sfumato.private.plan import Plan
from sfumato.sde.streams import set_noise, set_progress
from sfumato.seeding import derive
from sfumato.training.augment import augment
from sfumato.training.composition import course_of, fitted_guards
from sfumato.training.defence import Batch, Defence, chain
from sfumato.training.draws import Draws
from sfumato.training.fronts import SAVED
from sfumato.training.hearing import passed
from sfumato.training.loop import Hooks
from sfumato.training.losses import two_column
from sfumato.training.preparation import LoopOptions, Prepared, extras_of, network_of
from sfumato.training.refusals import (
    refuse_empty,
    refuse_foreign,
    refuse_incomplete,
    refuse_second,
    refuse_shape,
)
from sfumato.training.seen import Objective, Seen, Tally
from sfumato.training.stacking import ModelStack
from sfumato.training.stage_runs import Kept, answering, fitted, looped, with_network
from sfumato.training.stages import Finished, Stages
from sfumato.training.steps import add_l1, optimizer_of, put_back, rate_factor
from sfumato.training.task import Optimizer, Task
from sfumato.training.trained import Trained

CHUNK = 1024  # records a pass, where a network is only asked


@dataclass(eq=False)
class Workshop:
    """One model in the making. A course calls `fit`, `answers_after` and `loop` with names of its stages: a finished
    one is not repeated after an interruption, and one that was cut off goes on after its last kept epoch. For that to
    give the same weights, all else that a course does must follow from its stages and from `draws`.

    Rows are int64 positions in `x` [n, *shape] and `targets` [n, classes], which hold all records of the population;
    a course reads those of `fit_rows`, `validation_rows` and `reference_rows`, and no others.

    Args:
        run: what is fixed before the first step; its stack holds the fresh network.
        options: see `LoopOptions`.
        plan: of a private update inside, or None.
        ordinary: the task of the stages beside the private update (see `ordinarily`); by default that of the run.
    """

    run: Prepared
    options: LoopOptions
    plan: Plan | None = None
    ordinary: Task | None = None

    def __post_init__(self) -> None:
        part = course_of(self.run.defence)
        self.stages = Stages(self.options, math.ceil(self.task.epochs * (1.0 if part is None else part.trainings)))
        self._initial = copy.deepcopy(self.run.stack.module.state_dict())
        self._own = torch.zeros(len(self.run.x), dtype=torch.bool)
        self._own[torch.from_numpy(self.run.views[0].rows)] = True
        self._tally: Tally | None = None
        self._protected = ""

    @property
    def task(self) -> Task:
        """As the chain has configured it; where there is a private update, that of the stages beside it."""
        return self.run.task if self.plan is None or self.ordinary is None else self.ordinary

    @property
    def draws(self) -> Draws:
        """Streams of the course's own."""
        return self.run.draws.at("course")

    @property
    def x(self) -> torch.Tensor:
        """[n, *shape]: inputs of the network."""
        return self.run.x

    @property
    def targets(self) -> torch.Tensor:
        """[n, classes], rows of one 1."""
        return self.run.targets

    @property
    def fit_rows(self) -> torch.Tensor:
        """int64 [k]."""
        return self.run.fit_rows[0]

    @property
    def validation_rows(self) -> torch.Tensor:
        """int64 [v], empty unless the task sets a share aside."""
        return self.run.validation_rows[0]

    @property
    def reference_rows(self) -> torch.Tensor:
        """int64 [r], empty unless a part of the chain is a `ReferenceDefence`."""
        return self.run.reference_rows[0]

    @property
    def objective(self) -> Objective:
        """Of the whole chain; its extra parameters are in `Seen.extras` where `fit` runs it."""
        return self.run.objective

    def units(self, rows: torch.Tensor) -> torch.Tensor:
        """int64 [k]: the unit of privacy of each of these rows."""
        return torch.from_numpy(self.run.views[0].population.unit_of[rows.numpy()])

    def note(self, purpose: str) -> None:
        """Write into the history that the training records are read once more, for this purpose.

        `fit`, `answers_after` and `loop` do so themselves.
        """
        self.run.views[0].note("training", purpose)

    def network(self, name: str = "") -> nn.Module:
        """A fresh network of the whole chain: the model's own initial weights, or those of another named seed."""
        run, seed = self.run, self.run.draws.seeds[0]
        shape, classes = tuple(run.x.shape[1:]), run.targets.shape[1]
        made = network_of(run.task, run.defence, shape, classes, derive(seed, "network", name) if name else seed)
        made = made.to(run.x.dtype)
        own = {} if name else self._initial
        fitted = {key: value for key, value in self._initial.items() if run.task.standardise and key.startswith("0.")}
        made.load_state_dict({**made.state_dict(), **fitted, **own})
        set_noise(made, self.draws.at("asked"))
        return made

    def fit(
        self,
        stage: str,
        network: nn.Module,
        *,
        rows: torch.Tensor | None = None,
        targets: torch.Tensor | None = None,
        epochs: int | None = None,
        lr: float | None = None,
        objective: Objective | None = None,
        hooks: Hooks | None = None,
        protected: bool = False,
    ) -> nn.Module:
        """Train a network in place, as the task says.

        Parameters with `requires_grad` off stay as they are. An average of weights, and the best epoch of early
        stopping, end up in the network. Extra parameters of the chain begin anew with each stage.

        Args:
            stage: name, used once in a course.
            network: one of `network`.
            rows: int64 [k], `fit_rows` by default.
            targets: [n, classes] in place of the labels; validation scores keep to the labels.
            epochs: the task's by default.
            lr: learning rate at the start, the task's by default.
            objective: the chain's by default.
            hooks: see `Hooks`; what they keep is put back, too, if the stage is not repeated.
            protected: whether the chain's private update, if there is one, takes the steps; its plan counts them.

        Returns:
            `network`, in eval mode.

        Raises:
            UsageError: for rows that are not the model's own, hooks in private steps, or private steps a second time.
        """
        plan = self.plan if protected else None
        run = self._run_for(
            stage, network, rows, targets, objective, _retimed(self.task if plan is None else self.run.task, epochs, lr)
        )
        hooks = hooks or Hooks()
        kept = with_network(network, hooks.kept)
        if plan is None:
            self.note(f"{stage}, up to {run.task.epochs} epochs")
        else:
            refuse_second(stage, self._protected, hooks)
            self._protected = stage
        found = self.stages.through(stage, lambda options: fitted(run, hooks, plan, options, kept))
        put_back(kept, found.tensors)
        return answering(network, self.draws.at("asked"))

    def answers_after(
        self,
        stage: str,
        network: nn.Module,
        asked: torch.Tensor,
        *,
        rows: torch.Tensor | None = None,
        epochs: int | None = None,
    ) -> torch.Tensor:
        """Train a network as `fit` does, and keep what it says of some records in place of its weights.

        Args:
            stage: name, used once in a course.
            network: one of `network`; to be thrown away.
            asked: int64 [a], the records it is asked about.
            rows: int64 [k], `fit_rows` by default.
            epochs: the task's by default.

        Returns:
            Its `outputs` [a, classes] for `asked`.
        """
        run = self._run_for(stage, network, rows, None, None, _retimed(self.task, epochs, None))
        self.note(f"{stage}, up to {run.task.epochs} epochs, and its answers on {len(asked)} training records")

        def asked_after(options: LoopOptions) -> Finished:
            found = fitted(run, Hooks(), None, options, {})
            return found._replace(tensors={"answers": self.outputs(answering(network, self.draws), asked)})

        return self.stages.through(stage, asked_after).tensors["answers"]

    def loop(self, stage: str, network: nn.Module, kept: Kept, epochs: int, epoch: Callable[[int], float]) -> nn.Module:
        """Epochs of a course's own making, kept after each one. An average of weights and early stopping are the
        course's own business here (see `refusals.refuse_unheeded`).

        Args:
            stage: name, used once in a course.
            network: what the stage is for; in train mode at the start of each epoch.
            kept: everything else that changes from epoch to epoch, by name; put back, too, if the stage is not
                repeated.
            epochs: how many.
            epoch: runs epoch 0, 1, ... and returns its mean loss; all its randomness comes from streams named by the
                epoch.

        Returns:
            `network`, in eval mode.

        Raises:
            SfumatoError: if the loss stops being finite.
        """
        self.note(f"{stage}, {epochs} epochs")
        parts = with_network(network, kept)
        self._tally = Tally(1)
        seen = self._tally
        found = self.stages.through(stage, lambda options: looped(parts, seen, epochs, epoch, options))
        self._tally = None
        put_back(parts, found.tensors)
        return answering(network, self.draws.at("asked"))

    def batches(self, rows: torch.Tensor, draws: Draws) -> Iterator[tuple[torch.Tensor, Draws]]:
        """The rows of an epoch in random order, in batches of the task's size, each with its own streams."""
        order = rows[draws.permutation("order", len(rows))[0]]
        steps = max(1, -(-len(rows) // self.task.batch_size))
        for step, part in enumerate(order.tensor_split(steps)):
            yield part, draws.at("step", step)

    def batch(self, rows: torch.Tensor, draws: Draws, *, transformed: bool = True) -> Batch:
        """Records as they are trained on: augmented, and transformed by the chain."""
        refuse_foreign(self._own, rows)
        x = augment(self.x[rows], self.task.augmentation, draws.at("augment"))
        made = Batch(x, self.targets[rows])
        for depth, part in enumerate(chain(self.run.defence) if transformed else ()):
            made = part.transform(made, draws.at("transform", depth, part.name))
        return made

    def seen(self, network: nn.Module, batch: Batch, draws: Draws, epoch: int = 0, epochs: int = 1) -> Seen:
        """A forward pass with gradient, as an objective sees it, without extra parameters.

        Within `loop`, the branches that the objective takes are counted.
        """
        set_noise(network, draws.at("layers"))
        set_progress(network, epoch / epochs)
        seen = Seen(torch.empty(0), batch.targets, epoch=epoch, epochs=epochs, tally=self._tally)
        return passed(network, batch.x, seen, inside=network if self.run.needs_features else None)

    def outputs(self, network: nn.Module, rows: torch.Tensor) -> torch.Tensor:
        """[k, classes]: logits of the network in eval mode, one column per class; no gradient, no augmentation."""
        refuse_foreign(self._own, rows)
        return self.answers(network, self.x[rows])

    def answers(self, network: nn.Module, x: torch.Tensor) -> torch.Tensor:
        """As `outputs`, for any inputs [k, *shape] of the network."""
        training = network.training
        network.eval()
        set_noise(network, self.draws.at("asked"))
        with torch.no_grad():
            found = [two_column(network(part), self.task.head) for part in x.split(CHUNK)]
        network.train(training)
        return torch.cat(found)

    def optimizer(self, parameters: list[nn.Parameter], spec: Optimizer | None = None) -> torch.optim.Optimizer:
        """The task's optimiser, or another one."""
        return optimizer_of(spec or self.task.optimizer, parameters)

    def set_rate(self, optimizer: torch.optim.Optimizer, done: float) -> None:
        """The task's learning rate when a share `done` of the training lies behind."""
        for group in optimizer.param_groups:
            group["lr"] = self.task.optimizer.lr * rate_factor(self.task, done)

    def descend(self, loss: torch.Tensor, optimizer: torch.optim.Optimizer) -> float:
        """One step on a loss, with the task's L1 penalty; what the loss was."""
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        for group in optimizer.param_groups:
            add_l1(group["params"], self.task.optimizer.l1)
        optimizer.step()
        return float(loss.detach())

    def taught(self, part: Defence) -> Trained:
        """Run the course of a part."""
        start = time.perf_counter()
        self._keep_front()
        network = part.course(self)
        refuse_incomplete(part, network, self._initial, private_left=self.plan is not None and not self._protected)
        run = replace(self.run, stack=ModelStack(network, 1))
        return Trained(
            state=run.state(0),
            history=run.views[0].history,
            seed=run.draws.seeds[0],
            epochs=self.stages.epochs,
            best_epoch=self.stages.epochs,
            seconds=time.perf_counter() - start,
            kernels={"private": self._protected} if self._protected else {},  # those steps count no branches
            tallies=dict(self.stages.tallies),
        )

    def fitted_guards(self, trained: Trained) -> dict[str, torch.Tensor]:
        """What the guards of the chain keep, "PART/name" -> tensor."""
        found: dict[str, torch.Tensor] = {}
        state = trained.state or {}
        if self.run.front is not None:
            state = {k.removeprefix("1."): v for k, v in state.items() if k.startswith("1.")}
        for part in fitted_guards(self.run.defence):
            network = self.network()
            network.load_state_dict(state)
            found |= {f"{part.name}/{k}": v for k, v in part.fit_guard(self, network.eval()).items()}
        return found

    def _run_for(
        self,
        stage: str,
        network: nn.Module,
        rows: torch.Tensor | None,
        targets: torch.Tensor | None,
        objective: Objective | None,
        task: Task,
    ) -> Prepared:
        run = self.run
        rows = self.fit_rows if rows is None else rows
        refuse_empty(stage, rows)
        refuse_foreign(self._own, rows)
        made = replace(
            run,
            task=task,
            stack=ModelStack(network, 1),
            draws=run.draws.at("stage", stage),
            fit_rows=rows[None],
            targets=run.targets if targets is None else self._with_labels(targets),
            objective=objective or run.objective,
            front=None,
            kept={},
        )
        shape, classes = tuple(run.x.shape[1:]), run.targets.shape[1]
        seed = derive(run.draws.seeds[0], "stage", stage)
        return replace(made, extras=extras_of(run.defence, network, shape, classes, seed, run.x.dtype))

    def _with_labels(self, targets: torch.Tensor) -> torch.Tensor:
        """Other targets than the labels, but for validation."""
        refuse_shape(targets, self.targets)
        made = targets.to(self.targets.dtype, copy=True)
        made[self.validation_rows] = self.targets[self.validation_rows]
        return made

    def _keep_front(self) -> None:
        """The layer in front must stay the one that the stages were trained behind."""
        if self.run.front is not None and self.options.checkpoint is not None:
            tensors = {f"{SAVED}{name}": value for name, value in self.run.front.state_dict().items()}
            self.options.checkpoint.save(tensors, {}, now=True)


def _retimed(task: Task, epochs: int | None, lr: float | None) -> Task:
    optimizer = task.optimizer if lr is None else replace(task.optimizer, lr=lr)
    return replace(task, epochs=task.epochs if epochs is None else epochs, optimizer=optimizer)
