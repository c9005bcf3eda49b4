"""The loop of a private training: every step is the session's, everything else is as in the ordinary loop."""

from __future__ import annotations

import math
import secrets
import statistics
import time
import zlib
from collections.abc import Sequence

import torch
from torch import nn

from sfumato.data.population import Population
from sfumato.data.view import PrivateView
from sfumato.errors import UnsupportedModel
from sfumato.private.clipping.base import ClippingState
from sfumato.private.plan import Plan
from sfumato.private.session import Session, facts_of, make
from sfumato.sde.streams import set_noise, set_progress
from sfumato.seeding import derive
from sfumato.training.augment import augment
from sfumato.training.defence import Batch, Defence, chain
from sfumato.training.draws import Draws
from sfumato.training.extras import WithExtras
from sfumato.training.fronts import SAVED
from sfumato.training.hearing import passed
from sfumato.training.preparation import Assignment, Epoch, LoopOptions, Prepared, prepare
from sfumato.training.seen import Seen
from sfumato.training.steps import (
    StepTimes,
    Swap,
    add_l1,
    ema_decay,
    optimizer_of,
    optimizer_tensors,
    rate_factor,
    restore_optimizer,
)
from sfumato.training.task import Task
from sfumato.training.trained import Trained
from sfumato.training.validation import validation_losses
from sfumato.types import Rows


def train_privately(
    task: Task,
    defence: Defence,
    plan: Plan,
    population: Population,
    work: Sequence[Assignment],
    options: LoopOptions,
) -> list[Trained]:
    """Train one model with the private update of its defence.

    Args:
        task: as the defence has configured it; its batch size and epochs count for nothing, the plan's numbers do.
        defence: its other parts apply as always.
        plan: of the update.
        population: all records.
        work: exactly one entry.
        options: see `LoopOptions`; with `release`, noise is the operating system's.

    Raises:
        UnsupportedModel: for several models: they are trained one by one.
        NotPrivateError: if anything would make the guarantee false.
    """
    return [_prepared(task, defence, plan, population, work, options).finish()]


def time_private_steps(
    task: Task,
    defence: Defence,
    plan: Plan,
    population: Population,
    work: Sequence[Assignment],
    options: LoopOptions,
    budget: float,
) -> StepTimes:
    """What a private training costs: a few real steps with seeded noise that are thrown away; nothing is charged."""
    start = time.perf_counter()
    training = _prepared(task, defence, plan, population, work, LoopOptions(dtype=options.dtype))
    setup = time.perf_counter() - start
    epochs = math.ceil(plan.steps / training.steps_per_epoch)
    return StepTimes(setup, training.median_step(start + setup + budget), training.steps_per_epoch, epochs)


def _prepared(
    task: Task,
    defence: Defence,
    plan: Plan,
    population: Population,
    work: Sequence[Assignment],
    options: LoopOptions,
) -> PrivateTraining:
    if len(work) != 1:
        raise UnsupportedModel(
            f"Expected one model at a time under a private update, got {len(work)}.",
            remedy="These models are trained one by one instead.",
        )
    return PrivateTraining(prepare(task, defence, population, work, options, plan=plan), plan, options)


class _Records:
    """The training records as the session reads them: augmented and transformed, with draws named by step.

    A record's random numbers depend on its place in the batch, and one record more moves the others along. That leaves
    their distribution as it was only where nobody knows the numbers, and no two places share any. So for a release the
    streams' seed is the operating system's and kept nowhere, and each physical batch has numbers of its own, named by
    step and rows (not by how often the session asked, which an interruption changes).

    Args:
        run: see `Prepared`.
        seed: of all draws; None for the model's own.
    """

    def __init__(self, run: Prepared, seed: int | None = None) -> None:
        self.run = run
        self.source = run.draws if seed is None else Draws((seed,), run.draws.path)
        self.at_step(0)

    def __len__(self) -> int:
        return self.run.fit_rows.shape[1]

    def at_step(self, step: int) -> None:
        """Name the draws of this step."""
        self.of_step = self.of_batch = self.source.at("private", step)
        self.passes = 0

    def for_layers(self, *, alone: bool) -> Draws:
        """Of the next pass over the batch: the same each time, or others each time where each unit runs alone."""
        passes, self.passes = self.passes, self.passes + alone
        return self.of_batch.at("layers", passes)

    def __call__(self, positions: torch.Tensor) -> Sequence[torch.Tensor]:
        run = self.run
        draws = self.of_batch = self.of_step.at("batch", zlib.crc32(positions.numpy().tobytes()))
        self.passes = 0
        rows = run.fit_rows[0, positions]
        batch = Batch(augment(run.x[rows], run.task.augmentation, draws.at("augment")), run.targets[rows])
        for depth, part in enumerate(chain(run.defence)):
            batch = part.transform(batch, draws.at("transform", depth, part.name))
        return batch.x, batch.targets


