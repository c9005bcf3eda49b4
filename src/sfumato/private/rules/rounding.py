"""Squared norms from Gram matrices, never below the truth because of rounding."""

from __future__ import annotations

import torch

SLACK = 8.0


def gram_norms(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """The sum of the elementwise product of two Gram matrices, raised by what rounding may have taken away.

    The sum is the squared norm of a product, where large terms may cancel; its rounding error is a small multiple of
    the machine precision times the product of the two traces, which bounds the sum of the absolute terms. Adding it
    keeps the result an upper bound, so that no cancelling example slips through the clip bound.

    Args:
        first: [units, n, n], positive semidefinite.
        second: the same.

    Returns:
        [units].
    """
    exact = torch.linalg.vecdot(first.flatten(1), second.flatten(1))
    traces = first.diagonal(dim1=1, dim2=2).sum(1) * second.diagonal(dim1=1, dim2=2).sum(1)
    return exact.clamp_(min=0).add_(traces, alpha=SLACK * torch.finfo(exact.dtype).eps)
