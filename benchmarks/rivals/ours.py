"""The step of `sfumato.private`, as it is shipped."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from rivals.networks import Batch
from rivals.plain import Settings, Step
from sfumato.accounting.adjacency import Adjacency
from sfumato.private.clipping.flat import Flat
from sfumato.private.plan import Plan
from sfumato.private.session import Session, make

RATE = 0.01
NEARLY_NONE = 1e-9  # A plan has no "without noise"; this much cannot be seen in float32.


def losses(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """One loss per row, [rows]."""
    return F.cross_entropy(model(x), y, reduction="none")


def plan_for(size: int, sample_rate: float, settings: Settings) -> Plan:
    """Public numbers for batches of `size` rows on average."""
    return Plan(
        sample_rate=sample_rate,
        steps=1_000_000,
        expected_batch_size=size,
        noise_multiplier=settings.noise_multiplier or NEARLY_NONE,
        delta=1e-5,
        adjacency=Adjacency.ADD_OR_REMOVE_ONE,
        clipping=Flat(max_grad_norm=settings.max_grad_norm),
    )


def sfumato_step(model: nn.Module, batch: Batch, settings: Settings) -> Step:
    """Our session's step: noise from the operating system's key, every check on, flat clipping.

    The batch is full, as the rivals' is: at sample rate 1 every row is drawn, in every step. Drawing the rows and
    taking them out of the data is inside the step.
    """
    size = len(batch.y)
    plan = plan_for(size, 1.0, settings)
    session = make(model, plan=plan, data=(batch.x, batch.y), loss=losses)
    return _step(session, model, settings)


def poisson_step(model: nn.Module, batch: Batch, settings: Settings) -> Step:
    """The same with Poisson draws of `size` rows on average, in the session's own physical batches, as in a release."""
    size = len(batch.y)
    plan = plan_for(size, RATE, settings)
    session = make(model, plan=plan, data=Repeated(batch, round(size / RATE)), loss=losses)
    return _step(session, model, settings)


@dataclass(frozen=True)
class Repeated:
    """`records` records: those of the batch, again and again."""

    batch: Batch
    records: int

    def __len__(self) -> int:
        return self.records

    def __call__(self, rows: torch.Tensor) -> Batch:
        return Batch(*(tensor.index_select(0, rows.to(tensor.device) % len(tensor)) for tensor in self.batch))


def _step(session: Session, model: nn.Module, settings: Settings) -> Step:
    optimizer = torch.optim.SGD(model.parameters(), lr=settings.lr)
    steps = session.steps()

    def step() -> None:
        next(steps)
        session.backward()
        optimizer.step()
        if session.why_loop:
            raise RuntimeError(f"Expected one pass, got the loop of single examples: {session.why_loop}")

    return step
