"""The probe before a comparison: it fills in the regions of every defence that left them open."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from sfumato.audit.probe import probe
from sfumato.audit.probing.first import Question, questions, with_map
from sfumato.audit.probing.settings import ProbeSettings
from sfumato.audit.record import Notice
from sfumato.cli.screen import Screen
from sfumato.data.population import Population
from sfumato.execution.progress import open_display
from sfumato.execution.store import Store
from sfumato.report.risk_map import write
from sfumato.training.recipe import AnyRecipe, Recipe


class Filled(NamedTuple):
    """The recipes with their regions, and what the record must say of where those come from."""

    recipes: list[AnyRecipe]
    notice: Notice


class Where(NamedTuple):
    """How probes run, and where their maps go."""

    store: Store
    executor: str
    folder: Path
    command: str


def filled(
    recipes: Sequence[AnyRecipe],
    apart: Population,
    compared: Population,
    settings: ProbeSettings,
    where: Where,
    screen: Screen,
) -> Filled:
    """Probe once for each network and defence whose regions are open, and hand the maps out.

    Args:
        recipes: of the comparison.
        apart: the records that are probed; no recipe is trained on them afterwards.
        compared: the records of the comparison, none of which is among them.
        settings: see `ProbeSettings`.
        where: see `Where`.
        screen: is told.
    """
    open_for = questions(recipes)
    maps = {
        key: _probed(question, apart, compared, settings, where, screen)
        for key, question in {one.key: one for one in open_for.values()}.items()
    }
    made = [
        with_map(recipe, maps[open_for[recipe.name].key])
        if isinstance(recipe, Recipe) and recipe.name in open_for
        else recipe
        for recipe in recipes
    ]
    names = ", ".join(path.name for path in maps.values())
    text = (
        f"The regions that are protected were chosen by a probe of {apart.units} units ({names}), which are in no "
        "training set and no game of this record."
    )
    return Filled(made, Notice(severity="negligible", text=text))


def _probed(
    question: Question,
    apart: Population,
    compared: Population,
    settings: ProbeSettings,
    where: Where,
    screen: Screen,
) -> Path:
    screen.note(f"Probing {question.task.model.name} with {question.defence.name} on {apart.units} units.")
    with open_display(screen.display) as shown:
        found = probe(
            apart,
            question.task,
            question.defence,
            settings,
            where.store,
            executor=where.executor,
            on_event=shown,
            command=where.command,
        )
    found = found.model_copy(update={"apart_from": compared.fingerprint})
    path = write(found, where.folder, f"probe-{question.key}")["map"]
    found.ranking.riskiest(1.0)  # a map without risk protects nothing: said now, not after hours of training
    return path
