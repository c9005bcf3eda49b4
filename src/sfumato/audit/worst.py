"""The worst-hit units, for the eyes of whoever holds the data: a local CSV file beside the report, never inside it."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sfumato.atomic import write_atomic
from sfumato.audit.exposure import SIGNAL, exposure, worst_of
from sfumato.audit.game import Game
from sfumato.data.population import Population
from sfumato.targets.queries import BASE, QuerySet
from sfumato.types import Floats, Strings

COLUMNS = ("subject", "attack", "unit", "auc", "separation", "models_in", "models_out")


@dataclass(frozen=True, eq=False)
class WorstUnits:
    """The tenth of the units whose membership shows best in what the models answer. Personal data."""

    subject: str
    attack: str
    names: Strings
    auc: Floats
    separation: Floats
    models_in: np.ndarray
    models_out: np.ndarray


def worst_units(subject: str, game: Game, population: Population, queries: QuerySet = BASE) -> WorstUnits | None:
    """The worst-hit units, or None where models are too few to say anything about one unit."""
    units = exposure(game, queries)
    worst = np.array([], dtype=np.int64) if units is None else worst_of(units, game.in_game)
    if units is None or len(worst) == 0:
        return None
    return WorstUnits(
        subject,
        SIGNAL,
        population.unit_names[worst],
        units.auc[worst],
        units.separation[worst],
        units.n_in[worst],
        units.n_out[worst],
    )


def write_worst_units(tables: Sequence[WorstUnits], path: Path) -> Path:
    """Write a CSV file that only its owner can read, atomically."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for table in tables:
        columns = (table.names, table.auc, table.separation, table.models_in, table.models_out)
        for name, auc, separation, n_in, n_out in zip(*columns, strict=True):
            writer.writerow([table.subject, table.attack, name, f"{auc:.4f}", f"{separation:.4f}", n_in, n_out])
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, text.getvalue().encode(), private=True)
    return path
