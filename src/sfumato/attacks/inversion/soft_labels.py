"""What a target says of public records: its probabilities, asked once for each."""

from __future__ import annotations

import torch

from sfumato.targets.oracle import CHUNK, Oracle


def soft_labels(oracle: Oracle, x: torch.Tensor) -> torch.Tensor:
    """Probabilities float32 [n, classes] for records x [n, *shape], without a gradient.

    Whoever has the weights runs the network itself, without noise and guards; whoever has not gets the scores that a
    user gets.
    """
    if not oracle.differentiable:
        return oracle.scores(x).exp()
    with torch.no_grad():
        parts = [oracle.logits(x[first : first + CHUNK]) for first in range(0, len(x), CHUNK)]
    return torch.cat(parts).float().softmax(dim=1)
