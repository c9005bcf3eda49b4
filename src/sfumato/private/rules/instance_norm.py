"""Instance normalisation: group normalisation with one channel per group, or frozen statistics."""

from __future__ import annotations

from math import prod

import torch
import torch.nn.functional as F

from sfumato.errors import NotPrivateError
from sfumato.private.rules.base import Call, Function, Outcome, Rule
from sfumato.private.rules.batch_norm import normalised_by_constants
from sfumato.private.rules.group_norm import normalised_in_groups


class InstanceNorm(Rule):
    """`instance_norm` of `torch.nn.functional`."""

    name = "instance-norm"
    signature = ("input", "running_mean", "running_var", "weight", "bias", "use_input_stats", "momentum", "eps")

    @classmethod
    def functions(cls) -> tuple[Function, ...]:
        return (F.instance_norm,)

    def apply(self, call: Call) -> Outcome:
        if not call.get("use_input_stats", True):
            return normalised_by_constants(call)
        if call.get("running_mean") is not None:
            raise NotPrivateError(
                "Expected instance normalisation to keep no running statistics in training, got a layer that writes "
                "them: they would carry examples into the released state without noise.",
                remedy="Pass `track_running_stats=False`, or freeze the layer with `.eval()`.",
            )
        seen = call.bound["input"]
        if prod(seen.shape[2:]) < 2:
            call.run()  # torch refuses it, and says why
        return normalised_in_groups(call, seen.shape[1])


class InstanceNormOfTorch(InstanceNorm):
    """`torch.instance_norm`: the same with its arguments in another order."""

    name = "instance-norm-of-torch"
    signature = (
        "input", "weight", "bias", "running_mean", "running_var", "use_input_stats", "momentum", "eps", "cudnn_enabled"
    )  # fmt: skip

    @classmethod
    def functions(cls) -> tuple[Function, ...]:
        return (torch.instance_norm,)
