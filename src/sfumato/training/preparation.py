"""What is fixed before the first step of a training: rows, networks, streams and the loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from sfumato.accounting.history import Event, History
from sfumato.data.population import Population
from sfumato.data.view import PrivateView
from sfumato.errors import UnsupportedModel, UsageError
from sfumato.models.build import build_seeded, drawn_from
from sfumato.models.dropout import replace_dropout
from sfumato.models.standardise import Standardise
from sfumato.private.plan import Plan
from sfumato.private.session import Charge
from sfumato.training.checkpoint import Checkpoint
from sfumato.training.composition import (
    Releasing,
    composed_objective,
    course_of,
    earlier_of,
    fitted_guards,
    reference_share,
    release_of,
)
from sfumato.training.defence import Defence, chain
from sfumato.training.draws import Draws
from sfumato.training.extras import Extra, feature_size
from sfumato.training.features import Inputs, input_shape
from sfumato.training.fronts import behind, fitted_front, front_of, public_front, refuse_uncharged, stage_events
from sfumato.training.losses import task_loss
from sfumato.training.releases import Arrays, only_released, refuse_charge, release_events
from sfumato.training.scaling import public_scaling
from sfumato.training.seen import Objective
from sfumato.training.splitting import split_rows
from sfumato.training.stacking import ModelStack, build_stack
from sfumato.training.task import Task


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
        release: whether the weights are meant to leave: private noise then comes from the operating system, and can
            never be drawn again. Everything else is repeatable from the seeds, and an audit model.
        charge: for a private update: told of each step before it is released; it may refuse (a ledger).
        on_kernels: called with the kernels of a stack before its first step, so that a resumed run uses the same.
    """

    dtype: torch.dtype = torch.float32
    kernels: dict[str, str] = field(default_factory=dict)
    checkpoint: Checkpoint | None = None
    on_epoch: Callable[[Epoch], None] | None = None
    release: bool = False
    charge: Charge | None = None
    on_kernels: Callable[[dict[str, str]], None] | None = None


@dataclass(frozen=True, eq=False)
class Prepared:
    """Everything that is fixed before the first step of M models. Row tensors are int64 [M, ...] into `x`.

    `x` are inputs of the networks of the stack: behind fixed features, and behind `front`, which is not in the stack.
    Where the defence releases the records, `x` and `targets` are what was released, and nothing else. `kept` are
    tensors that a checkpoint must hold, because a training that goes on cannot make them again. `extras` are the
    parameters of the objective's own, by the name of the part.
    """

    task: Task
    defence: Defence
    objective: Objective
    stack: ModelStack
    draws: Draws
    x: torch.Tensor
    targets: torch.Tensor
    fit_rows: torch.Tensor
    validation_rows: torch.Tensor
    views: Sequence[PrivateView]
    reference_rows: torch.Tensor = field(default_factory=lambda: torch.zeros(1, 0, dtype=torch.int64))
    front: nn.Module | None = None
    kept: Mapping[str, torch.Tensor] = field(default_factory=dict)
    extras: Mapping[str, Extra] = field(default_factory=dict)

    @property
    def needs_features(self) -> bool:
        """Whether the objective reads features of the last hidden layer."""
        return any(part.needs_features for part in chain(self.defence))

    def state(self, model: int) -> dict[str, torch.Tensor]:
        """The state of one model of the stack as `assemble` builds it: with the fitted layer in front, if any."""
        state = self.stack.state(model)
        if self.front is None:
            return state
        fitted = {f"0.{name}": value.to(self.x.dtype, copy=True) for name, value in self.front.state_dict().items()}
        return fitted | {f"1.{name}": value for name, value in state.items()}


