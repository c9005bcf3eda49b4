"""What `sfumato probe` does: from options to a risk map, and from the map to files and a table."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import typer

from sfumato.audit.probe import probe
from sfumato.audit.probing.risk_map import RiskMap
from sfumato.audit.probing.settings import TOLD, ProbeSettings
from sfumato.audit.settings import AuditSettings
from sfumato.cli.configuring import release_config
from sfumato.cli.contenders import contenders
from sfumato.cli.opening import open_population
from sfumato.cli.options import ProbeOptions
from sfumato.cli.running import announcing, command_of, kept, store_at
from sfumato.cli.screen import Screen
from sfumato.cli.spelling import words
from sfumato.data.population import Population
from sfumato.errors import UsageError
from sfumato.execution.progress import open_display
from sfumato.execution.store import Store
from sfumato.models.regions import KINDS, Regions
from sfumato.report.risk_map import columns, effect_lines, write
from sfumato.training.recipe import Recipe

USUAL = "relaxloss"


@dataclass(frozen=True, eq=False)
class Asked:
    """A probe that could begin."""

    population: Population
    recipe: Recipe
    settings: ProbeSettings
    store: Store


def asked(options: ProbeOptions, screen: Screen) -> Asked:
    """The data, the recipe and the numbers that the options describe.

    Raises:
        UsageError: if they name other than one network behind one defence.
    """
    config = release_config(replace(options, defences=options.defences or USUAL))
    if other := (*config.recipe.train, *config.recipe.estimators):
        raise UsageError(
            f"Expected one network behind one defence to probe, got {other[0]!r}, whose training is out of reach.",
            remedy="Name one recipe and one defence.",
        )
    population = open_population(config.data, config.audit.seed)
    for note in population.notes:
        screen.note(note)
    recipes = contenders(config, population)
    if len(recipes) != 1 or not isinstance(recipes[0], Recipe):
        raise UsageError(
            f"Expected one network behind one defence to probe, got {', '.join(recipe.name for recipe in recipes)}.",
            remedy="Name one recipe and one defence.",
        )
    return Asked(population, recipes[0], _settings(options, config.audit), store_at(options.store))


def carried_out(context: typer.Context, ready: Asked, options: ProbeOptions, screen: Screen) -> RiskMap:
    """The probe itself, with progress on stderr; an interrupt says what is kept."""
    try:
        with open_display(screen.display) as shown:
            return probe(
                ready.population,
                ready.recipe.task,
                ready.recipe.defence,
                ready.settings,
                ready.store,
                executor=options.executor or "auto",
                on_event=announcing(shown, screen, "Attacking every variant ..."),
                command=command_of(context),
                title=options.title or "",
            )
    except KeyboardInterrupt as stopped:
        raise kept(ready.store) from stopped


def finish(risk_map: RiskMap, folder: Path, screen: Screen) -> int:
    """Write everything, and print the table."""
    files = write(risk_map, folder)
    names = ["region", "treated", *(f"{name} carried" for name in columns(risk_map))]
    rows = [
        [line.name, line.how, *(cell.text if cell is not None and cell.resolved else "-" for cell in line.cells)]
        for line in effect_lines(risk_map)
    ]
    screen.say("")
    screen.table(names, rows, risk_map.title)
    for refused in risk_map.not_run:
        screen.say(f"Not done: {TOLD.get(refused.attack, refused.attack)}. {' '.join(refused.reasons)}")
    defence = risk_map.defended.defence.name
    step = (
        f"open {files['page']} in a browser, or protect the riskiest regions of a model of other records: "
        f'"pptp-reconstruction(map={files["map"]})+{defence}". On these records, `sfumato compare --probe SHARE` keeps '
        "those that are probed apart"
    )
    screen.written(files, step)
    screen.document({**{name: str(path) for name, path in files.items()}, **risk_map.model_dump(mode="json")})
    return 0


def _settings(options: ProbeOptions, audit: AuditSettings) -> ProbeSettings:
    """What the options leave open stays as it is usual for a probe."""
    usual = ProbeSettings()
    return ProbeSettings(
        regions=_regions(options.regions),
        operations=usual.operations if options.operations is None else tuple(words(options.operations)),
        epochs=usual.epochs if options.tuning_epochs is None else options.tuning_epochs,
        models=usual.models if options.models is None else options.models,
        seed=audit.seed,
        confidence=audit.confidence,
        fprs=usual.fprs if audit.fprs == AuditSettings(attacks=audit.attacks).fprs else audit.fprs,
        replicates=audit.replicates,
        dtype=audit.dtype,
    )


def _regions(text: str | None) -> Regions:
    """ "depth", "type", or expressions with commas between."""
    if text is None or text in KINDS[:2]:
        return Regions(by=text or "depth")
    return Regions(by="expressions", expressions=tuple(words(text)))
