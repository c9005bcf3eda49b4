"""Training on what was released of the records, in place of the records: made once, before anything else reads them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch

from sfumato.accounting.history import Event
from sfumato.data.population import Population
from sfumato.errors import NotPrivateError
from sfumato.private.noise.seeded import SeededNoise
from sfumato.private.noise.source import NoiseSource
from sfumato.private.noise.system import SystemNoise
from sfumato.seeding import derive
from sfumato.training.checkpoint import Checkpoint
from sfumato.training.composition import Releasing
from sfumato.training.defence import Batch

SAVED = "released."  # before its names in a checkpoint


class Arrays(NamedTuple):
    """What the loop trains on: inputs [n, *shape] and soft labels [n, classes] for all models of a stack, and the rows
    (int64 [M, ...]) to fit on and to validate on. `kept` must go into a checkpoint: it cannot be made again."""

    x: torch.Tensor
    targets: torch.Tensor
    fit_rows: torch.Tensor
    validation_rows: torch.Tensor
    kept: Mapping[str, torch.Tensor]


def release_events(releasing: Releasing, records: int, *, audit_only: bool) -> list[Event]:
    """One event for each mechanism of the release."""
    purpose = f"{releasing.part.name}: released once, before the first step"
    events = releasing.release.events(audit_only=audit_only)
    return [Event("training", purpose, records, mechanism) for mechanism in events]


def only_released(
    releasing: Releasing,
    clean: Arrays,
    population: Population,
    seeds: Sequence[int],
    *,
    release: bool,
    checkpoint: Checkpoint | None,
) -> Arrays:
    """Arrays that hold the released copies and nothing else; each model has its own.

    A training that goes on after an interruption takes the copies it began with. To draw new ones would be a second
    release.

    Args:
        releasing: what is released.
        clean: the records, behind the front; nobody may use them afterwards.
        population: see `Defence.released`.
        seeds: of the models.
        release: whether the noise is the operating system's, and never comes again.
        checkpoint: of the training.

    Raises:
        NotPrivateError: if a checkpoint of a release lacks the copies.
    """
    rows = [torch.cat(pair) for pair in zip(clean.fit_rows, clean.validation_rows, strict=True)]
    found = _saved(checkpoint) if release else None
    if found is None:
        copies = [
            releasing.part.released(
                Batch(clean.x[of], clean.targets[of]), population, _source(releasing, seed, release)
            )
            for of, seed in zip(rows, seeds, strict=True)
        ]
        found = Batch(torch.cat([copy.x for copy in copies]), torch.cat([copy.targets for copy in copies]))
    fit, held_out = clean.fit_rows.shape[1], clean.validation_rows.shape[1]
    places = torch.arange(len(found.x)).reshape(len(rows), releasing.release.copies, fit + held_out)
    kept = {f"{SAVED}x": found.x, f"{SAVED}targets": found.targets} if release else {}
    return Arrays(found.x, found.targets, places[:, :, :fit].flatten(1), places[:, :, fit:].flatten(1), kept)


def refuse_charge(releasing: Releasing, *, charged: bool) -> None:
    """A ledger that is told of steps alone would not hear of a release.

    Raises:
        NotPrivateError: if there is one.
    """
    if charged:
        raise NotPrivateError(
            f"Expected a ledger that is charged for all that is released, got one for the steps of a private update "
            f"alone, and {releasing.part.name}, which has none.",
            remedy="Train without a ledger, or with dpsgd.",
        )


def _source(releasing: Releasing, seed: int, release: bool) -> NoiseSource:
    return SystemNoise() if release else SeededNoise(derive(seed, "private noise"), releasing.part.name)


def _saved(checkpoint: Checkpoint | None) -> Batch | None:
    """The copies with which an interrupted training began; None where there is no such training."""
    saved = None if checkpoint is None else checkpoint.load()
    if saved is None:
        return None
    names = (f"{SAVED}x", f"{SAVED}targets")
    if any(name not in saved.tensors for name in names):
        raise NotPrivateError(
            "Expected the released copies in the checkpoint of a release, got a checkpoint without them.",
            remedy="Delete the checkpoint and train again.",
        )
    return Batch(*(saved.tensors[name] for name in names))
