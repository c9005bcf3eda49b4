"""What a course of several trainings must not do, or leave out without a word."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from sfumato.errors import NotPrivateError, UsageError
from sfumato.training.defence import Defence, chain
from sfumato.training.loop import Hooks
from sfumato.training.task import Task


def refuse_foreign(own: torch.Tensor, rows: torch.Tensor) -> None:
    """Refuse rows of records that are not the model's own.

    Args:
        own: bool [n], which records are.
        rows: int64 [k].
    """
    if not bool(own[rows].all()):
        raise UsageError(
            f"Expected records of the model's own training set, got {int((~own[rows]).sum())} others among "
            f"{len(rows)}.",
            remedy="Take them from `fit_rows`, `validation_rows` and `reference_rows`.",
        )


def refuse_empty(stage: str, rows: torch.Tensor) -> None:
    """Refuse a stage without a record to train on."""
    if len(rows) == 0:
        raise UsageError(
            f"Expected records to train on in stage {stage!r}, got none.",
            remedy="Use more records, or cut them into fewer parts.",
        )


def refuse_shape(targets: torch.Tensor, labels: torch.Tensor) -> None:
    """Refuse targets of another shape than the labels [n, classes]."""
    if targets.shape != labels.shape:
        raise UsageError(
            f"Expected targets for all {len(labels)} records, of shape {tuple(labels.shape)}, got "
            f"{tuple(targets.shape)}.",
            remedy="Fill a copy of `workshop.targets` at the rows that are trained on.",
        )


def refuse_second(stage: str, before: str, hooks: Hooks) -> None:
    """Refuse private steps a second time, and hooks in them: the history has the steps of the plan once, and clipping
    and noise cover nothing that a hook does.

    Args:
        stage: that is about to take them.
        before: the stage that took them already, or "".
        hooks: of the stage.
    """
    if before:
        raise UsageError(
            f"Expected the private steps to be taken once in a course, got {stage!r} after {before!r}.",
            remedy="Take them in one stage; the plan counts no others.",
        )
    if hooks.backward is not None or hooks.before is not None or hooks.kept:
        raise UsageError(
            f"Expected no hooks in private steps, got some for {stage!r}.",
            remedy="Use the objective: its gradients are clipped and get noise.",
        )


def refuse_unheeded(task: Task, whole: Defence, part: Defence) -> None:
    """Refuse what a course that takes its own steps would leave out.

    Args:
        task: as the chain has configured it.
        whole: the chain.
        part: whose course it is.
    """
    extras = [other.name for other in chain(whole) if type(other).extra is not Defence.extra]
    asked = {
        "an average of weights (`ema`)": task.ema is not None,
        "early stopping (`patience`)": task.patience is not None,
        f"parameters of the objective's own ({', '.join(extras)})": bool(extras),
    }
    for what, wanted in asked.items():
        if wanted:
            raise UsageError(
                f"Expected nothing that {part.name}, which takes its own steps, would leave out, got {what}.",
                remedy="Leave one of the two out.",
            )


def refuse_incomplete(
    part: Defence, network: nn.Module, initial: Mapping[str, torch.Tensor], *, private_left: bool
) -> None:
    """Refuse the end of a course whose weights nobody could load, or whose private steps were never taken.

    Args:
        part: whose course it is.
        network: that it ended with.
        initial: state of the model's fresh network.
        private_left: whether there are private steps that were not taken.
    """
    if private_left:
        raise UsageError(
            f"Expected the course of {part.name} to take the private steps of the chain, it took none.",
            remedy="Call `fit(..., protected=True)` in one of its stages, or leave `hosts_update` off.",
        )
    if _shapes(network.state_dict()) != _shapes(initial):
        raise UsageError(
            f"Expected the course of {part.name} to end with a network of `Workshop.network`, got other layers.",
            remedy="Change layers in `prepare`, where whoever loads the weights finds them.",
        )


def refuse_ledger(parts: Sequence[Defence]) -> None:
    """Refuse parts that read the records beside the steps that a ledger is charged for."""
    if parts:
        raise NotPrivateError(
            f"Expected a ledger that is charged for all that is learned of the records, got one for the private steps "
            f"alone, and {parts[0].name}, which reads the records beside them.",
            remedy=f"Train without a ledger, or without {parts[0].name}.",
        )


def _shapes(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in state.items()}