def prepare(
    task: Task,
    defence: Defence,
    population: Population,
    work: Sequence[Assignment],
    options: LoopOptions,
    *,
    plan: Plan | None = None,
) -> Prepared:
    """Read the records, split off validation, build the networks and stack them.

    Args:
        task: as the defence has configured it.
        defence: its parts apply outermost first.
        population: all records.
        work: one entry per model.
        options: see `LoopOptions`.
        plan: of the private update that the records will be read through, or None for the ordinary one.

    Raises:
        UnsupportedModel: if several models cannot be stacked exactly.
    """
    views = [PrivateView(population, assignment.rows) for assignment in work]
    earlier = earlier_of(defence)
    for view in views:
        view.history = earlier + view.history
    draws = Draws(tuple(assignment.seed for assignment in work), ("training",))
    releasing = release_of(defence, population) if plan is None else None
    _refuse_several(defence, work)
    fit, validation, reference = split_rows(task, reference_share(defence), views, draws)
    _note_reads(views, task, defence, plan, releasing, options)
    inputs = Inputs(population, task.features)
    front = front_of(defence, inputs.shape)
    if releasing is None:
        rows, seed, release = fit[0].numpy(), draws.seeds[0], options.release
        fitted = fitted_front(front, plan, views[0], inputs, rows, seed, release=release, checkpoint=options.checkpoint)
    else:
        fitted = public_front(front)
    x = inputs.all(fitted).to(options.dtype)
    targets = torch.eye(population.classes, dtype=options.dtype)[torch.from_numpy(population.label_array)]
    arrays = Arrays(x, targets, fit, validation, {})
    if releasing is not None:  # from here on nobody sees the records
        arrays = only_released(
            releasing, arrays, population, draws.seeds, release=options.release, checkpoint=options.checkpoint
        )
    made = _stacked(task, defence, arrays, behind(front, inputs.shape), draws, views, fitted, options)
    return replace(made, reference_rows=reference)


def _stacked(
    task: Task,
    defence: Defence,
    arrays: Arrays,
    shape: tuple[int, ...],
    draws: Draws,
    views: Sequence[PrivateView],
    front: nn.Module | None,
    options: LoopOptions,
) -> Prepared:
    """Build the networks for inputs of this shape, and stack them."""
    x, fit, classes = arrays.x, arrays.fit_rows, arrays.targets.shape[1]
    networks = [network_of(task, defence, shape, classes, seed).to(options.dtype) for seed in draws.seeds]
    if task.standardise:
        for network, rows in zip(networks, fit, strict=True):
            _fit_standardise(network, x[rows])
    stack = build_stack(networks, x[fit[0, : task.batch_size]], draws, options.kernels)
    if options.on_kernels is not None and stack.kernels:
        options.on_kernels(dict(stack.kernels))
    objective = composed_objective(defence, task_loss(task.head))
    extras = extras_of(defence, stack.module, shape, classes, draws.seeds[0], options.dtype)
    return Prepared(
        task, defence, objective, stack, draws, x, arrays.targets, fit, arrays.validation_rows, views,
        front=front, kept=arrays.kept, extras=extras,
    )  # fmt: skip


def extras_of(
    defence: Defence, network: nn.Module, shape: tuple[int, ...], classes: int, seed: int, dtype: torch.dtype
) -> dict[str, Extra]:
    """The extra parameters of all parts, by the name of the part, drawn from the model's stream "extra".

    Args:
        defence: of the training.
        network: of one model; run once for the number of its features.
        shape: of one of its inputs.
        classes: of the population.
        seed: of the model.
        dtype: of the training.
    """
    found: dict[str, Extra] = {}
    for part in chain(defence):
        if type(part).extra is Defence.extra:
            continue
        with drawn_from(seed, "extra", part.name):
            extra = part.extra(feature_size(network, shape), classes)
        if extra is not None and part.name in found:
            raise UsageError(f"Expected each part with parameters of its own once, got {part.name} twice.")
        found |= {} if extra is None else {part.name: Extra(extra.module.to(dtype), extra.optimizer)}
    return found


def _refuse_several(defence: Defence, work: Sequence[Assignment]) -> None:
    """Courses, guards that are fitted, features and extra parameters are for one model at a time."""
    parts = [p for p in chain(defence) if p.needs_features or type(p).extra is not Defence.extra]
    parts += [p for p in (course_of(defence), *fitted_guards(defence)) if p is not None]
    if len(work) > 1 and parts:
        raise UnsupportedModel(
            f"Expected one model at a time with {parts[0].name}, got {len(work)}.",
            remedy="These models are trained one by one instead.",
        )


def _note_reads(
    views: Sequence[PrivateView],
    task: Task,
    defence: Defence,
    plan: Plan | None,
    releasing: Releasing | None,
    options: LoopOptions,
) -> None:
    """Write every read that is about to happen into each history."""
    for view in views:
        if plan is not None:
            refuse_uncharged(defence, plan, charged=options.charge is not None)
        if releasing is not None:
            refuse_charge(releasing, charged=options.charge is not None)
        for event in reads(task, defence, plan, len(view), audit_only=not options.release, releasing=releasing):
            view.note(event.stage, event.purpose, mechanism=event.mechanism)


