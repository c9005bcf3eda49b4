"""Frozen batch normalisation: constants per channel, then a scale and a shift. In training it is refused."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from sfumato.errors import NotPrivateError, UnsupportedModel
from sfumato.private.rules.affine import SCALE, SHIFT, Normalised, affine_terms, refuse_computed
from sfumato.private.rules.base import Call, Function, Outcome, Rule
from sfumato.private.rules.group_norm import Statistics, folded


class BatchNorm(Rule):
    """`batch_norm` of `torch.nn.functional`."""

    name = "batch-norm"
    signature = ("input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps")

    @classmethod
    def functions(cls) -> tuple[Function, ...]:
        return (F.batch_norm,)

    def apply(self, call: Call) -> Outcome:
        if call.get("training", False):
            raise NotPrivateError(
                "Expected every layer to keep examples apart, got batch normalisation in training mode.",
                remedy="Replace it by GroupNorm (`sfumato doctor --fix`), or freeze it with `.eval()`.",
            )
        return normalised_by_constants(call)


class BatchNormOfTorch(BatchNorm):
    """`torch.batch_norm`: the same with its arguments in another order."""

    name = "batch-norm-of-torch"
    signature = (
        "input", "weight", "bias", "running_mean", "running_var", "training", "momentum", "eps", "cudnn_enabled"
    )  # fmt: skip

    @classmethod
    def functions(cls) -> tuple[Function, ...]:
        return (torch.batch_norm,)


def normalised_by_constants(call: Call) -> Outcome:
    """Run a normalisation of [rows, channels, ...] by running statistics that nothing changes."""
    refuse_computed(call)
    output = call.run()
    if call.layout.axis != 0:
        raise UnsupportedModel(
            f"Expected the rows of the batch in front of {call.function.__name__}, got axis {call.layout.axis}.",
            remedy="Keep the batch axis in front of normalisation layers.",
        )
    rstd = torch.rsqrt(call.bound["running_var"].detach() + call.get("eps", 1e-5))
    return Outcome(
        output, affine_terms(call, ByConstants(call.rows_of("input"), call.bound["running_mean"].detach(), rstd))
    )


class ByConstants(Normalised):
    """What was normalised by one mean and spread per channel.

    Args:
        seen: [rows, channels, ...].
        mean: [channels].
        rstd: one over the standard deviation, [channels].
    """

    def __init__(self, seen: torch.Tensor, mean: torch.Tensor, rstd: torch.Tensor) -> None:
        super().__init__(seen)
        self.mean, self.rstd = mean, rstd

    def found(self, grad: torch.Tensor) -> dict[str, torch.Tensor]:
        each = Statistics(*(part.expand(len(grad), -1) for part in (self.mean, self.rstd)))
        gradients = folded(self.seen, grad, each, None)
        return {SCALE: gradients.scale, SHIFT: gradients.shift}
