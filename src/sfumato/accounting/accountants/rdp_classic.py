"""Renyi differential privacy with the classic conversion: what older libraries and papers print."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from sfumato.accounting.accountants.rdp import RDP, divergences
from sfumato.accounting.mechanisms.base import Mechanism


@dataclass(frozen=True)
class ClassicRDP(RDP):
    """Renyi divergences, converted by Mironov 2017, Proposition 3: the least rdp(a) + ln(1/delta)/(a-1) over a."""

    name: ClassVar[str] = "rdp_classic"
    words: ClassVar[str] = "Renyi differential privacy (RDP), classic conversion"

    def _epsilon(self, mechanisms: Sequence[Mechanism], delta: float) -> float:
        orders, values = divergences(mechanisms)
        return float(np.min(values - math.log(delta) / (orders - 1), initial=math.inf))
