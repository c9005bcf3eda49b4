"""Layer normalisation: the kernel's own mean and spread are reused for every unit's scale and shift."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from sfumato.private.rules.affine import SCALE, SHIFT, Normalised, affine_terms, refuse_computed
from sfumato.private.rules.base import Call, Function, Outcome, Rule, rows_first


class LayerNorm(Rule):
    """`layer_norm(input, normalized_shape, weight, bias, eps)`."""

    name = "layer-norm"
    signature = ("input", "normalized_shape", "weight", "bias", "eps", "cudnn_enable")

    @classmethod
    def functions(cls) -> tuple[Function, ...]:
        return (F.layer_norm, torch.layer_norm)

    def apply(self, call: Call) -> Outcome:
        refuse_computed(call)
        seen, shape, eps = call.bound["input"], tuple(call.bound["normalized_shape"]), call.get("eps", 1e-5)
        if torch.is_autocast_enabled(seen.device.type):
            output = call.run()
            _, mean, rstd = torch.native_layer_norm(seen.detach().float(), shape, None, None, eps)
        else:
            output, mean, rstd = torch.native_layer_norm(seen, shape, call.get("weight"), call.get("bias"), eps)
            call.ran(output)
        mean, rstd = (rows_first(part.detach(), call.layout) for part in (mean, rstd))
        return Outcome(output, affine_terms(call, InFeatures(call.rows_of("input"), mean, rstd, len(shape))))


class InFeatures(Normalised):
    """A normalisation over the last axes.

    Args:
        seen: [rows, ..., *features].
        mean: [rows, ..., 1, ...].
        rstd: one over the standard deviation, of the same shape.
        axes: that are normalised.
    """

    def __init__(self, seen: torch.Tensor, mean: torch.Tensor, rstd: torch.Tensor, axes: int) -> None:
        super().__init__(seen)
        self.mean, self.rstd, self.axes = mean, rstd, axes

    def found(self, grad: torch.Tensor) -> dict[str, torch.Tensor]:
        rows, features = len(grad), grad.shape[grad.dim() - self.axes :]
        centred = (self.seen.to(grad.dtype) - self.mean.to(grad.dtype)).mul_(grad).view(rows, -1, features.numel())
        scale = torch.bmm(self.rstd.to(grad.dtype).reshape(rows, 1, -1), centred)
        shift = grad.reshape(rows, -1, features.numel()).sum(dim=1)
        return {SCALE: scale.view(rows, *features), SHIFT: shift.view(rows, *features)}
