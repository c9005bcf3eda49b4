"""The one training loop, for a stack of M models (M = 1 when trained alone).

All random numbers come from named streams per model, so a model is the same whether it is trained alone, in a stack or in
another process, and a training that was interrupted goes on at the next epoch without any saved generator.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from sfumato.data.population import Population
from sfumato.data.view import PrivateView, read_together
from sfumato.errors import SfumatoError, UnsupportedModel
from sfumato.models.build import build_seeded
from sfumato.models.dropout import replace_dropout, set_draws
from sfumato.models.standardise import Standardise
from sfumato.training.augment import augment
from sfumato.training.checkpoint import Checkpoint
from sfumato.training.defence import Batch, Defence, PerExampleLoss, chain, composed_loss, configured
from sfumato.training.draws import Draws
from sfumato.training.losses import task_loss
from sfumato.training.stacking import ModelStack, build_stack
from sfumato.training.task import Optimizer, Task
from sfumato.training.trained import Trained

EVALUATION_ROWS = 4096


class Assignment(NamedTuple):
    """One training: the rows of the population to train on (int64 [k], whole units) and the seed."""

    rows: np.ndarray
    seed: int


class Epoch(NamedTuple):
    """Progress after an epoch: mean training loss over the stack, and seconds since the start."""

    epoch: int
    epochs: int
    models: int
    loss: float
    seconds: float


@dataclass(frozen=True, kw_only=True)
class LoopOptions:
    """How to run a training, as opposed to what is trained. None of it changes the result but `dtype` and rounding.

    Args:
        dtype: torch.float32, or torch.float64 for comparisons.
        kernels: kernels by layer from an earlier choice (see `ModelStack`).
        checkpoint: where to keep what is needed to resume, or None.
        on_epoch: called after each epoch.
    """

    dtype: torch.dtype = torch.float32
    kernels: dict[str, str] = field(default_factory=dict)
    checkpoint: Checkpoint | None = None
    on_epoch: Callable[[Epoch], None] | None = None


def train(
    task: Task, defence: Defence, population: Population, work: Sequence[Assignment], options: LoopOptions
) -> list[Trained]:
    """Train one model for each assignment, side by side.

    Args:
        task: before the defence has configured it.
        defence: its parts apply outermost first.
        population: all records.
        work: one entry per model; with several, all training sets must have one size after the validation split.
        options: see `LoopOptions`.

    Raises:
        UnsupportedModel: if several models cannot be stacked exactly; train them one by one then.
        SfumatoError: if the loss stops being finite.
    """
    run = _prepare(configured(defence, task), defence, population, work, options)
    return _Training(run, options).finish()


@dataclass(frozen=True, eq=False)
class _Run:
    """Everything that is fixed before the first step. Row tensors are int64 [M, ...] into `x`."""

    task: Task
    defence: Defence
    loss: PerExampleLoss
    stack: ModelStack
    draws: Draws
    x: torch.Tensor
    targets: torch.Tensor
    fit_rows: torch.Tensor
    validation_rows: torch.Tensor
    views: Sequence[PrivateView]


def _prepare(
    task: Task, defence: Defence, population: Population, work: Sequence[Assignment], options: LoopOptions
) -> _Run:
    views = [PrivateView(population, assignment.rows) for assignment in work]
    draws = Draws(tuple(assignment.seed for assignment in work), ("training",))
    fit, validation = _split_rows(task, views, draws)
    pool = read_together(views, "training", f"ordinary training, up to {task.epochs} epochs")
    if task.patience is not None:
        for view in views:
            view.note("training", f"validation score on {task.validation_fraction:.0%} of the units, to stop early")
    x = pool.x.to(options.dtype)
    targets = torch.eye(population.classes, dtype=options.dtype)[torch.from_numpy(population.label_array)]
    networks = [
        assemble(task, defence, population.records.shape, population.classes, draws.seeds[m]).to(options.dtype)
        for m in range(len(work))
    ]
    if task.standardise:
        for view in views:
            view.note("training", "input standardisation fitted on the training set")
        for network, rows in zip(networks, fit, strict=True):
            _fit_standardise(network, x[rows])
    stack = build_stack(networks, x[fit[0, :4]], draws, options.kernels)
    return _Run(
        task, defence, composed_loss(defence, task_loss(task.head)), stack, draws, x, targets, fit, validation, views
    )


def assemble(task: Task, defence: Defence, shape: tuple[int, ...], classes: int, seed: int) -> nn.Module:
    """The network that is trained: the family's own, prepared by the defence, standardised inputs in front if asked."""
    if task.head == "binary" and classes != 2:
        raise UnsupportedModel(
            f"Expected two classes for the one-logit binary head, got {classes}.", remedy='Use head="multiclass".'
        )
    network = build_seeded(task.model, shape, 1 if task.head == "binary" else classes, seed)
    for part in reversed(chain(defence)):
        network = part.prepare(network)
    network = replace_dropout(network)
    if task.standardise:
        width = shape[0]
        network = nn.Sequential(Standardise(torch.zeros(width), torch.ones(width)), network)
    return network


