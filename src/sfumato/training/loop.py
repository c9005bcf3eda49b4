"""The one training loop, for a stack of M models (M = 1 when trained alone).

All random numbers come from named streams per model, so a model is the same whether it is trained alone, in a stack or
in another process, and a training that was interrupted goes on at the next epoch without any saved generator.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import nn

from sfumato.sde.streams import set_noise, set_progress
from sfumato.training.augment import augment
from sfumato.training.defence import Batch, chain
from sfumato.training.draws import Draws
from sfumato.training.hearing import passed
from sfumato.training.preparation import Epoch, LoopOptions, Prepared
from sfumato.training.seen import Seen, Tally
from sfumato.training.steps import (
    Swap,
    add_l1,
    ema_decay,
    optimizer_of,
    optimizer_tensors,
    put_back,
    rate_factor,
    refuse_infinite,
    restore_optimizer,
    tensors_of,
)
from sfumato.training.trained import Trained
from sfumato.training.validation import validation_losses


class Step(NamedTuple):
    """One step of one model, after its forward pass.

    Args:
        network: in train mode.
        rows: int64 [batch], of the records.
        batch: what the network was given.
        seen: the pass.
        draws: streams of this step.
        done: share of the training that lies behind, in [0, 1).
    """

    network: nn.Module
    rows: torch.Tensor
    batch: Batch
    seen: Seen
    draws: Draws
    done: float


@dataclass(frozen=True, eq=False)
class Hooks:
    """What a course changes in the steps of one model.

    Args:
        backward: leaves a gradient in each parameter of the network and returns the loss; in place of the mean of the
            objective.
        before: called ahead of each step with its rows and streams (an inner attacker's own steps).
        kept: modules and optimisers of the hooks' own, by name: they go into checkpoints.
    """

    backward: Callable[[Step], torch.Tensor] | None = None
    before: Callable[[torch.Tensor, Draws, float], None] | None = None
    kept: Mapping[str, nn.Module | torch.optim.Optimizer] = field(default_factory=dict)


class Training:
    """The state that changes: weights, optimiser, average, best weights so far.

    Args:
        run: what is fixed.
        options: see `LoopOptions`.
        hooks: of a course; for one model at a time.
    """

    def __init__(self, run: Prepared, options: LoopOptions, hooks: Hooks | None = None) -> None:
        self.run, self.options, self.hooks = run, options, hooks or Hooks()
        self.parameters = [p for p in run.stack.module.parameters() if p.requires_grad]
        self.optimizer = optimizer_of(run.task.optimizer, self.parameters)
        self.extras = {name: extra.module.train() for name, extra in run.extras.items()}
        self.extra_optimizers = {
            name: optimizer_of(extra.optimizer, list(extra.module.parameters())) for name, extra in run.extras.items()
        }
        self.tally = Tally(run.stack.models)
        self.average = [p.detach().clone() for p in self.parameters] if run.task.ema is not None else []
        self.best: list[dict[str, torch.Tensor] | None] = [None] * run.stack.models
        self.best_loss = [math.inf] * run.stack.models
        self.best_epoch = [0] * run.stack.models
        self.epoch, self.step, self.done = 0, 0, 0.0

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

    @property
    def steps(self) -> int:
        """Steps of an epoch."""
        return math.ceil(self.run.fit_rows.shape[1] / self.run.task.batch_size)

    def median_step(self, until: float) -> float:
        """Seconds of a step: the median of those begun before `until`, at least two, after one to warm up."""
        self.run.stack.module.train()
        draws, times, batches = self.run.draws.at("epoch", 0), [], self._batches(self.run.draws.at("epoch", 0))
        while len(times) < 3 or time.perf_counter() < until:
            start, step = time.perf_counter(), len(times) % len(batches)
            self._set_rate(step, len(batches))
            self._step(batches[step], draws.at("step", step))
            times.append(time.perf_counter() - start)
        return statistics.median(times[1:])

    def _batches(self, draws: Draws) -> Sequence[torch.Tensor]:
        order = draws.permutation("order", self.run.fit_rows.shape[1])
        return torch.gather(self.run.fit_rows, 1, order).tensor_split(self.steps, dim=1)

    def _epoch(self) -> float:
        run = self.run
        run.stack.module.train()
        draws = run.draws.at("epoch", self.epoch)
        batches = self._batches(draws)
        total = torch.zeros((), dtype=run.x.dtype)
        for step, rows in enumerate(batches):
            self._set_rate(step, len(batches))
            total += self._step(rows, draws.at("step", step))
        mean = float(total) / (len(batches) * run.stack.models)
        refuse_infinite(mean, self.epoch)
        return mean

    def _step(self, rows: torch.Tensor, draws: Draws) -> torch.Tensor:
        run = self.run
        if self.hooks.before is not None:
            self.hooks.before(rows[0], draws.at("before"), self.done)
        flat = rows.reshape(-1)
        x = augment(run.x.index_select(0, flat), run.task.augmentation, draws.at("augment"))
        batch = Batch(x, run.targets.index_select(0, flat))
        for depth, part in enumerate(chain(run.defence)):
            batch = part.transform(batch, draws.at("transform", depth, part.name))
        set_noise(run.stack.module, draws.at("layers"))
        for optimizer in (self.optimizer, *self.extra_optimizers.values()):
            optimizer.zero_grad(set_to_none=True)
        loss = self._backward(rows, batch, draws)
        add_l1(self.parameters, run.task.optimizer.l1)
        for optimizer in (self.optimizer, *self.extra_optimizers.values()):
            optimizer.step()
        if self.average:
            with torch.no_grad():
                for average, parameter in zip(self.average, self.parameters, strict=True):
                    average.lerp_(parameter, 1 - ema_decay(run.task, self.step))
        return loss.detach()

    def _backward(self, rows: torch.Tensor, batch: Batch, draws: Draws) -> torch.Tensor:
        """Leave the gradients in place; the loss, summed over the models."""
        seen = self._seen(batch)
        if self.hooks.backward is not None:
            return self.hooks.backward(Step(self.run.stack.module, rows[0], batch, seen, draws, self.done))
        loss = self.run.objective(seen).reshape(rows.shape[0], -1).mean(dim=1).sum()
        loss.backward()
        return loss

    def _seen(self, batch: Batch) -> Seen:
        run = self.run
        made = Seen(
            torch.empty(0), batch.targets, None, self.extras, self.epoch, run.task.epochs, run.stack.models, self.tally
        )
        module = run.stack.module
        return passed(module, batch.x, made, inside=module if run.needs_features else None)

    def _set_rate(self, step: int, steps: int) -> None:
        task, self.step = self.run.task, self.epoch * steps + step
        self.done = (self.epoch + step / steps) / task.epochs
        set_progress(self.run.stack.module, self.done)
        factor = rate_factor(task, self.done)
        for group in self.optimizer.param_groups:
            group["lr"] = task.optimizer.lr * factor

    def _after_epoch(self) -> None:
        if self.run.task.patience is not None:
            with self._averaged():
                self._keep_best()
        if self.options.checkpoint is not None and self.epoch < self.run.task.epochs:
            self.options.checkpoint.save(self._tensors(), self._numbers())

    def _keep_best(self) -> None:
        for model, loss in enumerate(validation_losses(self.run)):
            if not self._stopped(model) and loss < self.best_loss[model]:
                self.best_loss[model], self.best_epoch[model] = loss, self.epoch
                self.best[model] = self.run.state(model)

    def _stopped(self, model: int) -> bool:
        patience = self.run.task.patience
        # one epoch later than the counter says, because this is asked while the current epoch is being judged too
        return patience is not None and self.epoch - self.best_epoch[model] > patience

    def _all_stopped(self) -> bool:
        patience = self.run.task.patience
        return patience is not None and all(self.epoch - best >= patience for best in self.best_epoch)

    def _epochs_of(self, model: int) -> int:
        """Epochs that count for the model: one that stopped early only idles along with its stack."""
        patience = self.run.task.patience
        return self.epoch if patience is None else min(self.epoch, self.best_epoch[model] + patience)

    def _averaged(self) -> Swap:
        return Swap(self.parameters, self.average)

    def _results(self, seconds: float) -> list[Trained]:
        run = self.run
        with self._averaged():
            last = [run.state(model) for model in range(run.stack.models)]
        states = [best if best is not None else state for best, state in zip(self.best, last, strict=True)]
        return [
            Trained(
                state=states[m],
                history=view.history,
                seed=run.draws.seeds[m],
                epochs=self._epochs_of(m),
                best_epoch=self.best_epoch[m] or self.epoch,
                seconds=seconds / run.stack.models,
                stacked_with=run.stack.models,
                kernels=dict(run.stack.kernels),
                tallies=self.tally.of(m),
            )
            for m, view in enumerate(run.views)
        ]

    def _tensors(self) -> dict[str, torch.Tensor]:
        tensors = {f"state.{k}": v for k, v in self.run.stack.module.state_dict().items()}
        tensors |= {f"average.{i}": value for i, value in enumerate(self.average)} | dict(self.run.kept)
        tensors |= optimizer_tensors("optimizer.", self.optimizer)
        for name, module in self.extras.items():
            tensors |= {f"extra.{name}.{k}": v for k, v in module.state_dict().items()}
            tensors |= optimizer_tensors(f"extra optimizer.{name}.", self.extra_optimizers[name])
        tensors |= tensors_of(self.hooks.kept)
        tensors |= {f"tally.{branch}": steps for branch, steps in self.tally.steps.items()}
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
        restore_optimizer("optimizer.", self.optimizer, saved.tensors)
        for name, module in self.extras.items():
            module.load_state_dict({k: saved.tensors[f"extra.{name}.{k}"] for k in module.state_dict()})
            restore_optimizer(f"extra optimizer.{name}.", self.extra_optimizers[name], saved.tensors)
        put_back(self.hooks.kept, saved.tensors)
        self.tally.steps = {k.removeprefix("tally."): v for k, v in saved.tensors.items() if k.startswith("tally.")}
        self.epoch = int(saved.numbers["epoch"][0])
        self.best_loss = saved.numbers["best_loss"]
        self.best_epoch = [int(epoch) for epoch in saved.numbers["best_epoch"]]
        for model in range(self.run.stack.models):
            prefix = f"best.{model}."
            state = {k[len(prefix) :]: v for k, v in saved.tensors.items() if k.startswith(prefix)}
            self.best[model] = state or None
