"""What an inversion attack is, whatever it may touch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np

from sfumato.attacks.evidence import ThreatModel
from sfumato.attacks.fits import Fit
from sfumato.attacks.inversion.evidence import AttributeEvidence, ClassEvidence, GradientEvidence, LabelEvidence
from sfumato.errors import SfumatoError
from sfumato.types import Floats
from sfumato.validate import at_least

GAMES = ("class", "gradient", "attribute", "label")
E = TypeVar("E", ClassEvidence, GradientEvidence, AttributeEvidence, LabelEvidence)


@dataclass(frozen=True, eq=False)
class Reconstructions:
    """What came out: for each of q questions up to k guesses, the best first.

    - Class inversion: k pictures or rows of each class.
    - Gradient inversion: the records of each batch, in any order; NaN beyond its size.
    - Attribute inference: the v possible values of each record, the likeliest first; shape [q, v, 1].
    - Planted labels: the classes a record may have been trained with, the likeliest first; shape [q, classes - 1, 1].

    Args:
        records: float32 [q, k, *shape].
        confidence: float64 [q, k], how sure the attack is of each; comparable within a question only.
        queries: records that `reconstruct` put to the model (for updates, to the attacker's copy), all questions
            together; fits count their own.
        labels: int64 [q, k], recovered classes, for gradient inversion; else None.
        facts: plain numbers worth knowing (steps taken, loss reached), name -> value.
    """

    records: Floats
    confidence: Floats
    queries: int = 0
    labels: np.ndarray | None = None
    facts: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.records.shape[:2] != self.confidence.shape:
            raise SfumatoError(
                f"Expected a confidence for each guess, got {self.confidence.shape} for {self.records.shape[:2]}."
            )


@dataclass(frozen=True, kw_only=True)
class InversionAttack(ABC, Generic[E]):
    """Guesses records, or parts of them, from what it may touch. Computes no metric; `reconstruct` trains nothing."""

    name: ClassVar[str] = ""
    family: ClassVar[str] = "inversion"
    reference: ClassVar[str] = ""  # citation key
    bibtex: ClassVar[str] = ""
    summary: ClassVar[str] = ""
    game: ClassVar[str] = "class"  # one of `GAMES`
    threat_model: ClassVar[ThreatModel] = ThreatModel(access="weights", knowledge="")  # access may be "update"
    needs_public: ClassVar[bool] = False  # whether it cannot do without public records
    uses_public: ClassVar[bool] = False  # whether it reads them where there are any, without needing them
    images_only: ClassVar[bool] = False
    usual: ClassVar[bool] = True  # whether `--attacks inversion` names it; not where it takes long or needs a file
    reconstruction: ClassVar[str] = (
        ""  # what of the published method is not known to us, for one that is rebuilt; or ""
    )

    @property
    def method(self) -> str:
        """The method's own name."""
        return type(self).name

    @classmethod
    def example(cls) -> InversionAttack[E]:
        """One with few steps, for contract tests."""
        return cls()

    def spec(self) -> dict[str, Any]:
        """Name and fields, which determine what it does."""
        return {"attack": self.method, **vars(self)}

    def fits(self, evidence: E) -> tuple[Fit, ...]:
        """What must be trained before `reconstruct` (a generator, students); by default nothing."""
        return ()

    def refuses(self, evidence: E) -> tuple[str, ...]:
        """Reasons of its own why it cannot run here, besides those that follow from the class attributes."""
        return ()

    @abstractmethod
    def reconstruct(self, evidence: E, fitted: Sequence[dict[str, Floats]] = ()) -> Reconstructions:
        """Guess.

        Args:
            evidence: of this attack's game, restricted to what its class attributes declare.
            fitted: results of `fits(evidence)`, in that order.

        Returns:
            Guesses inside the box, deterministic given the evidence: random numbers come from `evidence.seed` only.

        Raises:
            NotApplicable: if it finds on the way that it cannot run; the reason reaches the record.
        """


@dataclass(frozen=True, kw_only=True)
class ClassInversion(InversionAttack[ClassEvidence]):
    """Base of attacks on what a model knows of a class.

    Args:
        images: guesses for each class.
    """

    game: ClassVar[str] = "class"

    images: int = 5

    def __post_init__(self) -> None:
        at_least("images", self.images, 1)


@dataclass(frozen=True, kw_only=True)
class GradientInversion(InversionAttack[GradientEvidence]):
    """Base of attacks on what a training step shares."""

    game: ClassVar[str] = "gradient"
    threat_model: ClassVar[ThreatModel] = ThreatModel(
        access="update", knowledge="The weights before the step, the loss and how many records the batch has."
    )


@dataclass(frozen=True, kw_only=True)
class AttributeInference(InversionAttack[AttributeEvidence]):
    """Base of attacks on one hidden attribute of a record."""

    game: ClassVar[str] = "attribute"
    needs_public: ClassVar[bool] = True
    threat_model: ClassVar[ThreatModel] = ThreatModel(
        access="scores", knowledge="All other attributes and the class of the record, and records of the population."
    )


@dataclass(frozen=True, kw_only=True)
class LabelInference(InversionAttack[LabelEvidence]):
    """Base of attacks on a label that was drawn at random and planted."""

    game: ClassVar[str] = "label"
    threat_model: ClassVar[ThreatModel] = ThreatModel(
        access="scores", knowledge="The record, its true class, and how planted labels are drawn."
    )


def why_not(attack: InversionAttack[E], evidence: E) -> tuple[str, ...]:
    """The reasons why an attack cannot run on this evidence; empty where it can. They reach the record."""
    reasons, access = [], attack.threat_model.access
    if not isinstance(evidence, GradientEvidence):
        oracle = evidence.oracle
        if not oracle.grants(access):
            reasons.append(f"needs access to {access}, got {oracle.access} only")
        elif access == "weights" and not oracle.differentiable:
            reasons.append("needs gradients by the record, got a model behind fixed features or a function")
        if attack.images_only and len(oracle.shape) != 3:
            reasons.append(f"needs pictures, got records of shape {oracle.shape}")
    if attack.needs_public and evidence.public is None:
        reasons.append("needs public records of other classes, got none")
    return (*reasons, *attack.refuses(evidence))
