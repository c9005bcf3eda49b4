"""The one place where sampler, clipping, sensitivity, noise, divisor, adjacency and accountant meet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sfumato.accounting.adjacency import Adjacency
from sfumato.accounting.mechanisms.base import Mechanism
from sfumato.errors import UsageError
from sfumato.private.clipping.base import Clipping
from sfumato.private.clipping.flat import Flat
from sfumato.private.noise.continuous_gaussian import ContinuousGaussian
from sfumato.private.noise.kind import NoiseKind
from sfumato.private.sampling.base import Sampler
from sfumato.private.sampling.poisson import Poisson
from sfumato.private.sampling.truncated_poisson import TruncatedPoisson
from sfumato.validate import at_least, in_range, positive


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A private training, in public numbers: none may be computed from the private records, their number included.

    One step draws units by `sampler`, clips each unit's gradient, adds up, adds noise and divides by
    `expected_batch_size`.

    Args:
        sample_rate: probability of each unit to take part in a step, in (0, 1].
        steps: how many steps; each is released.
        expected_batch_size: divisor of the noisy sum: a public number, whatever was drawn.
        noise_multiplier: standard deviation of the noise over the sensitivity, above 0.
        delta: at which epsilon is stated; well below 1 / (number of units).
        adjacency: the neighbouring relation; the choice is the user's.
        clipping: how a unit's gradient is bounded.
        max_batch_size: truncate larger draws (needs `units`, and a relation that makes the number of units public).
        units: the public number of units, for truncation only.
        noise: the kind of noise.
        unit: what is protected, in a word: "example", "patient".
        max_records_per_unit: public cap on records of one unit; the guarantee's text names it.
        augmentations: augmented copies of each record whose gradients are averaged before clipping.
    """

    sample_rate: float
    steps: int
    expected_batch_size: float
    noise_multiplier: float
    delta: float
    adjacency: Adjacency
    clipping: Clipping = field(default_factory=lambda: Flat(max_grad_norm=1.0))
    max_batch_size: int | None = None
    units: int | None = None
    noise: NoiseKind = field(default_factory=ContinuousGaussian)
    unit: str = "example"
    max_records_per_unit: int = 1
    augmentations: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "adjacency", Adjacency.named(self.adjacency))
        in_range("sample_rate", self.sample_rate, 0, 1)
        positive("sample_rate", self.sample_rate)
        positive("expected_batch_size", self.expected_batch_size)
        positive("noise_multiplier", self.noise_multiplier)
        at_least("steps", self.steps, 1)
        at_least("max_records_per_unit", self.max_records_per_unit, 1)
        at_least("augmentations", self.augmentations, 1)
        if not 0 < self.delta < 1:
            raise UsageError(f"Expected `delta` in (0, 1), got {self.delta!r}.", remedy="A usual value is 1e-5.")
        if (self.max_batch_size is None) != (self.units is None):
            raise UsageError(
                f"Expected `max_batch_size` and `units` together, got {self.max_batch_size} and {self.units}.",
                remedy="Truncated sampling is accounted for at a public number of units; give both or none.",
            )
        self.clipping.gradient_noise_multiplier(
            self.noise_multiplier, self.expected_batch_size
        )  # refuses what cannot be
        self.mechanism(audit_only=True)  # refuses what no accountant covers

    @property
    def sampler(self) -> Sampler:
        """Of the units of a step."""
        if self.max_batch_size is None or self.units is None:
            return Poisson(sample_rate=self.sample_rate)
        return TruncatedPoisson(sample_rate=self.sample_rate, max_batch_size=self.max_batch_size, units=self.units)

    @property
    def unit_text(self) -> str:
        """What is protected, with the cap that is part of the claim."""
        cap = self.max_records_per_unit
        return self.unit if cap == 1 else f"{self.unit}, at most {cap} records each"

    def mechanism(self, *, audit_only: bool, steps: int | None = None) -> dict[str, Any]:
        """The event that a history keeps: what ran, as an accountant reads it.

        Args:
            audit_only: whether the noise came from a seed.
            steps: that ran; all by default.
        """
        ran = self.sampler.mechanism(self.noise_multiplier, self.steps if steps is None else steps, self.adjacency)
        return ran.plain() | {
            "delta": self.delta,
            "unit": self.unit_text,
            "audit_only": audit_only,
            "clipping": self.clipping.name,
            "expected_batch_size": self.expected_batch_size,
            "noise": self.noise.name,
        }

    def with_noise(self, noise_multiplier: float) -> Plan:
        """The same plan with another noise multiplier."""
        return replace(self, noise_multiplier=noise_multiplier)


def calibrated(
    *,
    target_epsilon: float,
    delta: float,
    sample_rate: float,
    steps: int,
    alongside: Sequence[Mechanism] = (),
    **others: Any,
) -> Plan:
    """The plan with the least noise that keeps `target_epsilon` at `delta`, composed with the mechanisms `alongside`.

    The other arguments are `Plan`'s.

    Raises:
        UsageError: if no noise in reach keeps the target.
    """
    from sfumato.accounting.calibrate import calibrate_noise

    draft = Plan(sample_rate=sample_rate, steps=steps, delta=delta, noise_multiplier=1.0, **others)
    noise = calibrate_noise(
        target_epsilon=target_epsilon,
        target_delta=delta,
        sample_rate=sample_rate,
        steps=steps,
        adjacency=draft.adjacency,
        alongside=alongside,
    )
    return draft.with_noise(noise)
