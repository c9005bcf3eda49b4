"""Reconstructions as stored results: what an attack guessed is kept, so that long work goes on where it ended.

The key names the attack, what it was asked, the model that it was asked about, and the source of all attacks. What is
stored is also how long it took, so that a run that finds everything in the store tells what it really cost.
"""

from __future__ import annotations

import functools
import importlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from sfumato.attacks.fits import Fit
from sfumato.attacks.inversion.base import InversionAttack, Reconstructions, why_not
from sfumato.attacks.inversion.evidence import AttributeEvidence, ClassEvidence, GradientEvidence, LabelEvidence
from sfumato.attacks.inversion.generators.base import GeneratorKind
from sfumato.attacks.inversion.generators.catalogue import prior_named
from sfumato.audit.game import FitRunner
from sfumato.canonical import array_digest, content_hash
from sfumato.errors import NotApplicable
from sfumato.execution.code import code_digest, foreign_sources, source_digest
from sfumato.targets.boundary import Box
from sfumato.targets.oracle import Oracle
from sfumato.types import Floats

AnyEvidence = ClassEvidence | GradientEvidence | AttributeEvidence | LabelEvidence
COVERED = (
    "sfumato.attacks.inversion",
    "sfumato.audit.inversion.shared_step",
    "sfumato.models",
    "sfumato.seeding",
    "sfumato.targets.oracle",
    "sfumato.targets.guards",
)
REFUSED, SECONDS, FIT_SECONDS, FACT = "refused", "seconds", "fit_seconds", "facts/"
QUERIES, BEFORE = "queries", "queries for what is trained first, of a model"


@dataclass(frozen=True, eq=False)
class Found:
    """What came of putting an attack to one model.

    Attributes:
        guesses: None where it could not run.
        refused: why it could not.
        seconds: that the reconstruction took when it was made.
        fit_seconds: that everything took which was trained for it first.
    """

    guesses: Reconstructions | None
    refused: tuple[str, ...]
    seconds: float
    fit_seconds: float


@dataclass(frozen=True, eq=False)
class Timed(Fit):
    """What an attack trains, with the seconds that it took, under a key that names the source of the attacks.

    Args:
        fit: as the attack declares it.
    """

    fit: Fit

    @property
    def key(self) -> str:
        """Content hash."""
        return content_hash({"timed": self.fit.key, "source": inversion_source(), "own": foreign_sources(self.fit)})

    def run(self) -> dict[str, Floats]:
        start = time.perf_counter()
        arrays = self.fit.run()
        return {**arrays, SECONDS: np.array(time.perf_counter() - start)}


@dataclass(frozen=True, eq=False)
class Reconstruction(Fit):
    """One attack on one model, or on some updates.

    Args:
        attack: what is tried.
        evidence: all that it may see. Its oracle names the model and need not be able to answer.
        load: gives the model itself, when it is really to be asked; None for updates.
        run_fit: runs what the attack must train first.
    """

    attack: InversionAttack[Any]
    evidence: AnyEvidence
    load: Callable[[], Oracle] | None
    run_fit: FitRunner

    @property
    def key(self) -> str:
        """Content hash; nothing is loaded for it."""
        return content_hash(
            {
                "reconstruction": self.attack.spec(),
                "evidence": self.evidence.spec(),
                "box": _named(_box(self.evidence)),
                "source": inversion_source(),
                "code": code_digest(),  # of models and objectives, which updates do not name as trained models do
                "own": foreign_sources(self.attack),
                "prior": _prior_of_the_user(self.attack),
            }
        )

    def run(self) -> dict[str, Floats]:
        """Guess. Reasons why that is impossible are a result, too, so that no model is loaded again to hear them."""
        evidence = self.evidence
        if self.load is not None:
            evidence = replace(cast(ClassEvidence, evidence), oracle=self.load())
        try:
            return self._guessed(evidence)
        except NotApplicable as error:
            return _refused([str(error)])

    def _guessed(self, evidence: AnyEvidence) -> dict[str, Floats]:
        if reasons := why_not(self.attack, cast(Any, evidence)):
            return _refused(reasons)
        allowed = restricted(self.attack, evidence)
        stored = [self.run_fit(Timed(fit)) for fit in self.attack.fits(allowed)]
        fitted = [{name: value for name, value in arrays.items() if name != SECONDS} for arrays in stored]
        start = time.perf_counter()
        found = self.attack.reconstruct(allowed, fitted)
        seconds, spent = time.perf_counter() - start, sum(float(arrays[SECONDS]) for arrays in stored)
        asked = sum(float(np.sum(arrays[QUERIES])) for arrays in stored if QUERIES in arrays)
        told = replace(found, facts={**found.facts, BEFORE: asked}) if asked else found
        return _arrays(told, seconds, spent)


