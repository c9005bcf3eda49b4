"""The worst-hit units, for the eyes of whoever holds the data: a local CSV file beside the report, never inside it."""

from __future__ import annotations

import csv
import io
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sfumato.audit.game import Game, Played
from sfumato.audit.statistics import unit_vulnerability, worst_share
from sfumato.data.population import Population
from sfumato.types import Floats, Strings

COLUMNS = ("subject", "attack", "unit", "auc", "separation", "models_in", "models_out")


@dataclass(frozen=True, eq=False)
class WorstUnits:
    """The tenth of the units that the strongest attack tells apart best. Personal data."""

    subject: str
    attack: str
    names: Strings
    auc: Floats
    separation: Floats
    models_in: np.ndarray
    models_out: np.ndarray


def worst_units(subject: str, game: Game, played: Played, population: Population) -> WorstUnits | None:
    """The worst-hit units, or None where models are too few to say anything about one unit."""
    if len(game.cases) < 4:
        return None
    units = unit_vulnerability(played.scores, game.members, game.in_game)
    values = np.where(game.in_game, units.auc, np.nan)
    if np.isnan(values).all():
        return None
    worst = worst_share(values, 0.1).units
    return WorstUnits(
        subject,
        played.attack.name,
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
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mode 0600
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text.getvalue())
    os.replace(temporary, path)
    return path
