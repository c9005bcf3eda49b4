"""What the high-utility DP-SGD baselines have in common."""

from __future__ import annotations

from abc import ABC
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Self

from sfumato.accounting.adjacency import Adjacency
from sfumato.accounting.mechanisms.base import Mechanism
from sfumato.data.population import Population
from sfumato.defences.dpsgd import DPSGD
from sfumato.errors import UsageError
from sfumato.private.plan import Plan
from sfumato.training.defence import Defence
from sfumato.training.task import Task
from sfumato.validate import positive

EMA = 0.9999


@dataclass(frozen=True, kw_only=True)
class HighUtilityDPSGD(Defence, ABC):
    """DP-SGD with little noise, as a heuristic rival of empirical defences (Aerni et al., 2024).

    The guarantee is real and so large that it excludes nothing; its epsilon is stated with every result. Learning rate
    4, no momentum, no weight decay, constant schedule, average of the weights with warm-up. The paper augments by
    shifts and flips: give the task `augmentation=("shift", "flip")`, or set `augmentations=1` where there is nothing to
    augment, because the copies would then be alike.

    Args:
        records: public number of units in a training set; it turns batch and epochs into sampling rate and steps.
        delta: at which epsilon is stated; the paper has 1e-5.
        adjacency: "ADD_OR_REMOVE_ONE", "REPLACE_ONE" or "REPLACE_SPECIAL".
        expected_batch_size: at most `records`.
        epochs: expected number of times that each unit is used.
        noise_multiplier: standard deviation of the noise over the sensitivity.
        max_grad_norm: clipping bound.
        augmentations: augmented copies of each record, averaged before clipping.
        lr: learning rate.
        level: as in `DPSGD`, like the next four.
        max_records_per_unit: see there.
        inputs: see there.
        input_mean: see there.
        input_std: see there.
    """

    family: ClassVar[str] = "formal"
    reference: ClassVar[str] = "aerni2024evaluations"
    bibtex: ClassVar[str] = """@inproceedings{aerni2024evaluations,
  author = {Aerni, Michael and Zhang, Jie and Tram{\\`e}r, Florian},
  title = {Evaluations of Machine Learning Privacy Defenses are Misleading},
  booktitle = {ACM SIGSAC Conference on Computer and Communications Security},
  year = {2024}
}"""

    records: int
    delta: float
    adjacency: str
    expected_batch_size: float
    epochs: float
    noise_multiplier: float
    max_grad_norm: float = 1.0
    augmentations: int = 8
    lr: float = 4.0
    level: str = "unit"
    max_records_per_unit: int = 1
    inputs: str = "constants"
    input_mean: float | tuple[float, ...] = 0.5
    input_std: float | tuple[float, ...] = 0.5

    def __post_init__(self) -> None:
        positive("expected_batch_size", self.expected_batch_size)
        positive("epochs", self.epochs)
        if not self.records >= self.expected_batch_size:
            raise UsageError(
                f"Expected at least {self.expected_batch_size:g} `records`, one expected batch, got {self.records!r}.",
                remedy="Lower `expected_batch_size`; the published one is for 50,000 records.",
            )
        object.__setattr__(self, "adjacency", Adjacency.named(self.adjacency).value)
        for name in ("input_mean", "input_std"):
            object.__setattr__(self, name, getattr(self.update, name))  # refuses at construction what cannot be

    @classmethod
    def example(cls) -> Self:
        return cls(records=160, delta=1e-5, adjacency="ADD_OR_REMOVE_ONE", expected_batch_size=16, epochs=1)  # type: ignore[call-arg]

    @property
    def update(self) -> DPSGD:
        """The same in terms of DP-SGD."""
        return DPSGD(
            sample_rate=self.expected_batch_size / self.records,
            expected_batch_size=self.expected_batch_size,
            steps=max(1, round(self.epochs * self.records / self.expected_batch_size)),
            delta=self.delta,
            adjacency=self.adjacency,
            noise_multiplier=self.noise_multiplier,
            level=self.level,
            max_records_per_unit=self.max_records_per_unit,
            max_grad_norm=self.max_grad_norm,
            augmentations=self.augmentations,
            inputs=self.inputs,
            input_mean=self.input_mean,
            input_std=self.input_std,
            lr=self.lr,
            momentum=0.0,
            optimizer="sgd",
            schedule="constant",
            ema=EMA,
        )

    def configure(self, task: Task) -> Task:
        task = self.update.configure(task)
        plain = replace(task.optimizer, weight_decay=0.0, nesterov=False)
        return replace(task, optimizer=plain, ema_warmup=True)

    def plan(self, population: Population, alongside: Sequence[Mechanism] = ()) -> Plan:
        return self.update.plan(population, alongside)
