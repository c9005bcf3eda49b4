"""How a stage of a course runs: a training as the task says, or epochs of the course's own making."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import nn

from sfumato.errors import UsageError
from sfumato.private.plan import Plan
from sfumato.sde.streams import set_noise, set_progress
from sfumato.training.draws import Draws
from sfumato.training.loop import Hooks, Training
from sfumato.training.preparation import Epoch, LoopOptions, Prepared
from sfumato.training.private_loop import PrivateTraining
from sfumato.training.seen import Tally
from sfumato.training.stages import Finished
from sfumato.training.steps import put_back, refuse_infinite, tensors_of
from sfumato.training.trained import Trained

NETWORK = "network"  # the name of what a stage is for, among all that the stage keeps

Kept = Mapping[str, nn.Module | torch.optim.Optimizer]


def with_network(network: nn.Module, kept: Kept) -> Kept:
    """What a stage keeps, its network included."""
    if NETWORK in kept:
        raise UsageError(
            f"Expected other names than {NETWORK!r} for what a stage keeps beside its network, got that one.",
            remedy="Name it after what it is.",
        )
    return {**kept, NETWORK: network}


def answering(network: nn.Module, draws: Draws) -> nn.Module:
    """The network as it answers once its training is over.

    Layers that draw when asked do so from `draws`, whether or not the stage was run in this process.
    """
    set_noise(network, draws)
    set_progress(network, 1.0)
    return network.eval()


def fitted(run: Prepared, hooks: Hooks, plan: Plan | None, options: LoopOptions, kept: Kept) -> Finished:
    """Train the network of `run` in place, by ordinary steps or by those of a plan."""
    trained: Trained
    if plan is None:
        trained = Training(run, options, hooks).finish()[0]
    else:
        trained = PrivateTraining(run, plan, options).finish()
    run.stack.load([trained.state or {}])
    return Finished(_copied(tensors_of(kept)), trained.epochs, trained.tallies)


def looped(kept: Kept, tally: Tally, epochs: int, epoch: Callable[[int], float], options: LoopOptions) -> Finished:
    """Run epochs, from the checkpoint if there is one.

    Args:
        kept: as `with_network` gives it.
        tally: counts branches.
        epochs: how many.
        epoch: runs one of them, counted from 0, and returns its mean loss.
        options: of the stage.
    """
    network, checkpoint = kept[NETWORK], options.checkpoint
    assert isinstance(network, nn.Module)  # as `with_network` put it there
    saved = None if checkpoint is None else checkpoint.load()
    if saved is not None:
        put_back(kept, saved.tensors)
        tally.steps = {k.removeprefix("tally."): v for k, v in saved.tensors.items() if k.startswith("tally.")}
    for done in range(0 if saved is None else int(saved.numbers["epoch"][0]), epochs):
        network.train()
        loss = epoch(done)
        refuse_infinite(loss, done)
        if checkpoint is not None and done + 1 < epochs:
            counts = {f"tally.{branch}": steps for branch, steps in tally.steps.items()}
            checkpoint.save(tensors_of(kept) | counts, {"epoch": [done + 1]})
        if options.on_epoch is not None:
            options.on_epoch(Epoch(done + 1, epochs, 1, loss, 0.0))
    return Finished(_copied(tensors_of(kept)), epochs, tally.of(0))


def _copied(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in tensors.items()}
