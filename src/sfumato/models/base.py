"""What a model family is: a frozen configuration that can build a fresh network for any record shape."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from torch import nn


@dataclass(frozen=True, kw_only=True)
class ModelFamily(ABC):
    """A kind of network. Fields are its hyper-parameters, so that it can be written down and hashed."""

    name: ClassVar[str] = ""
    family: ClassVar[str] = "model"
    reference: ClassVar[str] = ""
    bibtex: ClassVar[str] = ""

    @abstractmethod
    def build(self, shape: tuple[int, ...], outputs: int) -> nn.Module:
        """A freshly initialised network, using torch's global generator (the caller seeds it).

        Args:
            shape: of one record: (features,) or (channels, height, width).
            outputs: number of logits, 1 for the one-logit binary head.

        Returns:
            A module from float [batch, *shape] to logits [batch, outputs] that treats records independently in eval
            mode, given their random numbers, and whose random layers are `nn.Dropout` modules or `StreamLayer`s (never
            functional calls), so that every executor can give them the same draws.

        Raises:
            UnsupportedModel: if the family cannot take records of this shape.
        """
