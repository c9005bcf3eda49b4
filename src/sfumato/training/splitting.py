"""What each record of a training set is used for: to fit, to validate, or as reference data."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from sfumato.data.population import Population
from sfumato.data.view import PrivateView
from sfumato.errors import SfumatoError, UnsupportedModel
from sfumato.training.composition import reference_share
from sfumato.training.defence import Defence
from sfumato.training.draws import Draws
from sfumato.training.task import Task
from sfumato.types import Rows

ROLES = ("fit", "validation", "reference")


def roles_of(task: Task, defence: Defence, population: Population, rows: Rows, seed: int) -> np.ndarray:
    """What each training record of a model was used for: one of `ROLES`, text [k] in the order of `rows`.

    Whole units are set aside, and nothing but their number and the seed decides which.

    Args:
        task: as the defence has configured it.
        defence: of the training.
        population: all records.
        rows: int64 [k], the model's training set.
        seed: of the model.
    """
    share = reference_share(defence)
    return _roles(task.validation_fraction, share, population.unit_of[rows], Draws((seed,), ("training",)))


def _roles(validation: float, reference: float, unit_of: np.ndarray, draws: Draws) -> np.ndarray:
    units = np.unique(unit_of)
    order = draws.permutation("validation", len(units))[0].numpy()
    first = round(validation * len(units))
    second = first + round(reference * len(units))
    roles = np.full(len(unit_of), ROLES[0], dtype="<U10")
    roles[np.isin(unit_of, units[order[:first]])] = "validation"
    roles[np.isin(unit_of, units[order[first:second]])] = "reference"
    return roles


def split_rows(
    task: Task, reference: float, views: Sequence[PrivateView], draws: Draws
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Rows to fit on, to validate on and for reference, int64 [M, ...] each; no unit is cut.

    Args:
        task: as the defence has configured it.
        reference: share of the units that is set aside as reference data.
        views: the training set of each model.
        draws: streams of the models.

    Raises:
        UnsupportedModel: if the models of a stack would have training sets of different sizes.
        SfumatoError: if a part that is needed would be empty.
    """
    found: dict[str, list[np.ndarray]] = {role: [] for role in ROLES}
    for view, seed in zip(views, draws.seeds, strict=True):
        roles = _roles(task.validation_fraction, reference, view.units, Draws((seed,), draws.path))
        for role, rows in found.items():
            rows.append(view.rows[roles == role])
    if any(len({len(rows) for rows in parts}) != 1 for parts in found.values()):
        raise UnsupportedModel(
            f"Expected training sets of one size in a stack, got {sorted({len(rows) for rows in found['fit']})} "
            "records.",
            remedy="These models are trained one by one instead.",
        )
    least = {role: len(parts[0]) for role, parts in found.items()}
    short = least["fit"] == 0 or (task.patience is not None and least["validation"] == 0)
    if short or (reference > 0 and least["reference"] == 0):
        raise SfumatoError(
            f"Expected at least one unit to train on, one to validate on for early stopping, and one for reference "
            f"where a defence needs such, got {len(views[0])} records in all.",
            remedy="Use more records, or other values of `validation_fraction` and `reference_fraction`.",
        )
    fit, validation, aside = (torch.from_numpy(np.stack(found[role])) for role in ROLES)
    return fit, validation, aside
