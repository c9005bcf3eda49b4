"""Opacus's four modes, through its public engine."""

from __future__ import annotations

import warnings

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from rivals.networks import Batch
from rivals.plain import Settings, Step


def opacus_step(model: nn.Module, batch: Batch, settings: Settings, mode: str) -> Step:
    """The step of a training loop as Opacus's documentation writes it, on a batch that is already drawn.

    Args:
        mode: "hooks", "functorch", "ew" (ExpandedWeights) or "ghost".
    """
    from opacus import PrivacyEngine

    warnings.filterwarnings("ignore")  # of its noise (not cryptographic) and of its hooks, at every step
    size = len(batch.y)
    loader = DataLoader(TensorDataset(batch.x, batch.y), batch_size=size)
    made = PrivacyEngine().make_private(
        module=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=settings.lr),
        criterion=nn.CrossEntropyLoss(),
        data_loader=loader,
        noise_multiplier=settings.noise_multiplier,
        max_grad_norm=settings.max_grad_norm,
        poisson_sampling=False,
        grad_sample_mode=mode,
    )
    private, optimizer = made[0], made[1]
    criterion = made[2] if mode == "ghost" else nn.CrossEntropyLoss()

    def step() -> None:
        optimizer.zero_grad()
        criterion(private(batch.x), batch.y).backward()
        optimizer.step()

    return step
