"""The Wisconsin diagnostic breast cancer set that comes with scikit-learn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from sklearn.datasets import load_breast_cancer

from sfumato.data.population import Population, Unit
from sfumato.data.records import ArrayRecords
from sfumato.data.sources.base import Source


@dataclass(frozen=True)
class BreastCancer(Source):
    """569 tumours, 30 measurements of cell nuclei each, malignant or benign (Street, Wolberg, Mangasarian, 1993).

    scikit-learn's copy has no patient number, so the unit of privacy is the example.
    """

    name: ClassVar[str] = "breast-cancer"
    summary: ClassVar[str] = "569 tumours with 30 measurements, malignant or benign; bundled with scikit-learn."

    def load(self) -> Population:
        bunch: Any = load_breast_cancer()
        return Population(
            ArrayRecords(bunch.data.astype(np.float32)),
            Unit("example"),
            labels=bunch.target,
            class_names=tuple(map(str, bunch.target_names)),
            name="breast-cancer",
        )
