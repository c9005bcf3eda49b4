"""Putting records to a trained model and keeping what an attack may need of its answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from sfumato.data.population import Population
from sfumato.errors import SfumatoError
from sfumato.targets.answers import STATISTICS, statistic
from sfumato.targets.queries import BASE, QuerySet
from sfumato.training.augment import apply_variant, query_variants
from sfumato.training.defence import Defence, chain
from sfumato.training.draws import Draws
from sfumato.training.trained import Predict
from sfumato.types import Floats

CHUNK = 256  # records a call; fixed, because a guard's random numbers are named by the chunk


@dataclass(frozen=True, eq=False)
class Asked:
    """One model's answers on all n records.

    Args:
        logits: float32 [n, classes], base query, after the guard.
        scalars: query-set key -> statistic -> float32 [n, variants], averaged over repeats.
    """

    logits: Floats
    scalars: dict[str, dict[str, Floats]]


def ask(predict: Predict, defence: Defence, population: Population, queries: Sequence[QuerySet], seed: int) -> Asked:
    """Query one model with every record of a population.

    Args:
        predict: from records to logits, one column per class; must be in eval mode.
        defence: its guards stand between the model and the attacker.
        population: n records.
        queries: query sets besides the base query.
        seed: of the model; guards that answer at random draw from its streams.
    """
    _assert_eval(predict)
    draws = Draws((seed,), ("guard",))
    logits = np.concatenate(_pass(predict, defence, population, BASE, 0, 0, draws))
    if not np.isfinite(logits).all():
        raise SfumatoError(
            "Expected finite logits from the trained model, got NaN or infinity.",
            remedy="The training diverged; lower the learning rate or standardise the inputs.",
        )
    scalars = {q.key: _scalars(predict, defence, population, q, draws) for q in queries if q != BASE}
    return Asked(logits, scalars)


def _scalars(
    predict: Predict, defence: Defence, population: Population, queries: QuerySet, draws: Draws
) -> dict[str, Floats]:
    labels = population.label_array
    table = {name: np.zeros((len(population), queries.variants)) for name in STATISTICS}
    for variant in range(queries.variants):
        for repeat in range(queries.repeats):
            logits = np.concatenate(_pass(predict, defence, population, queries, variant, repeat, draws))
            for name in STATISTICS:
                table[name][:, variant] += statistic(name, logits, labels) / queries.repeats
    return {name: values.astype(np.float32) for name, values in table.items()}


def _pass(
    predict: Predict,
    defence: Defence,
    population: Population,
    queries: QuerySet,
    variant: int,
    repeat: int,
    draws: Draws,
) -> list[Floats]:
    kind = query_variants(queries.augmentation)[variant]
    answers = []
    with torch.no_grad():
        for start in range(0, len(population), CHUNK):
            rows = np.arange(start, min(start + CHUNK, len(population)))
            x = apply_variant(population.tensor(rows), kind)
            logits = predict(x)
            for part in reversed(chain(defence)):
                here = draws.at(part.name, queries.augmentation, variant, repeat, start)
                logits = part.guard(logits, here)
            answers.append(np.asarray(logits, dtype=np.float32))
    return answers


def _assert_eval(predict: Predict) -> None:
    module = getattr(predict, "module", predict)
    if isinstance(module, torch.nn.Module) and any(part.training for part in module.modules()):
        raise SfumatoError(
            "Expected the model in eval mode when its answers are read, got train mode: batch statistics would mix "
            "records.",
            remedy="Call `.eval()` on the module.",
        )
