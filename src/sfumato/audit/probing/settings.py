"""How a network is probed: the numbers that are choices, in one value that can be written down."""

from __future__ import annotations

from dataclasses import dataclass, field

from sfumato.attacks.membership.lira import LiRAOnline
from sfumato.audit.settings import AuditSettings
from sfumato.errors import UsageError
from sfumato.models.regions import Regions
from sfumato.validate import at_least, one_of

OPERATIONS = ("transplant", "rewind", "rewind-private", "freeze")
TOLD = {
    "transplant": "taken from the network trained with the defence",
    "rewind": "rewound and tuned alone, with the ordinary objective",
    "rewind-private": "rewound and tuned alone, with the defence",
    "freeze": "frozen at its initial values while the rest is trained",
}


@dataclass(frozen=True, kw_only=True)
class ProbeSettings:
    """What is done to each region, and with how many models.

    Args:
        regions: how the network is divided.
        operations: any of `OPERATIONS`.
        epochs: in which a rewound region is tuned.
        models: even number, in complementary halves; each variant is trained for every one of them.
        seed: root of all randomness.
        confidence: of every interval.
        fprs: false positive rates at which the TPR of LiRA is measured.
        replicates: of the bootstrap.
        dtype: "float32" or "float64".
    """

    regions: Regions = field(default_factory=Regions)
    operations: tuple[str, ...] = OPERATIONS
    epochs: int = 4
    models: int = 8
    seed: int = 0
    confidence: float = 0.95
    fprs: tuple[float, ...] = (0.01, 0.001)
    replicates: int = 200
    dtype: str = "float32"

    def __post_init__(self) -> None:
        if not self.operations or len(set(self.operations)) < len(self.operations):
            raise UsageError(
                f"Expected operations, each once, got {self.operations}.", remedy=f"Known: {', '.join(OPERATIONS)}."
            )
        for operation in self.operations:
            one_of("operations", operation, OPERATIONS)
        at_least("epochs", self.epochs, 1)
        at_least("models", self.models, 4)
        self.audit  # noqa: B018 - validates the other fields at construction

    @property
    def audit(self) -> AuditSettings:
        """The membership game that every variant is put through: exact halves, LiRA with the others as references."""
        return AuditSettings(
            attacks=(LiRAOnline(),),
            models=self.models,
            public=0.0,
            seed=self.seed,
            confidence=self.confidence,
            fprs=self.fprs,
            replicates=self.replicates,
            dtype=self.dtype,
        )
