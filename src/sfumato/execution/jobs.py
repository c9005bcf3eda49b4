"""One model to be trained, as a value: what it is determines its name, and its name finds its result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch

from sfumato.accounting.history import History
from sfumato.canonical import array_digest, content_hash
from sfumato.data.population import Population
from sfumato.errors import UsageError
from sfumato.execution.code import code_digest, foreign_sources
from sfumato.training.recipe import AnyRecipe
from sfumato.types import Floats, Rows
from sfumato.validate import one_of

DTYPES = {"float32": torch.float32, "float64": torch.float64}


@dataclass(frozen=True, eq=False)
class TrainJob:
    """One model: a pure function of these fields (and of the code), whoever executes it.

    Args:
        recipe: how it is trained.
        population: all records; the model answers queries about each of them afterwards.
        rows: int64 [k], the records that it is trained on: distinct, whole units.
        seed: of the training.
        dtype: "float32", or "float64" for comparisons.
        label: for progress lines; no part of its name.
        asked: int64 [k], the records in the game, for query sets that ask only those; no part of its name.
    """

    recipe: AnyRecipe
    population: Population
    rows: Rows
    seed: int
    dtype: str = "float32"
    label: str = ""
    asked: Rows | None = None

    def __post_init__(self) -> None:
        one_of("dtype", self.dtype, DTYPES)
        object.__setattr__(self, "rows", self._checked(self.rows, "training records", "rows(population, model)"))
        if self.asked is not None:
            object.__setattr__(self, "asked", self._checked(self.asked, "records in the game", "in_game"))

    def _checked(self, given: Rows, what: str, source: str) -> Rows:
        rows = np.asarray(given)
        if rows.ndim != 1 or not len(rows) or rows.dtype.kind not in "iu":
            raise UsageError(
                f"Expected the positions of the {what}, int64 [k], got {rows.dtype} {rows.shape}.",
                remedy=f"Use `Membership.{source}`.",
            )
        if rows.min() < 0 or rows.max() >= len(self.population) or len(np.unique(rows)) != len(rows):
            raise UsageError(
                f"Expected distinct positions of the {what} from 0 to {len(self.population) - 1}, got {rows.min()} to "
                f"{rows.max()}, {len(rows) - len(np.unique(rows))} of them twice.",
                remedy=f"Use `Membership.{source}`.",
            )
        return rows.astype(np.int64)

    @cached_property
    def key(self) -> str:
        """Content hash of the specification and of the code; neither the executor nor the queries are part of it."""
        return content_hash(
            {
                "recipe": self.recipe.spec(),
                "population": self.population.fingerprint,
                "classes": self.population.classes,
                "events": History(self.population.events).plain(),
                "rows": array_digest(self.rows),
                "seed": self.seed,
                "dtype": self.dtype,
                "code": code_digest(),
                "foreign": foreign_sources(self.recipe),
            }
        )

    @cached_property
    def recipe_hash(self) -> str:
        """Content hash of the recipe alone, for choices and costs that carry over to other data."""
        return content_hash(self.recipe.spec())

    @cached_property
    def asked_hash(self) -> str:
        """Names the records in the game, so that answers for another game are never read; "" for none."""
        return "" if self.asked is None else array_digest(self.asked)[:16]

    @property
    def torch_dtype(self) -> torch.dtype:
        """The dtype of the training."""
        return DTYPES[self.dtype]


@dataclass(frozen=True, eq=False)
class JobResult:
    """What is known of a trained model.

    Args:
        key: of the job.
        logits: float32 [n, classes], the answers to the base query on the whole population, behind the guard.
        scalars: query-set key -> statistic -> float32 [n, variants].
        facts: plain values: history, seed, epochs, best_epoch, seconds, stacked_with, kernels, executor, threads, and
            not_stacked_because where a stack was refused.
        has_weights: whether the weights are in the store.
        asked: `TrainJob.asked_hash` of the records that query sets of scope "game" were answered for.
    """

    key: str
    logits: Floats
    scalars: Mapping[str, Mapping[str, Floats]] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    has_weights: bool = False
    asked: str = ""

    def with_scalars(self, scalars: Mapping[str, Mapping[str, Floats]]) -> JobResult:
        """This result with the answers to more query sets."""
        return replace(self, scalars={**self.scalars, **scalars})
