"""Every way to take the step, by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from torch import nn

from rivals.fastdp import fastdp_step
from rivals.networks import Batch, written_out
from rivals.opacus_modes import opacus_step
from rivals.plain import Settings, Step, one_by_one_step, plain_step
from rivals.vmapped import vmap_step


def as_it_is(model: nn.Module) -> nn.Module:
    """The model unchanged."""
    return model


@dataclass(frozen=True)
class Way:
    """How a step is prepared: `prepare` gives a function that takes one step on the batch.

    Args:
        adapt: what the model must become first; it computes the same function afterwards.
        draws: whether each step draws another batch, so that there is nothing to compare its release with.
    """

    prepare: Callable[[nn.Module, Batch, Settings], Step]
    adapt: Callable[[nn.Module], nn.Module] = as_it_is
    draws: bool = False


def ours(model: nn.Module, batch: Batch, settings: Settings, *, poisson: bool = False) -> Step:
    """Our step; imported only here, so that no rival's process pays for it."""
    from rivals.ours import poisson_step, sfumato_step

    return (poisson_step if poisson else sfumato_step)(model, batch, settings)


WAYS: dict[str, Way] = {
    "plain": Way(plain_step),
    "sfumato": Way(ours),
    "sfumato_poisson": Way(partial(ours, poisson=True), draws=True),
    "opacus_hooks": Way(partial(opacus_step, mode="hooks"), written_out),
    "opacus_functorch": Way(partial(opacus_step, mode="functorch"), written_out),
    "opacus_ew": Way(partial(opacus_step, mode="ew"), written_out),
    "opacus_ghost": Way(partial(opacus_step, mode="ghost"), written_out),
    "vmap": Way(vmap_step, written_out),
    "vmap_8": Way(partial(vmap_step, chunk=8), written_out),
    "one_by_one": Way(one_by_one_step),
    "fastdp": Way(fastdp_step, written_out),
}
