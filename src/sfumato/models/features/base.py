"""What a fixed feature map is: a frozen configuration that turns records into features, each record by itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch


@dataclass(frozen=True, kw_only=True)
class Features(ABC):
    """A public function of one record. It reads no other record and is fitted to nothing, so it costs no privacy.

    Fields are its numbers, so that it can be written down and hashed; the hash names stored features.
    """

    name: ClassVar[str] = ""
    family: ClassVar[str] = "features"
    reference: ClassVar[str] = ""
    bibtex: ClassVar[str] = ""

    @property
    def kept_as(self) -> np.dtype | None:
        """The type of number that holds the features without loss, for a map worth storing; None for a cheap one."""
        return None

    @abstractmethod
    def shape(self, record: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of the features of a record of shape `record`.

        Raises:
            UnsupportedModel: if the map cannot take such records.
        """

    @abstractmethod
    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """The features of some records; what comes out for one depends on that one alone.

        Args:
            x: float [n, *record], n may be 0.

        Returns:
            float32 [n, *shape(record)], without a gradient.
        """


def stored_and_rest(features: Features) -> tuple[Features | None, Features | None]:
    """A map as the part that is worth storing and the cheap part after it; None for a part that does nothing."""
    from sfumato.models.features.chain import Chain

    if not isinstance(features, Chain):
        return (None, features) if features.kept_as is None else (features, None)
    costly = [index for index, part in enumerate(features.maps) if part.kept_as is not None]
    cut = costly[-1] + 1 if costly else 0
    return features.part(0, cut), features.part(cut, len(features.maps))
