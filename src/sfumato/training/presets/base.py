"""What a preset is: a named learning task whose numbers the user may override."""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from sfumato.data.population import Population
from sfumato.errors import UsageError
from sfumato.models.base import ModelFamily
from sfumato.models.features.base import Features
from sfumato.registry import discover
from sfumato.training.task import Optimizer, Task


@dataclass(frozen=True, kw_only=True)
class Preset(ABC):
    """Ordinary training to convergence of one kind of network. All fields may be overridden; see `Task` for them.

    Attributes:
        name: what a user types.
        reference: citation key of the network.
        summary: one sentence for lists.
        kinds: kinds of population ("table", "image") that it suits.
        default_for: the kind that gets it where the user names none; "" for none.
    """

    name: ClassVar[str] = ""
    family: ClassVar[str] = "recipe"
    reference: ClassVar[str] = ""
    summary: ClassVar[str] = ""
    kinds: ClassVar[tuple[str, ...]] = ("table", "image")
    default_for: ClassVar[str] = ""

    epochs: int = 30
    batch_size: int = 32
    optimizer: str = "sgd"
    lr: float = 0.05
    momentum: float = 0.9
    weight_decay: float = 0.0
    nesterov: bool = False
    schedule: str = "cosine"
    augmentation: tuple[str, ...] = ()
    head: str = "multiclass"
    standardise: bool = True
    ema: float | None = None

    @abstractmethod
    def model(self) -> ModelFamily:
        """The network."""

    def features(self) -> Features | None:
        """A fixed map in front of the network; None for the records themselves."""
        return None

    def task(self, population: Population) -> Task:
        """The learning task for a population.

        Raises:
            UsageError: if the preset does not suit this kind of population, or an overridden number is out of range.
        """
        if population.kind not in self.kinds:
            raise UsageError(
                f"Expected a population of kind {' or '.join(self.kinds)} for the recipe {self.name!r}, got "
                f"{population.kind!r}.",
                remedy=f"Use the recipe {type(default_preset(population.kind)).name!r}, or another that suits.",
            )
        return Task(
            model=self.model(),
            optimizer=Optimizer(
                name=self.optimizer,
                lr=self.lr,
                momentum=self.momentum,
                weight_decay=self.weight_decay,
                nesterov=self.nesterov,
            ),
            epochs=self.epochs,
            batch_size=self.batch_size,
            schedule=self.schedule,
            augmentation=self.augmentation,
            head=self.head,
            standardise=self.standardise,
            features=self.features(),
            ema=self.ema,
        )


def presets() -> dict[str, type[Preset]]:
    """All presets by name."""
    return discover(importlib.import_module("sfumato.training.presets"), Preset)


def default_preset(kind: str) -> Preset:
    """The preset for a kind of population where the user names none."""
    for preset in presets().values():
        if preset.default_for == kind:
            return preset()
    raise UsageError(f"Expected a recipe for data of kind {kind!r}, got none.", remedy="Name one with `--recipe`.")