class PrivateTraining:
    """The state that changes: weights, optimiser, average, session."""

    def __init__(self, run: Prepared, plan: Plan, options: LoopOptions) -> None:
        self.run, self.plan, self.options = run, plan, options
        self.module = WithExtras(run.stack.module, run.extras) if run.extras else run.stack.module
        self.parameters = [p for p in run.stack.module.parameters() if p.requires_grad]
        self.extra_optimizers = {
            name: optimizer_of(extra.optimizer, list(extra.module.parameters())) for name, extra in run.extras.items()
        }
        self.optimizer = optimizer_of(run.task.optimizer, self.parameters)
        self.average = [p.detach().clone() for p in self.parameters] if run.task.ema is not None else []
        self.records = _Records(run, secrets.randbits(63) if options.release else None)
        self.session = self._session()
        self.steps_per_epoch = max(1, round(1 / plan.sample_rate))
        self.best: dict[str, torch.Tensor] | None = None
        self.best_loss, self.best_epoch = math.inf, 0

    def _session(self) -> Session:
        view, seed = self.run.views[0], self.run.draws.seeds[0]
        return make(
            self.module,
            plan=self.plan,
            data=self.records,
            loss=self._losses,
            audit_seed=None if self.options.release else derive(seed, "private noise"),
            unit_of=_units(view, self.run.fit_rows[0]) if self.plan.max_records_per_unit > 1 else None,
            charge=self.options.charge,
        )

    def _losses(self, module: nn.Module, x: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        run = self.run
        set_noise(module, self.records.for_layers(alone=self.session.method == "loop"))
        extras = {name: extra.module for name, extra in run.extras.items()}
        epochs = math.ceil(self.plan.steps / self.steps_per_epoch)
        seen = Seen(torch.empty(0), targets, None, extras, self.session.steps_taken // self.steps_per_epoch, epochs)
        return run.objective(passed(module, x, seen, inside=run.stack.module if run.needs_features else None))

    def finish(self) -> Trained:
        """Train to the last step, from the checkpoint if there is one."""
        start = time.perf_counter()
        self._resume()
        self.module.train()
        losses: list[float] = []
        for step in self.session.steps():
            losses.append(self._step(step))
            if self.session.steps_taken % self.steps_per_epoch == 0 or self.session.steps_taken == self.plan.steps:
                self._after_epoch(losses, time.perf_counter() - start)
                losses = []
                if self._stopped():
                    break
        return self._result(time.perf_counter() - start)

    def _step(self, step: int) -> float:
        self.records.at_step(step)
        set_progress(self.module, step / self.plan.steps)
        facts = self.session.backward()
        for group in self.optimizer.param_groups:
            group["lr"] = self.run.task.optimizer.lr * rate_factor(self.run.task, step / self.plan.steps)
        add_l1(self.parameters, self.run.task.optimizer.l1)
        for optimizer in (self.optimizer, *self.extra_optimizers.values()):
            optimizer.step()
        with torch.no_grad():
            for average, parameter in zip(self.average, self.parameters, strict=False):
                average.lerp_(parameter, 1 - ema_decay(self.run.task, step))
        return facts.loss

    def median_step(self, until: float) -> float:
        """Seconds of a step, as in the ordinary loop."""
        self.module.train()
        times: list[float] = []
        for step in self.session.steps():
            start = time.perf_counter()
            self._step(step)
            times.append(time.perf_counter() - start)
            if len(times) >= 3 and start >= until:
                break
        return statistics.median(times[1:] or times)

    def _after_epoch(self, losses: Sequence[float], seconds: float) -> None:
        epochs = math.ceil(self.plan.steps / self.steps_per_epoch)
        epoch = math.ceil(self.session.steps_taken / self.steps_per_epoch)
        if self.options.on_epoch is not None:
            mean = sum(losses) / len(losses) if losses else math.nan
            self.options.on_epoch(Epoch(epoch, epochs, 1, mean, seconds))
        if self.run.task.patience is not None:
            self._keep_best(epoch)
        if self.options.checkpoint is not None and self.session.steps_taken < self.plan.steps:
            self.options.checkpoint.save(self._tensors(), self._numbers())

    def _keep_best(self, epoch: int) -> None:
        """A read of set-aside records without a mechanism: the history says so, and there is no guarantee."""
        with Swap(self.parameters, self.average):
            loss = validation_losses(self.run)[0]
            if loss < self.best_loss:
                self.best_loss, self.best_epoch, self.best = loss, epoch, self.run.state(0)

    @property
    def epoch(self) -> int:
        """Epochs so far, the last one perhaps in part."""
        return math.ceil(self.session.steps_taken / self.steps_per_epoch)

    def _stopped(self) -> bool:
        patience = self.run.task.patience
        return patience is not None and self.epoch - self.best_epoch >= patience

    def _result(self, seconds: float) -> Trained:
        with Swap(self.parameters, self.average):
            last = self.run.state(0)
        facts = facts_of(self.session)
        return Trained(
            state=last if self.best is None else self.best,
            history=self.run.views[0].history,
            seed=self.run.draws.seeds[0],
            epochs=self.epoch,
            best_epoch=self.best_epoch or self.epoch,
            seconds=seconds,
            kernels={"private": facts["method"], **{f"private {k}": v for k, v in facts["ways"].items()}},
        )

    def _tensors(self) -> dict[str, torch.Tensor]:
        tensors = {f"state.{k}": v for k, v in self.module.state_dict().items()}
        tensors |= {f"average.{i}": value for i, value in enumerate(self.average)}
        if self.run.front is not None:
            tensors |= {f"{SAVED}{name}": value for name, value in self.run.front.state_dict().items()}
        tensors |= optimizer_tensors("optimizer.", self.optimizer)
        for name, optimizer in self.extra_optimizers.items():
            tensors |= optimizer_tensors(f"extra optimizer.{name}.", optimizer)
        return tensors | {f"best.{k}": v for k, v in (self.best or {}).items()}

    def _numbers(self) -> dict[str, list[float]]:
        return {
            "steps": [self.session.steps_taken],
            "bounds": list(self.session.state.max_grad_norms),
            "best": [self.best_loss, float(self.best_epoch)],
        }

    def _resume(self) -> None:
        saved = None if self.options.checkpoint is None else self.options.checkpoint.load()
        if saved is None:
            return
        self.module.load_state_dict({k: saved.tensors[f"state.{k}"] for k in self.module.state_dict()})
        self.average = [saved.tensors[f"average.{i}"] for i in range(len(self.average))]
        restore_optimizer("optimizer.", self.optimizer, saved.tensors)
        for name, optimizer in self.extra_optimizers.items():
            restore_optimizer(f"extra optimizer.{name}.", optimizer, saved.tensors)
        self.session.steps_taken = int(saved.numbers["steps"][0])
        self.session.state = ClippingState(tuple(saved.numbers["bounds"]))
        self.best_loss, self.best_epoch = saved.numbers["best"][0], int(saved.numbers["best"][1])
        best = {k[len("best.") :]: v for k, v in saved.tensors.items() if k.startswith("best.")}
        self.best = best or None


def _units(view: PrivateView, rows: torch.Tensor) -> Rows:
    """The unit of each training record, in the order of `rows`."""
    return view.population.unit_of[rows.numpy()]
