"""Clipping: one file per method, found by discovery."""

from sfumato.private.clipping.adaptive_quantile import AdaptiveQuantile
from sfumato.private.clipping.automatic import Automatic
from sfumato.private.clipping.base import Clipping, ClippingState, finite_mask
from sfumato.private.clipping.flat import Flat
from sfumato.private.clipping.global_norm import Global
from sfumato.private.clipping.normalised import Normalised
from sfumato.private.clipping.per_layer import PerLayer

__all__ = [
    "AdaptiveQuantile",
    "Automatic",
    "Clipping",
    "ClippingState",
    "Flat",
    "Global",
    "Normalised",
    "PerLayer",
    "finite_mask",
]
