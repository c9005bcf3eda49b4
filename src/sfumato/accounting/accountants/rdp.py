"""Renyi differential privacy through dp-accounting: a cross-check, some percent above PLD."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
from dp_accounting import ComposedDpEvent
from dp_accounting.rdp import RdpAccountant
from dp_accounting.rdp.rdp_privacy_accountant import DEFAULT_RDP_ORDERS, compute_epsilon

from sfumato.accounting.accountants.base import Accountant
from sfumato.accounting.mechanisms.base import Mechanism
from sfumato.types import Floats

_ORDERS = sorted({*DEFAULT_RDP_ORDERS, 1.02, 1.05, 4096.0, 16384.0})


class Divergences(NamedTuple):
    """Renyi divergences at their orders, the usable ones only."""

    orders: Floats
    values: Floats


@dataclass(frozen=True)
class RDP(Accountant):
    """Renyi divergences (Mironov 2017), converted by Canonne, Kamath, Steinke 2020, Proposition 12."""

    name: ClassVar[str] = "rdp"
    words: ClassVar[str] = "Renyi differential privacy (RDP), improved conversion"

    def _epsilon(self, mechanisms: Sequence[Mechanism], delta: float) -> float:
        found = divergences(mechanisms)
        return (
            float(compute_epsilon(found.orders.tolist(), found.values.tolist(), delta)[0])
            if len(found.orders)
            else math.inf
        )

    def why_not(self, mechanism: Mechanism) -> str | None:
        if mechanism.renyi_event() is not None:
            return None
        return f"RDP has no bound for {mechanism.sampler} under {mechanism.adjacency}"


def divergences(mechanisms: Sequence[Mechanism]) -> Divergences:
    """The divergences of all mechanisms together; an order at which rounding made one negative or NaN is left out."""
    events = [event for mechanism in mechanisms if (event := mechanism.renyi_event()) is not None]
    accountant = RdpAccountant(_ORDERS)
    with np.errstate(all="ignore"), _unlogged():
        accountant.compose(ComposedDpEvent(events))
    usable = np.isfinite(accountant.rdp) & (accountant.rdp >= 0)
    return Divergences(accountant.orders[usable], accountant.rdp[usable])


@contextmanager
def _unlogged() -> Iterator[None]:
    # dp-accounting logs each order that it leaves out; leaving orders out costs tightness, not truth
    logger = logging.getLogger("absl")
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before
