"""The digits set that comes with scikit-learn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from sklearn.datasets import load_digits

from sfumato.data.population import Population, Unit
from sfumato.data.records import ArrayRecords
from sfumato.data.sources.base import Source


@dataclass(frozen=True)
class Digits(Source):
    """1,797 handwritten digits of 8x8 pixels with values 0 to 16, scaled to [0, 1] (E. Alpaydin and C. Kaynak, 1998).

    The set does not say who wrote which digit, so the unit of privacy is the example.

    Args:
        as_images: records of shape [1, 8, 8] instead of [64].
    """

    name: ClassVar[str] = "digits"
    summary: ClassVar[str] = "1,797 handwritten digits of 8x8 pixels, 10 classes; bundled with scikit-learn."
    as_images: bool = False

    def load(self) -> Population:
        bunch: Any = load_digits()
        values = (bunch.data / 16).astype(np.float32)
        return Population(
            ArrayRecords(values.reshape(-1, 1, 8, 8) if self.as_images else values),
            Unit("example"),
            labels=bunch.target,
            class_names=tuple(map(str, range(10))),
            name="digits",
            kind="image" if self.as_images else "table",
        )
