"""Batch or group normalisation, by name."""

from __future__ import annotations

from torch import nn

NORMS = ("batch", "group")


def groups_of(channels: int) -> int:
    """Groups for `channels` channels: the largest of 16, 8, 4, 2 that divides them and leaves 4 or more in each, or 1.

    De et al. (2022) use 16 groups throughout; with 16 or 32 channels that would normalise single channels or pairs.
    """
    fitting = [groups for groups in (16, 8, 4, 2) if channels % groups == 0 and channels // groups >= 4]
    return fitting[0] if fitting else 1


def normalisation(norm: str, channels: int) -> nn.Module:
    """A fresh layer over `channels`: "batch" (couples the records of a batch while training) or "group" (does not)."""
    return nn.BatchNorm2d(channels) if norm == "batch" else nn.GroupNorm(groups_of(channels), channels)
