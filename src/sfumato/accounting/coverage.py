"""Which ways of drawing batches no accountant here covers, and why."""

from __future__ import annotations

from sfumato.errors import NotPrivateError

UNCOVERED = {
    "shuffle": (
        "batches cut from a shuffled order are not Poisson samples: audits measured up to 4 times the epsilon that "
        "Poisson accounting states for them, and up to 10 times for common variants (arXiv 2411.10614)"
    ),
    "fixed-size": (
        "batches of a fixed size drawn without replacement can cost more than 10 times the epsilon of Poisson batches "
        "with the same numbers (arXiv 2405.20769)"
    ),
    "sequential": "batches in a fixed order are not random, so nothing is gained by sampling (jax-privacy issue 84)",
    "weighted": "with weights the rate of a unit is its own, not the one that is accounted for (Opacus issue 600)",
}


def refuse_uncovered(sampler: str) -> None:
    """Refuse a sampler that no accountant covers, by name and with the reason.

    Raises:
        NotPrivateError: if `sampler` is listed in `UNCOVERED`.
    """
    if sampler in UNCOVERED:
        raise NotPrivateError(
            f"Expected a sampler that an accountant covers, got {sampler!r}: {UNCOVERED[sampler]}.",
            remedy="Use Poisson sampling, or truncated Poisson sampling where batches must not exceed a size.",
        )
