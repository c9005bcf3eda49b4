"""What the choice of a hyper-parameter looked at, in the form the record keeps. Counts only."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from sfumato.audit.measured import Value


class Trial(Value):
    """One setting that was trained. Losses are mean cross-entropies on the fitted and the validation records.

    `within` says whether its validation accuracy is near enough to that of the undefended model.
    """

    settings: dict[str, Any]
    validation_accuracy: float
    fitted_loss: float
    validation_loss: float
    gap: float
    within: bool


class TuningSummary(Value):
    """How the hyper-parameters of one subject were chosen.

    `fitted_units` and `validation_units` are units that no model of the comparison has in its game: ordinary records
    that are in every training set. `grid_size` counts all settings, `unsuited` those that the method itself refuses.
    `held` names fields that were left alone because they tell the contenders apart.
    """

    subject: str
    method: str
    criterion: str
    tolerance: float
    fitted_units: int
    validation_units: int
    undefended_accuracy: float
    grid: dict[str, list[Any]]
    grid_size: int
    trials: list[Trial]
    chosen: dict[str, Any]
    unsuited: int = 0
    held: list[str] = Field(default_factory=list)
    note: str = ""
