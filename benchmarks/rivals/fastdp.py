"""FastDP (book-keeping), from a checkout that the caller has."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from rivals.networks import Batch
from rivals.plain import Settings, Step


def fastdp_step(model: nn.Module, batch: Batch, settings: Settings) -> Step:
    """The step with FastDP's "MixOpt", all layers clipped together by Abadi's rule."""
    if settings.fastdp is None or not (Path(settings.fastdp) / "fastDP").is_dir():
        raise FileNotFoundError(
            f"Expected a folder that holds `fastDP/`, got {settings.fastdp!r}. Give it by --fastdp."
        )
    sys.path.insert(0, settings.fastdp)
    with contextlib.redirect_stdout(sys.stderr):  # it prints
        from fastDP import PrivacyEngine  # pyright: ignore

        engine = PrivacyEngine(
            model,
            batch_size=len(batch.y),
            sample_size=100 * len(batch.y),
            epochs=1,
            noise_multiplier=settings.noise_multiplier,
            max_grad_norm=settings.max_grad_norm,
            clipping_mode="MixOpt",
            clipping_fn="Abadi",
            clipping_style="all-layer",
        )
        optimizer = torch.optim.SGD(model.parameters(), lr=settings.lr)
        engine.attach(optimizer)

    def step() -> None:
        F.cross_entropy(model(batch.x), batch.y).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step