def reconstructed(one: Reconstruction) -> Found:
    """What came of it, from the store or made now."""
    return read(one.run_fit(one))


def read(arrays: Mapping[str, Any]) -> Found:
    """Inverse of what `Reconstruction.run` gives."""
    if REFUSED in arrays:
        return Found(None, tuple(str(reason) for reason in arrays[REFUSED]), 0.0, 0.0)
    guesses = Reconstructions(
        records=arrays["records"],
        confidence=arrays["confidence"],
        queries=int(arrays[QUERIES]),
        labels=arrays.get("labels"),
        facts={name.removeprefix(FACT): float(value) for name, value in arrays.items() if name.startswith(FACT)},
    )
    return Found(guesses, (), float(arrays[SECONDS]), float(arrays[FIT_SECONDS]))


def restricted(attack: InversionAttack[Any], evidence: AnyEvidence) -> AnyEvidence:
    """The evidence without anything that the attack does not declare."""
    public = attack.needs_public or attack.uses_public
    if isinstance(evidence, GradientEvidence):
        return evidence if public else replace(evidence, public=None)
    if isinstance(evidence, ClassEvidence):
        return evidence.restricted_to(attack.threat_model.access, public)
    oracle = evidence.oracle.restricted_to(attack.threat_model.access)
    if isinstance(evidence, LabelEvidence) and not public:
        return replace(evidence, oracle=oracle, public=None)
    return replace(evidence, oracle=oracle)


@functools.cache
def inversion_source() -> str:
    """SHA-256 of the source files that decide what an attack guesses; read once per process."""
    files: dict[str, Path] = {}
    for name in COVERED:
        path = Path(str(importlib.import_module(name).__file__))
        found = path.parent.rglob("*.py") if path.name == "__init__.py" else [path]
        files |= {f"{name}/{one.relative_to(path.parent)}": one for one in found}
    return source_digest(files)


def _prior_of_the_user(attack: InversionAttack[Any]) -> GeneratorKind | None:
    """A generator from the user's file, which carries the content of that file; None for any other."""
    named = getattr(attack, "prior", "")
    return prior_named(named) if ":" in named else None


def _box(evidence: AnyEvidence) -> Box:
    return evidence.box if isinstance(evidence, (ClassEvidence, GradientEvidence)) else evidence.oracle.box


def _named(box: Box) -> list[str]:
    return [array_digest(side.numpy()) for side in box]


def _refused(reasons: Sequence[str]) -> dict[str, Any]:
    return {REFUSED: np.array(list(reasons))}


def _arrays(found: Reconstructions, seconds: float, fit_seconds: float) -> dict[str, Any]:
    own = {} if found.labels is None else {"labels": np.asarray(found.labels, dtype=np.int64)}
    return {
        "records": np.asarray(found.records, dtype=np.float32),
        "confidence": np.asarray(found.confidence, dtype=np.float64),
        QUERIES: np.array(found.queries),
        SECONDS: np.array(seconds),
        FIT_SECONDS: np.array(fit_seconds),
        **own,
        **{f"{FACT}{name}": np.array(float(value)) for name, value in found.facts.items()},
    }
