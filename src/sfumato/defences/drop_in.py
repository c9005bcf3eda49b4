"""What the defences share that put solvers, or noise, into the residual blocks of whatever network the recipe has."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from sfumato.accounting.mechanisms.base import Mechanism
from sfumato.errors import NotPrivateError, UsageError
from sfumato.models.head import head_name
from sfumato.private.plan import Plan
from sfumato.sde.block import Schedule, SDEBlock
from sfumato.sde.finding.observing import made_up
from sfumato.sde.replace import replace
from sfumato.sde.streams import StreamLayer
from sfumato.training.defence import Defence
from sfumato.validate import one_of

FINETUNE = ("all", "block-and-head")


@dataclass(frozen=True)
class GradientStop:
    """A hook before a layer: from a share of the training on, no gradient passes to what runs before.

    Args:
        start: the share, in [0, 1).
    """

    start: float

    def __call__(self, layer: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...] | None:
        """Detached inputs, or None to leave them."""
        if not isinstance(layer, StreamLayer) or layer.progress < self.start:
            return None
        return tuple(value.detach() if isinstance(value, torch.Tensor) else value for value in inputs)


@dataclass(frozen=True, kw_only=True)
class DropIn(Defence):
    """Residual blocks are swapped after the inner defence has prepared its network, given weights included.

    Args:
        where: "last-block", "last-stage", "all", or names of modules with commas between them.
        start: share of the training in which the network is the old one; what was learned until then stays.
        finetune: "all", or "block-and-head": from `start` on, what runs before the first swapped block stays as it is.
        convert_norm: whether batch normalisation becomes group normalisation.
    """

    where: str = "all"
    start: float = 0.0
    finetune: str = "all"
    convert_norm: bool = True

    def __post_init__(self) -> None:
        one_of("finetune", self.finetune, FINETUNE)
        if not self.where.strip():
            raise UsageError("Expected `where` to name blocks, got nothing.", remedy='Use "all".')
        self.schedule()

    @abstractmethod
    def solver(self) -> dict[str, Any]:
        """What stands in place of a block: arguments of `sde.replace` besides those of all such defences."""

    def schedule(self) -> Schedule:
        """Of steps and noise while training."""
        return Schedule(start=self.start)

    def prepare(self, model: nn.Module) -> nn.Module:
        return self._prepared(model, made_up(model))

    def prepare_for(self, model: nn.Module, shape: tuple[int, ...]) -> nn.Module:
        return self._prepared(model, made_up(model, shape))

    def stages(self, plan: Plan) -> tuple[Mechanism, ...]:
        if self.start > 0 and self.finetune != "all":
            raise NotPrivateError(
                f"Expected the same layers to be trained from beginning to end under a private update, got {self.name} "
                f"with start={self.start} and finetune={self.finetune!r}: noise would move what shall stay.",
                remedy='Use finetune="all", or start=0 with `inner=Pretrained(...)` for weights of public data.',
            )
        return ()

    def _prepared(self, model: nn.Module, example: torch.Tensor) -> nn.Module:
        done = replace(
            model,
            self.where,
            example=example,
            schedule=self.schedule(),
            convert_norm=self.convert_norm,
            **self.solver(),
        )
        if self.finetune == "all":
            return done.model
        blocks = done.blocks()
        blocks[0].register_forward_pre_hook(GradientStop(self.start))
        if self.start == 0:
            _freeze_before(blocks, done.model, example)
        return done.model


def _freeze_before(blocks: Sequence[SDEBlock], model: nn.Module, example: torch.Tensor) -> None:
    """Parameters that run before the first block and nowhere behind it ask for no gradient."""
    kept = [*blocks, model.get_submodule(head_name(model))]
    used = {id(parameter) for part in kept for parameter in part.parameters()}
    used |= {id(parameter) for parameter in _behind(model, example)}
    for parameter in model.parameters():
        parameter.requires_grad_(parameter.requires_grad and id(parameter) in used)


def _behind(model: nn.Module, example: torch.Tensor) -> Sequence[nn.Parameter]:
    """Parameters that the gradient reaches from the output, once it stops at the first block."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    modes = [(part, part.training) for part in model.modules()]
    model.eval()
    with torch.random.fork_rng(devices=[]):
        found = torch.autograd.grad(model(example).sum(), parameters, allow_unused=True)
    for part, mode in modes:
        part.training = mode
    return [parameter for parameter, gradient in zip(parameters, found, strict=True) if gradient is not None]
