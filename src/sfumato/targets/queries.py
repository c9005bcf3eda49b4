"""How often, how varied, and how deep each record is put to a model."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from sfumato.errors import UsageError
from sfumato.sde.streams import NOISE
from sfumato.validate import at_least, in_range, one_of

AUGMENTATIONS = {"none": 1, "mirror": 2, "mirror-shift": 18, "noise-16": 16}
IMAGES_ONLY = ("mirror", "mirror-shift")
NOISY = ("noise-16",)
AVERAGES = ("statistic", "logits", "probabilities")
SCOPES = ("all", "game")
BOUNDARY = "boundary-distance"
GRADIENTS = ("gradient-norm", "input-gradient-norm")
SIGNALS = ("answers", *GRADIENTS, BOUNDARY)
SCALE = 0.3  # of noisy views where none is given: 0.1 of the pixel range of Fashion-MNIST
SMALLEST_BUDGET = 50  # below it, no direction could be estimated after the search for the boundary
_KEY = re.compile(
    r"(none|mirror|mirror-shift|noise-16)(?:-s([0-9.]+))?-x([1-9][0-9]*)(?:-(common|off))?(?:-(game))?"
    r"(?:-(gradient-norm|input-gradient-norm|boundary-distance))?(?:-b([1-9][0-9]*))?"
)


@dataclass(frozen=True)
class QuerySet:
    """The queries made for each record. Equal ones put the same queries, however the answers are averaged.

    Args:
        augmentation: "none" (the record itself), "mirror" (2 variants) or "mirror-shift" (18 variants); LiRA, section
            VI-C of arXiv 2112.03570; images only. "noise-16" (16 variants): Gaussian noise around the record, the same
            for all models.
        repeats: how often each variant is asked, for models that answer at random; query noise shrinks as 1/repeats.
            The answers of 16 repeats are the first 16 of 256. A model that does not answer at random is asked once.
        noise: of a network that draws (`sde.streams.NOISE`). With "common" and "off" the attacker runs the network
            himself, so that he meets no guard on its answers.
        average: over the repeats: of the "statistic", or the statistic of the mean "logits" or "probabilities". One
            pass yields all three, so this is no part of the key, and of no comparison.
        scope: whose records are asked: "all", or only those in the "game".
        signal: "answers"; the "gradient-norm" of the loss of each record by the weights, or the "input-gradient-norm"
            by the record, with the network's noise off; or the "boundary-distance" that a walk with labels finds.
        scale: of noisy variants, in standard deviations of the values (of the column, or of all pixels); 0 without.
        budget: most labels that are asked for the boundary distance of one variant of one record, each `repeats`
            times; 0 without.
    """

    augmentation: str = "none"
    repeats: int = 1
    noise: str = "fresh"
    average: str = field(default="statistic", compare=False)
    scope: str = "all"
    signal: str = "answers"
    scale: float = 0.0
    budget: int = 0

    def __post_init__(self) -> None:
        one_of("augmentation", self.augmentation, AUGMENTATIONS)
        if isinstance(self.repeats, bool) or not isinstance(self.repeats, int):
            raise UsageError(f"Expected `repeats` to be a whole number, got {self.repeats!r}.", remedy="Use 1 or more.")
        at_least("repeats", self.repeats, 1)
        one_of("noise", self.noise, NOISE)
        one_of("average", self.average, AVERAGES)
        one_of("scope", self.scope, SCOPES)
        one_of("signal", self.signal, SIGNALS)
        if self.signal in GRADIENTS and self.noise != "off":
            raise UsageError(
                f"Expected gradient norms with the network's noise off, got {self.noise!r}.", remedy='Use noise="off".'
            )
        self._check_scale()
        self._check_budget()

    def _check_scale(self) -> None:
        if self.augmentation in NOISY and not self.scale:
            object.__setattr__(self, "scale", SCALE)
        if self.augmentation in NOISY:
            in_range("scale", self.scale, 0.001, 100)
        if (self.augmentation not in NOISY and self.scale) or float(_spelled(self.scale)) != self.scale:
            raise UsageError(
                f"Expected `scale` with at most six digits, of noisy variants only, got {self.scale} for "
                f"{self.augmentation}.",
                remedy=f"Leave it out, or use augmentation={NOISY[0]!r}.",
            )

    def _check_budget(self) -> None:
        if isinstance(self.budget, bool) or not isinstance(self.budget, int):
            raise UsageError(f"Expected `budget` to be a whole number, got {self.budget!r}.", remedy="Use 500, say.")
        if self.signal == BOUNDARY:
            at_least("budget", self.budget, SMALLEST_BUDGET)
        if (self.signal == BOUNDARY) != bool(self.budget) or (self.budget and self.noise != "fresh"):
            raise UsageError(
                f"Expected a budget for {BOUNDARY} with labels as anybody gets them, and for nothing else, got "
                f"{self.budget} for {self.signal} with noise {self.noise!r}.",
                remedy=f'Give `budget` with signal={BOUNDARY!r} and noise="fresh".',
            )

    @property
    def variants(self) -> int:
        """Number of variants of each record."""
        return AUGMENTATIONS[self.augmentation]

    @property
    def per_record(self) -> int:
        """Queries per record; at most so many for a boundary distance."""
        return self.variants * self.repeats * max(1, self.budget)

    @property
    def white_box(self) -> bool:
        """Whether they take the weights: nobody else can stop or choose a network's noise, or see a gradient."""
        return self.noise != "fresh" or self.signal in GRADIENTS

    @property
    def family(self) -> QuerySet:
        """The query set with one repeat: query sets of one family share their passes."""
        return replace(self, repeats=1)

    @property
    def key(self) -> str:
        """Its name in the store, e.g. "none-x1", "mirror-x16-common-game" or "none-x1-game-boundary-distance-b500"."""
        parts = [self.augmentation, *([f"s{_spelled(self.scale)}"] if self.scale else []), f"x{self.repeats}"]
        parts += [self.noise] if self.noise != "fresh" else []
        parts += [self.scope] if self.scope != "all" else []
        parts += [self.signal] if self.signal != "answers" else []
        parts += [f"b{self.budget}"] if self.budget else []
        return "-".join(parts)

    @classmethod
    def from_key(cls, key: str) -> QuerySet:
        """Inverse of `key`.

        Raises:
            UsageError: if this is no key.
        """
        match = _KEY.fullmatch(key)
        if match is not None:
            augmentation, scale, repeats, noise, scope, signal, budget = match.groups(default="")
            made = cls(
                augmentation,
                int(repeats),
                noise or "fresh",
                scope=scope or "all",
                signal=signal or "answers",
                scale=_number(scale),
                budget=int(budget or 0),
            )
            if made.key == key:
                return made
        raise UsageError(f"Expected the key of a query set, such as none-x16, got {key!r}.")


def _spelled(scale: float) -> str:
    return f"{scale:g}"


def _number(text: str) -> float:
    """A positive number; 0 for text that is none."""
    return float(text) if re.fullmatch(r"[0-9]+(\.[0-9]+)?", text) else 0.0


BASE = QuerySet()


def families(queries: Iterable[QuerySet]) -> dict[QuerySet, list[QuerySet]]:
    """Query sets that share their passes, those with few repeats first; the base query by itself is left out."""
    found: dict[QuerySet, list[QuerySet]] = {}
    for one in sorted({q for q in queries if q != BASE}, key=lambda q: (q.repeats, q.key)):
        found.setdefault(one.family, []).append(one)
    return found
