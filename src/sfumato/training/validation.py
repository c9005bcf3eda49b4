"""The score on records set aside from each training set, by which a training may stop early."""

from __future__ import annotations

import torch

from sfumato.training.losses import task_loss
from sfumato.training.preparation import Prepared

EVALUATION_ROWS = 4096


def validation_losses(run: Prepared) -> list[float]:
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
