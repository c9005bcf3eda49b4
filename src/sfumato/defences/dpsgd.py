"""DP-SGD."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import ClassVar

from sfumato.accounting.adjacency import Adjacency
from sfumato.accounting.mechanisms.base import Mechanism
from sfumato.data.population import Population
from sfumato.errors import UsageError
from sfumato.private.citations import ABADI2016
from sfumato.private.clipping.choice import clipping_named
from sfumato.private.noise.choice import noise_named
from sfumato.private.plan import Plan, calibrated
from sfumato.training.defence import Defence
from sfumato.training.task import Optimizer, PublicScaling, Task
from sfumato.validate import one_of

LEVELS = ("unit", "example")
INPUTS = ("constants", "log")


@dataclass(frozen=True, kw_only=True)
class DPSGD(Defence):
    """Clips each unit's gradient and adds Gaussian noise to the sum (Abadi et al., 2016, algorithm 1).

    The only defence here with a proof. Its numbers are public inputs: none may be computed from the private records,
    not even from how many there are.

    Args:
        sample_rate: probability of each unit to take part in a step, in (0, 1].
        expected_batch_size: divisor of the noisy sum.
        steps: how many steps.
        delta: at which epsilon is stated; well below 1 / (number of units).
        adjacency: "ADD_OR_REMOVE_ONE", "REPLACE_ONE" or "REPLACE_SPECIAL".
        target_epsilon: solves for the noise; or give `noise_multiplier`.
        noise_multiplier: standard deviation of the noise over the sensitivity.
        level: "unit" protects the population's unit of privacy, all of its records together; "example" one record.
        max_records_per_unit: public cap for units of several records.
        clipping: name of a clipping method (`sfumato list clippings`).
        max_grad_norm: its bound; the first one where it adapts.
        augmentations: augmented copies of each record, averaged before clipping.
        max_batch_size: truncates larger draws; needs `units`, a public number, and a replacing relation.
        units: see there.
        noise: name of a kind of noise.
        inputs: how inputs are scaled without reading them: "constants" ((x - input_mean) / input_std) or "log" (signed
            logarithm first, for columns of unknown scale).
        input_mean: public, one number or one per feature or channel; the default suits pictures in [0, 1].
        input_std: the same.
        lr: learning rate in place of the task's; None to keep it.
        momentum: the same.
        optimizer: the same; "adam" gives DP-Adam.
        schedule: the same.
        ema: decay of the average of the weights, which costs no privacy; None to keep the task's.
    """

    name: ClassVar[str] = "dpsgd"
    family: ClassVar[str] = "formal"
    reference: ClassVar[str] = "abadi2016deep"
    summary: ClassVar[str] = "Clips every unit's gradient and adds noise to the sum; comes with a proof."
    bibtex: ClassVar[str] = ABADI2016

    sample_rate: float
    expected_batch_size: float
    steps: int
    delta: float
    adjacency: str
    target_epsilon: float | None = None
    noise_multiplier: float | None = None
    level: str = "unit"
    max_records_per_unit: int = 1
    clipping: str = "flat"
    max_grad_norm: float = 1.0
    augmentations: int = 1
    max_batch_size: int | None = None
    units: int | None = None
    noise: str = "continuous-gaussian"
    inputs: str = "constants"
    input_mean: float | tuple[float, ...] = 0.5
    input_std: float | tuple[float, ...] = 0.5
    lr: float | None = None
    momentum: float | None = None
    optimizer: str | None = None
    schedule: str | None = None
    ema: float | None = None

    def __post_init__(self) -> None:
        one_of("level", self.level, LEVELS)
        one_of("inputs", self.inputs, INPUTS)
        object.__setattr__(self, "adjacency", Adjacency.named(self.adjacency).value)
        for name in ("input_mean", "input_std"):
            value = getattr(self, name)
            object.__setattr__(self, name, tuple(value) if isinstance(value, (tuple, list)) else value)
        if (self.target_epsilon is None) == (self.noise_multiplier is None):
            raise UsageError(
                f"Expected `target_epsilon` or `noise_multiplier`, got {self.target_epsilon} and "
                f"{self.noise_multiplier}.",
                remedy="Give one of them; the other follows.",
            )
        self._plan("example", 1)  # refuses at construction what cannot be

    @classmethod
    def example(cls) -> DPSGD:
        return cls(
            sample_rate=0.1,
            expected_batch_size=16,
            steps=10,
            delta=1e-5,
            adjacency="ADD_OR_REMOVE_ONE",
            noise_multiplier=1.0,
        )

    def configure(self, task: Task) -> Task:
        optimizer = replace(
            task.optimizer,
            name=self.optimizer or task.optimizer.name,
            lr=task.optimizer.lr if self.lr is None else self.lr,
            momentum=task.optimizer.momentum if self.momentum is None else self.momentum,
        )
        return replace(
            task,
            optimizer=_plain(optimizer),
            epochs=max(1, math.ceil(self.steps * self.sample_rate)),
            schedule=self.schedule or task.schedule,
            standardise=False,
            scaling=task.scaling or self._scaling(task),
            ema=task.ema if self.ema is None else self.ema,
        )

    def _scaling(self, task: Task) -> PublicScaling:
        """The public constants are for records; fixed features have a scale of their own."""
        if task.features is not None:
            return PublicScaling()
        return PublicScaling(mean=self.input_mean, std=self.input_std, log=self.inputs == "log")

    def plan(self, population: Population, alongside: Sequence[Mechanism] = ()) -> Plan:
        if self.level == "example":
            return self._plan("example", 1, alongside)
        several = len(population) > population.units
        if several and self.max_records_per_unit == 1:
            raise UsageError(
                f"Expected a public cap on the records of one {population.unit.name}, got units with several records.",
                remedy='Give `max_records_per_unit`, or protect single records with `level="example"`.',
            )
        return self._plan(population.unit.name, self.max_records_per_unit, alongside)

    def _plan(self, unit: str, cap: int, alongside: Sequence[Mechanism] = ()) -> Plan:
        numbers = {
            "sample_rate": self.sample_rate,
            "steps": self.steps,
            "delta": self.delta,
            "expected_batch_size": self.expected_batch_size,
            "adjacency": Adjacency.named(self.adjacency),
            "clipping": clipping_named(self.clipping, self.max_grad_norm),
            "max_batch_size": self.max_batch_size,
            "units": self.units,
            "noise": noise_named(self.noise),
            "unit": unit,
            "max_records_per_unit": cap,
            "augmentations": self.augmentations,
        }
        if self.noise_multiplier is not None:
            return Plan(noise_multiplier=self.noise_multiplier, **numbers)
        return _solved(self.target_epsilon, tuple(numbers.items()), tuple(alongside))


def _plain(optimizer: Optimizer) -> Optimizer:
    """Nesterov is for plain SGD with momentum only."""
    plain = optimizer.name != "sgd" or optimizer.momentum == 0
    return replace(optimizer, nesterov=False) if plain else optimizer


@cache
def _solved(
    target_epsilon: float | None, numbers: tuple[tuple[str, object], ...], alongside: tuple[Mechanism, ...]
) -> Plan:
    assert target_epsilon is not None
    return calibrated(target_epsilon=target_epsilon, alongside=alongside, **dict(numbers))  # type: ignore[arg-type] - Plan's own fields
