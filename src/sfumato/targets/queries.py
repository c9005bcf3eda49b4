"""How often, and how varied, each record is put to a model."""

from __future__ import annotations

from dataclasses import dataclass

from sfumato.errors import UsageError
from sfumato.validate import at_least, one_of

AUGMENTATIONS = {"none": 1, "mirror": 2, "mirror-shift": 18}


@dataclass(frozen=True)
class QuerySet:
    """The queries made for each record.

    Args:
        augmentation: "none" (the record itself), "mirror" (2 variants) or "mirror-shift" (18 variants); LiRA, section
            VI-C of arXiv 2112.03570. Images only, but for "none".
        repeats: how often each variant is asked, for models that answer at random; answers are averaged on the scale
            of the statistic, so query noise shrinks as 1/repeats.
    """

    augmentation: str = "none"
    repeats: int = 1

    def __post_init__(self) -> None:
        one_of("augmentation", self.augmentation, AUGMENTATIONS)
        if isinstance(self.repeats, bool) or not isinstance(self.repeats, int):
            raise UsageError(f"Expected `repeats` to be a whole number, got {self.repeats!r}.", remedy="Use 1 or more.")
        at_least("repeats", self.repeats, 1)

    @property
    def variants(self) -> int:
        """Number of variants of each record."""
        return AUGMENTATIONS[self.augmentation]

    @property
    def per_record(self) -> int:
        """Queries per record."""
        return self.variants * self.repeats

    @property
    def key(self) -> str:
        """Its name in the store, e.g. "none-x1"."""
        return f"{self.augmentation}-x{self.repeats}"


BASE = QuerySet()
