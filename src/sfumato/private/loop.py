"""The loop of single examples: the reference, and the way for what one pass cannot follow.

Each unit of privacy runs alone, by ordinary autograd, so that nothing about the network has to be known. It costs one
small pass per unit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from sfumato.private.engine import Clipped, Factors, check_losses
from sfumato.private.refusals import Untouched

LossOf = Callable[[Sequence[torch.Tensor]], torch.Tensor]


@dataclass(eq=False)
class Loop:
    """Clipped sums over the private parameters of one network, unit by unit.

    Args:
        module: the user's own network; neither wrapped nor changed.
    """

    module: nn.Module

    @property
    def parameters(self) -> dict[str, torch.Tensor]:
        """The private parameters: all that ask for a gradient."""
        return {name: p for name, p in self.module.named_parameters() if p.requires_grad}

    def add(
        self,
        losses_on: LossOf,
        tensors: Sequence[torch.Tensor],
        weights: torch.Tensor,
        units: int,
        factors: Factors,
        sums: dict[str, torch.Tensor],
    ) -> Clipped:
        """Add the clipped gradients of a physical batch to `sums`; see `Engine.add`.

        Args:
            losses_on: tensors of some rows to one loss per row, [rows].
            tensors: of the batch, [rows, ...] each, unit after unit.
            weights: of each row in its unit's loss, [rows]; 0 for padding. Units of padding alone are not run.
            units: of privacy in the batch, each with rows / units rows.
            factors: squared norms [1, parameters] to multipliers of the same shape.
            sums: by parameter name, float32 or better.

        Raises:
            NotPrivateError: if a buffer or parameter was written to, or the losses are not one per row.
        """
        parameters, size = self.parameters, len(weights) // units
        untouched = Untouched(self.module, values=True)
        kind = torch.promote_types(_widest(parameters), torch.float32)
        squared = torch.zeros(units, len(parameters), dtype=kind, device=weights.device)
        total = torch.zeros((), dtype=kind, device=weights.device)
        for unit in range(units):
            rows = slice(unit * size, (unit + 1) * size)
            if not bool(weights[rows].any()):
                continue
            loss, gradients = self._gradients(losses_on, [tensor[rows] for tensor in tensors], weights[rows])
            total = total + loss
            for index, name in enumerate(parameters):
                if name in gradients:
                    squared[unit, index] = torch.linalg.vector_norm(gradients[name]).square()
            self._add(gradients, squared[unit : unit + 1], factors, sums)
        untouched.refuse_changes()
        return Clipped(squared, total)

    def _gradients(
        self, losses_on: LossOf, rows: Sequence[torch.Tensor], weights: torch.Tensor
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The loss of one unit, and its gradients by parameter; `backward`, because re-entrant parts need it."""
        parameters, untouched = self.parameters, Untouched(self.module)
        for parameter in parameters.values():
            parameter.grad = None
        values = losses_on(rows)
        check_losses(values, len(weights))
        loss = (values * weights.to(values.dtype)).sum()
        if loss.requires_grad:
            loss.backward()
        untouched.refuse_changes()
        found = {}
        for name, parameter in parameters.items():
            if parameter.grad is not None:
                wide = torch.promote_types(parameter.dtype, torch.float32)
                found[name] = parameter.grad.to(wide, copy=False).to_dense()
                parameter.grad = None
        return loss.detach(), found

    def _add(
        self,
        gradients: dict[str, torch.Tensor],
        squared: torch.Tensor,
        factors: Factors,
        sums: dict[str, torch.Tensor],
    ) -> None:
        if not bool(squared.isfinite().all()):
            return
        multipliers = factors(squared)[0]
        for index, name in enumerate(self.parameters):
            if name in gradients:
                part = gradients[name] * multipliers[index].to(gradients[name].dtype)
                sums[name] = sums[name].add_(part) if name in sums else part


def _widest(parameters: dict[str, torch.Tensor]) -> torch.dtype:
    found = torch.float32
    for parameter in parameters.values():
        found = torch.promote_types(found, parameter.dtype)
    return found
