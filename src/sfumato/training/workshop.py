"""What a course of several trainings works with: one model's rows, streams, networks, and trainings that resume."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import nn

from sfumato.private.plan import Plan
from sfumato.sde.streams import set_noise
from sfumato.seeding import derive
from sfumato.training.augment import augment
from sfumato.training.checkpoint import Checkpoint
from sfumato.training.composition import fitted_guards
from sfumato.training.defence import Batch, Defence, chain
from sfumato.training.draws import Draws
from sfumato.training.extras import features_of
from sfumato.training.loop import Hooks, Training
from sfumato.training.losses import two_column
from sfumato.training.preparation import Epoch, LoopOptions, Prepared, extras_of, network_of
from sfumato.training.private_loop import PrivateTraining
from sfumato.training.seen import Objective, Seen
from sfumato.training.stacking import ModelStack
from sfumato.training.steps import optimizer_of, put_back, rate_factor, tensors_of
from sfumato.training.task import Optimizer, Task
from sfumato.training.trained import Trained

CHUNK = 1024  # records a pass, where a network is only asked
STAGE = "stage"  # before the names of finished stages in a checkpoint


@dataclass(eq=False)
class Workshop:
    """One model in the making. A course calls `fit` and `loop` with names of its stages: a finished one is not repeated
    after an interruption.

    Rows are int64 positions in `x` [n, *shape] and `targets` [n, classes], which hold all records of the population;
    a course reads those of `fit_rows`, `validation_rows` and `reference_rows`, and no others.

    Args:
        run: what is fixed before the first step; its stack holds the fresh network.
        options: see `LoopOptions`.
        plan: of a private update inside, or None.
    """

    run: Prepared
    options: LoopOptions
    plan: Plan | None = None
    tallies: dict[str, float] = field(default_factory=dict)
    epochs: int = 0

    def __post_init__(self) -> None:
        self._initial = copy.deepcopy(self.run.stack.module.state_dict())
        saved = None if self.options.checkpoint is None else self.options.checkpoint.load()
        self._finished = {} if saved is None else _stages(saved.tensors)

    @property
    def task(self) -> Task:
        """As the whole chain has configured it."""
        return self.run.task

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

    def note(self, purpose: str) -> None:
        """Write into the history that the training records are read once more, for this purpose."""
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
        stopping, end up in the network.

        Args:
            stage: name, used once in a course.
            network: one of `network`.
            rows: int64 [k], `fit_rows` by default.
            targets: [n, classes] in place of the labels.
            epochs: the task's by default.
            lr: learning rate at the start, the task's by default.
            objective: the chain's by default.
            hooks: see `Hooks`.
            protected: whether the chain's private update, if there is one, takes the steps; its plan counts them.

        Returns:
            `network`, in eval mode.
        """
        if stage in self._finished:
            network.load_state_dict(self._finished[stage])
            return network.eval()
        run = self._run_for(stage, network, rows, targets, objective)
        run = replace(run, task=_retimed(run.task, epochs, lr))
        options = replace(self.options, checkpoint=self._checkpoint(stage))
        if protected and self.plan is not None:
            result = PrivateTraining(run, self.plan, options).finish()
        else:
            result = Training(run, options, hooks).finish()[0]
        assert result.state is not None
        network.load_state_dict(result.state)
        self.epochs += result.epochs
        for branch, steps in result.tallies.items():
            self.tallies[branch] = self.tallies.get(branch, 0.0) + steps
        self._finish(stage, network, options.checkpoint)
        return network.eval()

    def loop(
        self,
        stage: str,
        network: nn.Module,
        kept: Mapping[str, nn.Module | torch.optim.Optimizer],
        epochs: int,
        epoch: Callable[[int], float],
    ) -> nn.Module:
        """Epochs of a course's own making, kept after each one.

        Args:
            stage: name, used once in a course.
            network: what the stage is for.
            kept: everything else that changes from epoch to epoch, by name.
            epochs: how many.
            epoch: runs epoch 0, 1, ... and returns its mean loss; all its randomness comes from streams named by the
                epoch.

        Returns:
            `network`, in eval mode.
        """
        if stage in self._finished:
            network.load_state_dict(self._finished[stage])
            return network.eval()
        start, checkpoint, parts = time.perf_counter(), self._checkpoint(stage), {**kept, "network": network}
        saved = None if checkpoint is None else checkpoint.load()
        if saved is not None:
            put_back(parts, saved.tensors)
        for done in range(0 if saved is None else int(saved.numbers["epoch"][0]), epochs):
            loss = epoch(done)
            self.epochs += 1
            if checkpoint is not None and done + 1 < epochs:
                checkpoint.save(tensors_of(parts), {"epoch": [done + 1]})
            if self.options.on_epoch is not None:
                self.options.on_epoch(Epoch(done + 1, epochs, 1, loss, time.perf_counter() - start))
        self._finish(stage, network, checkpoint)
        return network.eval()

    def batches(self, rows: torch.Tensor, draws: Draws) -> Iterator[tuple[torch.Tensor, Draws]]:
        """The rows of an epoch in random order, in batches of the task's size, each with its own streams."""
        order = rows[draws.permutation("order", len(rows))[0]]
        steps = max(1, -(-len(rows) // self.task.batch_size))
        for step, part in enumerate(order.tensor_split(steps)):
            yield part, draws.at("step", step)

    def batch(self, rows: torch.Tensor, draws: Draws, *, transformed: bool = True) -> Batch:
        """Records as they are trained on: augmented, and transformed by the chain."""
        x = augment(self.x[rows], self.task.augmentation, draws.at("augment"))
        made = Batch(x, self.targets[rows])
        for depth, part in enumerate(chain(self.run.defence) if transformed else ()):
            made = part.transform(made, draws.at("transform", depth, part.name))
        return made

    def seen(self, network: nn.Module, batch: Batch, draws: Draws, epoch: int = 0, epochs: int = 1) -> Seen:
        """A forward pass with gradient, as an objective sees it, without extra parameters."""
        set_noise(network, draws.at("layers"))
        if not self.run.needs_features:
            return Seen(network(batch.x), batch.targets, epoch=epoch, epochs=epochs)
        with features_of(network) as taken:
            outputs = network(batch.x)
        return Seen(outputs, batch.targets, taken.last(), epoch=epoch, epochs=epochs)

    def outputs(self, network: nn.Module, rows: torch.Tensor) -> torch.Tensor:
        """[k, classes]: logits of the network in eval mode, one column per class; no gradient, no augmentation."""
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

    def taught(self, part: Defence) -> Trained:
        """Run the course of a part."""
        start = time.perf_counter()
        network = part.course(self)
        run = replace(self.run, stack=ModelStack(network, 1))
        return Trained(
            state=run.state(0),
            history=run.views[0].history,
            seed=run.draws.seeds[0],
            epochs=self.epochs,
            best_epoch=self.epochs,
            seconds=time.perf_counter() - start,
            tallies=dict(self.tallies),
        )

    def fitted_guards(self, trained: Trained) -> dict[str, torch.Tensor]:
        """What the guards of the chain keep, "PART/name" -> tensor."""
        found: dict[str, torch.Tensor] = {}
        for part in fitted_guards(self.run.defence):
            network = self.network()
            inner = {} if trained.state is None else trained.state
            own = {k.removeprefix("1.") if self.run.front is not None else k: v for k, v in inner.items()}
            network.load_state_dict({k: own[k] for k in network.state_dict()})
            found |= {f"{part.name}/{k}": v for k, v in part.fit_guard(self, network.eval()).items()}
        return found

    def _run_for(
        self,
        stage: str,
        network: nn.Module,
        rows: torch.Tensor | None,
        targets: torch.Tensor | None,
        objective: Objective | None,
    ) -> Prepared:
        run = self.run
        made = replace(
            run,
            stack=ModelStack(network, 1),
            draws=run.draws.at("stage", stage),
            fit_rows=run.fit_rows if rows is None else rows[None],
            targets=run.targets if targets is None else targets.to(run.targets.dtype),
            objective=objective or run.objective,
            front=None,
            kept={},
        )
        shape, classes = tuple(run.x.shape[1:]), run.targets.shape[1]
        seed = derive(run.draws.seeds[0], "stage", stage)
        return replace(made, extras=extras_of(run.defence, network, shape, classes, seed, run.x.dtype))

    def _checkpoint(self, stage: str) -> Checkpoint | None:
        whole = self.options.checkpoint
        if whole is None:
            return None
        path = whole.path.with_name(f"{whole.path.stem}-{stage}{whole.path.suffix}")
        return Checkpoint(path, f"{whole.key} {stage}", whole.every)

    def _finish(self, stage: str, network: nn.Module, checkpoint: Checkpoint | None) -> None:
        self._finished[stage] = {k: v.detach().clone() for k, v in network.state_dict().items()}
        if self.options.checkpoint is not None:
            tensors = {f"{STAGE}/{s}/{k}": v for s, state in self._finished.items() for k, v in state.items()}
            self.options.checkpoint.save(tensors, {"stages": [float(len(self._finished))]})
        if checkpoint is not None:
            checkpoint.remove()


def _retimed(task: Task, epochs: int | None, lr: float | None) -> Task:
    optimizer = task.optimizer if lr is None else replace(task.optimizer, lr=lr)
    return replace(task, epochs=task.epochs if epochs is None else epochs, optimizer=optimizer)


def _stages(tensors: Mapping[str, torch.Tensor]) -> dict[str, dict[str, torch.Tensor]]:
    found: dict[str, dict[str, torch.Tensor]] = {}
    for name, value in tensors.items():
        kind, _, rest = name.partition("/")
        stage, slash, key = rest.partition("/")
        if kind == STAGE and slash:
            found.setdefault(stage, {})[key] = value
    return found
