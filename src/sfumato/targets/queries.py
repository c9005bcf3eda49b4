"""How often, how varied, and how deep each record is put to a model."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from sfumato.errors import UsageError
from sfumato.sde.streams import NOISE
from sfumato.validate import at_least, one_of

AUGMENTATIONS = {"none": 1, "mirror": 2, "mirror-shift": 18}
AVERAGES = ("statistic", "logits", "probabilities")
SCOPES = ("all", "game")
SIGNALS = ("answers", "gradient-norm")
_KEY = re.compile(r"(none|mirror|mirror-shift)-x([1-9][0-9]*)(?:-(common|off))?(?:-(game))?(?:-(gradient-norm))?")


@dataclass(frozen=True)
class QuerySet:
    """The queries made for each record. Equal ones put the same queries, however the answers are averaged.

    Args:
        augmentation: "none" (the record itself), "mirror" (2 variants) or "mirror-shift" (18 variants); LiRA, section
            VI-C of arXiv 2112.03570. Images only, but for "none".
        repeats: how often each variant is asked, for models that answer at random; query noise shrinks as 1/repeats.
            The answers of 16 repeats are the first 16 of 256. A model that does not answer at random is asked once.
        noise: of a network that draws (`sde.streams.NOISE`). With "common" and "off" the attacker runs the network
            himself, so that he meets no guard on its answers.
        average: over the repeats: of the "statistic", or the statistic of the mean "logits" or "probabilities". One
            pass yields all three, so this is no part of the key, and of no comparison.
        scope: whose records are asked: "all", or only those in the "game".
        signal: "answers", or the "gradient-norm" of the loss of each record with the network's noise off.
    """

    augmentation: str = "none"
    repeats: int = 1
    noise: str = "fresh"
    average: str = field(default="statistic", compare=False)
    scope: str = "all"
    signal: str = "answers"

    def __post_init__(self) -> None:
        one_of("augmentation", self.augmentation, AUGMENTATIONS)
        if isinstance(self.repeats, bool) or not isinstance(self.repeats, int):
            raise UsageError(f"Expected `repeats` to be a whole number, got {self.repeats!r}.", remedy="Use 1 or more.")
        at_least("repeats", self.repeats, 1)
        one_of("noise", self.noise, NOISE)
        one_of("average", self.average, AVERAGES)
        one_of("scope", self.scope, SCOPES)
        one_of("signal", self.signal, SIGNALS)
        if self.signal == "gradient-norm" and self.noise != "off":
            raise UsageError(
                f"Expected gradient norms with the network's noise off, got {self.noise!r}.", remedy='Use noise="off".'
            )

    @property
    def variants(self) -> int:
        """Number of variants of each record."""
        return AUGMENTATIONS[self.augmentation]

    @property
    def per_record(self) -> int:
        """Queries per record."""
        return self.variants * self.repeats

    @property
    def white_box(self) -> bool:
        """Whether they take the weights: nobody else can stop or choose a network's noise, or see a gradient."""
        return self.noise != "fresh" or self.signal != "answers"

    @property
    def family(self) -> QuerySet:
        """The query set with one repeat: query sets of one family share their passes."""
        return replace(self, repeats=1)

    @property
    def key(self) -> str:
        """Its name in the store, e.g. "none-x1" or "mirror-x16-common-game"."""
        parts = [f"{self.augmentation}-x{self.repeats}"]
        parts += [self.noise] if self.noise != "fresh" else []
        parts += [self.scope] if self.scope != "all" else []
        parts += [self.signal] if self.signal != "answers" else []
        return "-".join(parts)

    @classmethod
    def from_key(cls, key: str) -> QuerySet:
        """Inverse of `key`.

        Raises:
            UsageError: if this is no key.
        """
        match = _KEY.fullmatch(key)
        if match is None:
            raise UsageError(f"Expected the key of a query set, such as none-x16, got {key!r}.")
        augmentation, repeats, noise, scope, signal = match.groups()
        return cls(augmentation, int(repeats), noise or "fresh", scope=scope or "all", signal=signal or "answers")


BASE = QuerySet()


def families(queries: Iterable[QuerySet]) -> dict[QuerySet, list[QuerySet]]:
    """Query sets that share their passes, those with few repeats first; the base query by itself is left out."""
    found: dict[QuerySet, list[QuerySet]] = {}
    for one in sorted({q for q in queries if q != BASE}, key=lambda q: (q.repeats, q.key)):
        found.setdefault(one.family, []).append(one)
    return found