class _Training:
    """The state that changes: weights, optimiser, average, best weights so far."""

    def __init__(self, run: _Run, options: LoopOptions) -> None:
        self.run, self.options = run, options
        self.parameters = [p for p in run.stack.module.parameters() if p.requires_grad]
        self.optimizer = _optimizer(run.task.optimizer, self.parameters)
        self.average = [p.detach().clone() for p in self.parameters] if run.task.ema is not None else []
        self.best: list[dict[str, torch.Tensor] | None] = [None] * run.stack.models
        self.best_loss = [math.inf] * run.stack.models
        self.best_epoch = [0] * run.stack.models
        self.epoch = 0

    def finish(self) -> list[Trained]:
        """Train to the end, from the checkpoint if there is one."""
        start = time.perf_counter()
        self._resume()
        while self.epoch < self.run.task.epochs and not self._all_stopped():
            loss = self._epoch()
            self.epoch += 1
            self._after_epoch()
            if self.options.on_epoch is not None:
                spent = time.perf_counter() - start
                self.options.on_epoch(Epoch(self.epoch, self.run.task.epochs, self.run.stack.models, loss, spent))
        return self._results(time.perf_counter() - start)

    def _epoch(self) -> float:
        run = self.run
        run.stack.module.train()
        draws = run.draws.at("epoch", self.epoch)
        models, size = run.fit_rows.shape
        order = torch.gather(run.fit_rows, 1, draws.permutation("order", size))
        batches = order.tensor_split(math.ceil(size / run.task.batch_size), dim=1)
        total = torch.zeros((), dtype=run.x.dtype)
        for step, rows in enumerate(batches):
            self._set_rate(step, len(batches))
            total += self._step(rows, draws.at("step", step))
        mean = float(total) / (len(batches) * models)
        if not math.isfinite(mean):
            raise SfumatoError(
                f"Expected a finite training loss, got {mean} in epoch {self.epoch + 1}.",
                remedy="Lower the learning rate, or standardise the inputs (`standardise=True`).",
            )
        return mean

    def _step(self, rows: torch.Tensor, draws: Draws) -> torch.Tensor:
        run = self.run
        flat = rows.reshape(-1)
        x = augment(run.x[flat], run.task.augmentation, draws.at("augment"))
        batch = Batch(x, run.targets[flat])
        for part in chain(run.defence):
            batch = part.transform(batch, draws.at("transform", part.name))
        set_draws(run.stack.module, draws.at("dropout"))
        losses = run.loss(run.stack.module(batch.x), batch.targets)
        loss = losses.reshape(rows.shape[0], -1).mean(dim=1).sum()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        if self.average:
            torch._foreach_lerp_(self.average, [p.detach() for p in self.parameters], 1 - (run.task.ema or 0.0))
        return loss.detach()

    def _set_rate(self, step: int, steps: int) -> None:
        task = self.run.task
        done = (self.epoch + step / steps) / task.epochs
        factor = {"constant": 1.0, "cosine": 0.5 * (1 + math.cos(math.pi * done))}.get(task.schedule)
        if factor is None:
            factor = 1.0 if done < 0.5 else (0.1 if done < 0.75 else 0.01)
        for group in self.optimizer.param_groups:
            group["lr"] = task.optimizer.lr * factor

    def _after_epoch(self) -> None:
        if self.run.task.patience is not None:
            with self._averaged():
                self._keep_best()
        if self.options.checkpoint is not None and self.epoch < self.run.task.epochs:
            self.options.checkpoint.save(self._tensors(), self._numbers())

    def _keep_best(self) -> None:
        for model, loss in enumerate(_validation_losses(self.run)):
            if not self._stopped(model) and loss < self.best_loss[model]:
                self.best_loss[model], self.best_epoch[model] = loss, self.epoch
                self.best[model] = self.run.stack.state(model)

    def _stopped(self, model: int) -> bool:
        patience = self.run.task.patience
        # one epoch later than the counter says, because this is asked while the current epoch is being judged too
        return patience is not None and self.epoch - self.best_epoch[model] > patience

    def _all_stopped(self) -> bool:
        patience = self.run.task.patience
        return patience is not None and all(self.epoch - best >= patience for best in self.best_epoch)

    def _averaged(self) -> _Swap:
        return _Swap(self.parameters, self.average)

    def _results(self, seconds: float) -> list[Trained]:
        run = self.run
        with self._averaged():
            last = [run.stack.state(model) for model in range(run.stack.models)]
        states = [best if best is not None else state for best, state in zip(self.best, last, strict=True)]
        return [
            Trained(
                state=states[m],
                history=view.history,
                seed=run.draws.seeds[m],
                epochs=self.epoch,
                best_epoch=self.best_epoch[m] or self.epoch,
                seconds=seconds / run.stack.models,
                stacked_with=run.stack.models,
                kernels=dict(run.stack.kernels),
            )
            for m, view in enumerate(run.views)
        ]

    def _tensors(self) -> dict[str, torch.Tensor]:
        tensors = {f"state.{k}": v for k, v in self.run.stack.module.state_dict().items()}
        tensors |= {f"average.{i}": value for i, value in enumerate(self.average)}
        for index, parameter in enumerate(self.parameters):
            for key, value in self.optimizer.state.get(parameter, {}).items():
                tensors |= {f"optimizer.{index}.{key}": value} if isinstance(value, torch.Tensor) else {}
        for model, state in enumerate(self.best):
            tensors |= {f"best.{model}.{k}": v for k, v in (state or {}).items()}
        return tensors

    def _numbers(self) -> dict[str, list[float]]:
        return {"epoch": [self.epoch], "best_loss": self.best_loss, "best_epoch": [float(e) for e in self.best_epoch]}

    def _resume(self) -> None:
        saved = None if self.options.checkpoint is None else self.options.checkpoint.load()
        if saved is None:
            return
        module = self.run.stack.module
        module.load_state_dict({k: saved.tensors[f"state.{k}"] for k in module.state_dict()})
        self.average = [saved.tensors[f"average.{i}"] for i in range(len(self.average))]
        for index, parameter in enumerate(self.parameters):
            prefix = f"optimizer.{index}."
            state = {k[len(prefix) :]: v for k, v in saved.tensors.items() if k.startswith(prefix)}
            if state:
                self.optimizer.state[parameter] = state
        self.epoch = int(saved.numbers["epoch"][0])
        self.best_loss = saved.numbers["best_loss"]
        self.best_epoch = [int(epoch) for epoch in saved.numbers["best_epoch"]]
        for model in range(self.run.stack.models):
            prefix = f"best.{model}."
            state = {k[len(prefix) :]: v for k, v in saved.tensors.items() if k.startswith(prefix)}
            self.best[model] = state or None


