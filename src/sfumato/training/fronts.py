"""The layer in front of a network that a defence fits to the training records, through a mechanism of its own."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import nn

from sfumato.accounting.history import Event
from sfumato.data.view import PrivateView
from sfumato.errors import NotPrivateError, UsageError
from sfumato.private.noise.seeded import SeededNoise
from sfumato.private.noise.system import SystemNoise
from sfumato.private.plan import Plan
from sfumato.seeding import derive
from sfumato.training.checkpoint import Checkpoint
from sfumato.training.defence import Defence, chain
from sfumato.training.features import Inputs
from sfumato.types import Rows

SAVED = "front."  # before its names in a checkpoint


class Front(NamedTuple):
    """The layer, and the part of the defence that fits it."""

    layer: nn.Module
    part: Defence


def front_of(defence: Defence, shape: tuple[int, ...]) -> Front | None:
    """The layer that a part of the defence puts in front, not yet fitted; None where no part does.

    Raises:
        UsageError: if two parts do.
    """
    found = [Front(layer, part) for part in chain(defence) if (layer := part.front(shape)) is not None]
    if len(found) > 1:
        raise UsageError(
            f"Expected one layer in front of the network, got one from each of "
            f"{' and '.join(front.part.name for front in found)}.",
            remedy="Keep one of them.",
        )
    return found[0] if found else None


def behind(front: Front | None, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of what the network behind the layer sees."""
    if front is None:
        return shape
    with torch.no_grad():
        return tuple(front.layer(torch.zeros(1, *shape)).shape[1:])


def stage_events(defence: Defence, plan: Plan, records: int, *, audit_only: bool) -> list[Event]:
    """One event for each mechanism that runs before the first step, in the unit and at the delta of the update."""
    facts: dict[str, Any] = {"delta": plan.delta, "unit": plan.unit_text, "audit_only": audit_only}
    return [
        Event("training", f"{part.name}: fitted before the first step", records, mechanism.plain() | facts)
        for part in reversed(chain(defence))
        for mechanism in part.stages(plan)
    ]


def fitted_front(
    front: Front | None,
    plan: Plan | None,
    view: PrivateView,
    inputs: Inputs,
    rows: Rows,
    seed: int,
    *,
    release: bool,
    checkpoint: Checkpoint | None,
) -> nn.Module | None:
    """Fit the layer on the training records and freeze it. A resumed training takes the fit that it began with.

    The caller has written the events of `stage_events` before.

    Raises:
        UsageError: if the update is not private: there is no relation and no unit to protect then.
    """
    if front is None:
        return None
    if plan is None:
        raise UsageError(
            f"Expected a private update inside {front.part.name}, got an ordinary one.",
            remedy=f"Wrap it around DP-SGD: {type(front.part).__name__}(..., inner=DPSGD(...)).",
        )
    saved = None if checkpoint is None else checkpoint.load()
    if saved is not None:
        state = {name.removeprefix(SAVED): v for name, v in saved.tensors.items() if name.startswith(SAVED)}
        front.layer.load_state_dict(state)
    else:
        source = SystemNoise() if release else SeededNoise(derive(seed, "private noise"), front.part.name)
        front.part.fit_front(front.layer, inputs.batches(rows), plan, source)
    return front.layer.requires_grad_(False).eval()


def public_front(front: Front | None) -> nn.Module | None:
    """The layer of a part that releases the records behind it: public numbers alone, so that nothing is fitted."""
    return None if front is None else front.layer.requires_grad_(False).eval()


def refuse_uncharged(defence: Defence, plan: Plan, *, charged: bool) -> None:
    """A ledger that is told of steps alone would not hear of what else is released.

    Args:
        defence: with its stages.
        plan: of the private update.
        charged: whether there is such a ledger.

    Raises:
        NotPrivateError: if there is, and a stage before the steps.
    """
    named = [part.name for part in chain(defence) if part.stages(plan)]
    if charged and named:
        raise NotPrivateError(
            f"Expected a ledger that is charged for all that is released, got one for the steps alone, and what "
            f"{named[0]} releases before them.",
            remedy="Train without a ledger, or without this part of the defence.",
        )