def reads(
    task: Task,
    defence: Defence,
    plan: Plan | None,
    records: int,
    *,
    audit_only: bool,
    releasing: Releasing | None = None,
) -> list[Event]:
    """The reads of a training, in order: stages before the first step, the steps, and what is not private.

    After a release nothing reads the records: steps, validation scores and scaling see what was released.

    Args:
        task: as the defence has configured it.
        defence: of the training.
        plan: of a private update, or None.
        records: how many are read.
        audit_only: whether the noise comes from a seed.
        releasing: what takes the place of the records, if anything does.
    """
    if releasing is not None:
        return release_events(releasing, records, audit_only=audit_only)
    others = [Event("training", purpose, records) for purpose in other_reads(task)]
    guards = [f"{part.name}: guard fitted to the answers on the training records" for part in fitted_guards(defence)]
    others += [Event("training", purpose, records) for purpose in guards]
    course = course_of(defence)
    if plan is None:
        how = "" if course is None else f", in the course of {course.name}"
        return [Event("training", f"ordinary training, up to {task.epochs} epochs{how}", records), *others]
    if course is not None:  # what is read before the private steps protects nobody
        others.insert(0, Event("training", f"{course.name}: ordinary steps beside the private ones", records))
    if task.validation_fraction > 0 or reference_share(defence) > 0:  # one unit more, and others are fitted to
        others.append(Event("training", "units set aside from the steps by how many there are", records))
    steps = Event("training", f"DP-SGD, {plan.steps} steps", records, plan.mechanism(audit_only=audit_only))
    return [*stage_events(defence, plan, records, audit_only=audit_only), steps, *others]


def other_reads(task: Task) -> tuple[str, ...]:
    """What the training records are read for beside the steps themselves."""
    validation = f"validation score on {task.validation_fraction:.0%} of the units, to stop early"
    scaling = "input standardisation fitted on the training set"
    asked = ((validation, task.patience is not None), (scaling, task.standardise))
    return tuple(purpose for purpose, happens in asked if happens)


def foreseen(task: Task, defence: Defence, population: Population, plan: Plan | None) -> History:
    """The history that a private training will have, before it runs: for a plan, and never for weights.

    Args:
        task: as the defence has configured it.
        defence: of the training.
        population: all records; none is read.
        plan: of the update, or None: of a release, or of an ordinary training.
    """
    releasing = release_of(defence, population) if plan is None else None
    events = reads(task, defence, plan, len(population), audit_only=True, releasing=releasing)
    return earlier_of(defence) + History((*population.events, *events))


def assemble(task: Task, defence: Defence, shape: tuple[int, ...], classes: int, seed: int) -> nn.Module:
    """What answers for a record's features: the network behind the defence's fitted layer, if it has one.

    Args:
        task: as the defence has configured it.
        defence: of the training.
        shape: of one record.
        classes: of the population.
        seed: of the model.
    """
    shape = input_shape(task.features, shape)
    front = front_of(defence, shape)
    network = network_of(task, defence, behind(front, shape), classes, seed)
    return network if front is None else nn.Sequential(front.layer, network)


def network_of(task: Task, defence: Defence, shape: tuple[int, ...], classes: int, seed: int) -> nn.Module:
    """The network that is trained: the family's own, prepared by the defence, standardised inputs in front if asked.

    Args:
        task: as the defence has configured it.
        defence: of the training.
        shape: of one input of the network.
        classes: of the population.
        seed: of the model.
    """
    if task.head == "binary" and classes != 2:
        raise UnsupportedModel(
            f"Expected two classes for the one-logit binary head, got {classes}.", remedy='Use head="multiclass".'
        )
    network = build_seeded(task.model, shape, 1 if task.head == "binary" else classes, seed)
    with drawn_from(seed, "prepare"):
        for part in reversed(chain(defence)):
            network = part.prepare_for(network, shape)
    network = replace_dropout(network)
    if task.standardise:
        width = shape[0]
        network = nn.Sequential(Standardise(torch.zeros(width), torch.ones(width)), network)
    elif task.scaling is not None:
        network = nn.Sequential(*public_scaling(task.scaling, shape[0]), network)
    return network


def _fit_standardise(network: nn.Module, x: torch.Tensor) -> None:
    layer = network[0]  # type: ignore[index] - `assemble` put it there
    axes = [0, *range(2, x.dim())]
    std, mean = torch.std_mean(x.double(), dim=axes, correction=0)
    layer.load_state_dict(Standardise(mean, std).state_dict())