class _Swap:
    """Puts the averaged weights in place for a while; without an average it does nothing."""

    def __init__(self, parameters: list[nn.Parameter], average: list[torch.Tensor]) -> None:
        self.parameters, self.average = parameters, average

    def __enter__(self) -> None:
        self._exchange()

    def __exit__(self, *_: object) -> None:
        self._exchange()

    def _exchange(self) -> None:
        with torch.no_grad():
            for parameter, value in zip(self.parameters, self.average, strict=False):
                kept = parameter.detach().clone()
                parameter.copy_(value)
                value.copy_(kept)


def _split_rows(task: Task, views: Sequence[PrivateView], draws: Draws) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows to fit on and rows to validate on, [M, k] and [M, v]; a validation split never cuts a unit."""
    fit, validation = [], []
    for view, seed in zip(views, draws.seeds, strict=True):
        units = np.unique(view.units)
        order = Draws((seed,), draws.path).permutation("validation", len(units))[0].numpy()
        held_out = units[order[: round(task.validation_fraction * len(units))]]
        mask = np.isin(view.units, held_out)
        fit.append(view.rows[~mask])
        validation.append(view.rows[mask])
    sizes = {len(rows) for rows in fit} | {-1 - len(rows) for rows in validation}
    if len(sizes) != 2:
        raise UnsupportedModel(
            f"Expected training sets of one size in a stack, got {sorted({len(rows) for rows in fit})} records.",
            remedy="These models are trained one by one instead.",
        )
    if min(len(rows) for rows in fit) == 0 or (task.patience is not None and min(map(len, validation)) == 0):
        raise SfumatoError(
            f"Expected at least one unit to train on and, for early stopping, one to validate on, got {len(views[0])} "
            "records in all.",
            remedy="Use more records, or another `validation_fraction`.",
        )
    return torch.from_numpy(np.stack(fit)), torch.from_numpy(np.stack(validation))


def _fit_standardise(network: nn.Module, x: torch.Tensor) -> None:
    layer = network[0]  # type: ignore[index] - `assemble` put it there
    axes = [0, *range(2, x.dim())]
    std, mean = torch.std_mean(x.double(), dim=axes, correction=0)
    layer.load_state_dict(Standardise(mean, std).state_dict())


def _optimizer(spec: Optimizer, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    if spec.name == "sgd":
        return torch.optim.SGD(
            parameters, spec.lr, spec.momentum, weight_decay=spec.weight_decay, nesterov=spec.nesterov, foreach=True
        )
    kind = torch.optim.Adam if spec.name == "adam" else torch.optim.AdamW
    return kind(parameters, spec.lr, weight_decay=spec.weight_decay, foreach=True)


def _validation_losses(run: _Run) -> list[float]:
    """Mean loss of the task itself (not the defence's) on each model's validation rows."""
    module, models = run.stack.module.eval(), run.stack.models
    base = task_loss(run.task.head)
    sums = torch.zeros(models, dtype=torch.float64)
    with torch.no_grad():
        for rows in run.validation_rows.split(max(1, EVALUATION_ROWS // models), dim=1):
            flat = rows.reshape(-1)
            sums += base(module(run.x[flat]), run.targets[flat]).double().reshape(models, -1).sum(dim=1)
    module.train()
    return (sums / run.validation_rows.shape[1]).tolist()
