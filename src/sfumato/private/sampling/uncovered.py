"""Ways to form batches that are refused by name, because the accounting here does not hold for them."""

from __future__ import annotations

from types import MappingProxyType
from typing import NoReturn

from sfumato.errors import NotPrivateError, UsageError

SHUFFLE = (
    "shuffled batches leak more than Poisson ones: attacks on real trainings measured up to 4 times the epsilon that "
    "Poisson accounting states, and up to 10 times for common variants (arXiv 2411.10614, 2403.17673)"
)
WITHOUT_REPLACEMENT = (
    "with a fixed batch size, drawn without replacement, parameters that give an epsilon of about 1 under Poisson "
    "sampling can give more than 10 (arXiv 2405.20769)"
)
FIXED = (
    "batches in a fixed order are not sampled at all, so nothing is gained from subsampling, and Poisson accounting "
    "states far too small an epsilon"
)
WEIGHTED = (
    "with weights, each unit has a rate of its own, and those with the largest are protected less than one sample rate "
    "says"
)
NEEDS_OWN = "this order has an accounting of its own (Monte Carlo or allocation bounds), which is not built here"
UNCOVERED = MappingProxyType(
    {
        "shuffle": SHUFFLE,
        "shuffle-once": SHUFFLE,
        "fixed-size": WITHOUT_REPLACEMENT,
        "fixed-size-without-replacement": WITHOUT_REPLACEMENT,
        "fixed-size-with-replacement": WITHOUT_REPLACEMENT,
        "sequential": FIXED,
        "cyclic": FIXED,
        "weighted": WEIGHTED,
        "balanced": WEIGHTED,
        "balls-in-bins": NEEDS_OWN,
        "random-allocation": NEEDS_OWN,
        "b-min-sep": NEEDS_OWN,
    }
)


def refuse_uncovered(name: str) -> NoReturn:
    """Refuse the sampler called `name`.

    Raises:
        NotPrivateError: with the reason, for a sampler that is known and not covered.
        UsageError: for a name that is not known.
    """
    spelled = name.strip().lower().replace("_", "-").replace(" ", "-")
    if spelled in UNCOVERED:
        raise NotPrivateError(
            f"Expected a sampler that the accountants cover, got {name!r}: {UNCOVERED[spelled]}.",
            remedy="Use Poisson sampling, or truncated Poisson where batches must have a maximum size.",
        )
    raise UsageError(f"Expected the name of a sampler, got {name!r}.", remedy="Use 'poisson' or 'truncated-poisson'.")
