"""The two jobs that make generators: from public records alone, or from what the target says of them as well."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

from sfumato.attacks.fits import Fit
from sfumato.attacks.inversion.evidence import ClassEvidence, Tell, silent
from sfumato.attacks.inversion.generators.base import GeneratorKind
from sfumato.data.population import Population
from sfumato.errors import NotApplicable
from sfumato.targets.oracle import Oracle
from sfumato.types import Floats


@dataclass(frozen=True, kw_only=True)
class FromPublic(GeneratorKind):
    """Base of kinds that never ask the target, so that all targets share what is made."""

    def fit(self, evidence: ClassEvidence) -> Fit:
        return PublicFit(kind=self, public=_matching(evidence), tell=evidence.tell)

    @abstractmethod
    def made(self, public: Population, tell: Tell) -> dict[str, Floats]:
        """float32 arrays from which `load` makes the generator. A pure function of the fields and the records."""


@dataclass(frozen=True, kw_only=True)
class FromTarget(GeneratorKind):
    """Base of kinds that ask the target about public records; each target needs its own."""

    needs_target: ClassVar[bool] = True

    def fit(self, evidence: ClassEvidence) -> Fit:
        return TargetFit(kind=self, public=_matching(evidence), oracle=evidence.oracle, tell=evidence.tell)

    @abstractmethod
    def made(self, public: Population, oracle: Oracle, tell: Tell) -> dict[str, Floats]:
        """float32 arrays from which `load` makes the generator; `queries` [1] counts the records put to the target."""


@dataclass(frozen=True, eq=False, kw_only=True)
class PublicFit(Fit):
    """Makes a generator from public records.

    Args:
        kind: what is made.
        public: from what.
        tell: hears how far it is; no part of the key.
    """

    kind: FromPublic
    public: Population
    tell: Tell = silent

    def spec(self) -> dict[str, Any]:
        """What determines the result."""
        return {"kind": self.kind, "public": self.public.fingerprint}

    def run(self) -> dict[str, Floats]:
        return self.kind.made(self.public, self.tell)


@dataclass(frozen=True, eq=False, kw_only=True)
class TargetFit(Fit):
    """Makes a generator from public records and the target's answers about them.

    Args:
        kind: what is made.
        public: from what.
        oracle: the target; its own count stays as it is, see `queries` among the arrays.
        tell: hears how far it is; no part of the key.
    """

    kind: FromTarget
    public: Population
    oracle: Oracle
    tell: Tell = silent

    def spec(self) -> dict[str, Any]:
        """What determines the result; the target counts by its name."""
        return {"kind": self.kind, "public": self.public.fingerprint, "oracle": self.oracle}

    def run(self) -> dict[str, Floats]:
        fresh = self.oracle.restricted_to(self.oracle.access)  # counts from 0, so answers with noise are the same again
        return self.kind.made(self.public, fresh, self.tell)


def _matching(evidence: ClassEvidence) -> Population:
    """The public records, if they look like those of the target."""
    public, shape = evidence.public_records, evidence.oracle.shape
    if public.records.shape != tuple(shape):
        raise NotApplicable(f"needs public records of shape {tuple(shape)}, got {public.records.shape}")
    return public
