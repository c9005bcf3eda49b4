"""p(x), the probability of a record's label over models, from reference models. In logarithms throughout."""

from __future__ import annotations

import numpy as np
from scipy.stats import rankdata

from sfumato.errors import NotApplicable
from sfumato.types import Bools, Floats

FALLBACK_A = 0.3
GRID = tuple(step / 10 for step in range(11))


def log_mean(log_p: Floats, chosen: Bools, trim: float = 0.0) -> Floats:
    """log of the (trimmed) mean of p over the chosen references.

    Args:
        log_p: [r, n, variants], finite.
        chosen: bool [r, n], at least one per record.
        trim: share of the chosen dropped at each end, rounded down, in [0, 0.5).

    Returns:
        float64 [n, variants].
    """
    count = chosen.sum(axis=0)
    if (count == 0).any():
        raise NotApplicable(
            f"Expected a reference of each kind for every record, got none for {int((count == 0).sum())} records.",
            remedy="Train more shadow models, or choose an offline attack.",
        )
    masked = np.where(chosen[..., None], log_p, -np.inf)
    dropped = np.floor(trim * count).astype(int)
    if dropped.any():
        masked = np.sort(masked, axis=0)[::-1]
        rank = np.arange(len(masked))[:, None]
        masked = np.where(((rank >= dropped) & (rank < count - dropped))[..., None], masked, -np.inf)
    highest = masked.max(axis=0)
    return highest + np.log(np.exp(masked - highest).sum(axis=0) / (count - 2 * dropped)[:, None])


def log_mean_of_worlds(log_p: Floats, membership: Bools, trim: float = 0.0) -> Floats:
    """log of (mean IN + mean OUT)/2, so that the numbers of references say nothing; [n, variants]."""
    return np.logaddexp(log_mean(log_p, membership, trim), log_mean(log_p, ~membership, trim)) - np.log(2)


def log_marginal_from_outside(log_p_out: Floats, a: float) -> Floats:
    """log of ((1 + a) p_out + 1 - a)/2, which stands in for p(x) without IN references. Appendix B, arXiv 2312.03262.

    It takes p_in to be a p_out + 1 - a.
    """
    rest = np.log(1 - a) if a < 1 else -np.inf
    return np.logaddexp(np.log(1 + a) + log_p_out, rest) - np.log(2)


def choose_a(log_p: Floats, membership: Bools, targets: int = 2) -> float:
    """`a` without knowing the target's members: play the game on references, whose members are known.

    Each of the first `targets` references is attacked offline by the others, its complement left out, and the `a` in
    0, 0.1, ..., 1 of highest mean AUC is taken (the smallest among equals). Rule of the RMIA authors' toolkit.

    Args:
        log_p: [r, n, variants].
        membership: bool [r, n].

    Returns:
        `a` in [0, 1]; 0.3, the paper's value on CIFAR-10, where no reference can be attacked so.
    """
    totals = np.zeros(len(GRID))
    for target in range(min(targets, len(log_p))):
        others = ~(membership == ~membership[target]).all(axis=1)
        others[target] = False
        outside = others[:, None] & ~membership
        playable = outside.any(axis=0)
        members = membership[target, playable]
        if members.all() or not members.any():
            continue
        log_p_out = log_mean(log_p[:, playable], outside[:, playable])
        ratios = [log_p[target, playable] - log_marginal_from_outside(log_p_out, a) for a in GRID]
        totals += [_auc(ratio.mean(axis=1), members) for ratio in ratios]
    return GRID[int(np.argmax(totals))] if totals.any() else FALLBACK_A


def _auc(scores: Floats, members: Bools) -> float:
    ranks = rankdata(scores)
    positive = int(members.sum())
    return float((ranks[members].sum() - positive * (positive + 1) / 2) / (positive * (len(members) - positive)))
