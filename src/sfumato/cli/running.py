"""What `compare`, `audit` and `plan` share: from a configured run to its data, recipes, store and progress."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

import typer

from sfumato.atomic import write_atomic
from sfumato.audit.beforehand import refuse_untrainable
from sfumato.audit.compare import Run
from sfumato.audit.probing.first import questions, set_apart
from sfumato.audit.record import Notice
from sfumato.audit.settings import AuditSettings
from sfumato.audit.tuning import compare_tuned
from sfumato.cli.budget import STEPS, fitted
from sfumato.cli.config import RunConfig, dump
from sfumato.cli.contenders import contenders
from sfumato.cli.failures import Stopped
from sfumato.cli.filling import Where, filled
from sfumato.cli.inverting import without_public
from sfumato.cli.invocation import Invocation
from sfumato.cli.options import RunOptions
from sfumato.cli.promises import left_fresh
from sfumato.cli.screen import Screen
from sfumato.cli.strengthening import opened
from sfumato.cli.writing import checks_from, finish, output_folder
from sfumato.data.download import cache_folder
from sfumato.data.population import Population
from sfumato.execution.events import Ended, Event, OnEvent
from sfumato.execution.progress import open_display
from sfumato.execution.store import Store
from sfumato.training.recipe import AnyRecipe


@dataclass(frozen=True, eq=False)
class Prepared:
    """A run that could begin.

    `apart` are records that are probed first, and not compared on; `public` those that attackers by inversion have.
    """

    config: RunConfig
    population: Population
    recipes: list[AnyRecipe]
    store: Store
    apart: Population | None = None
    notices: tuple[Notice, ...] = ()
    public: Population | None = None


def prepared(config: RunConfig, options: RunOptions, screen: Screen) -> Prepared:
    """Open the data, build the recipes, and fit the run into the budget if there is one."""
    config, population, public = opened(config, screen)
    for line in without_public(config.audit, public):
        screen.note(line)
    apart = None
    if config.probe is not None:
        apart, population = set_apart(population, config.probe.share, config.audit.seed)
    for note in population.notes:
        screen.note(note)
    recipes, store = contenders(config, population), store_at(config.run.store)
    still_open = {} if apart is None else questions(recipes)  # nothing is trained before it is known what for
    refuse_untrainable([recipe for recipe in recipes if recipe.name not in still_open], population)
    if apart is not None:
        screen.note(f"{apart.units} units are set apart for a probe, whose time comes on top.")
    for note in left_fresh(recipes, population):
        screen.note(note)
    if options.budget is not None:
        steps = [models for models in STEPS if options.models is None or models < options.models]
        given = [] if options.models is None else [options.models]
        fit = fitted(population, recipes, config.audit, store, options.budget, steps=[*given, *steps])
        screen.note(fit.sentence)
        if config.tune:
            screen.note("The time for tuning comes on top of the budget.")
        config = replace(config, audit=fit.settings)
    return Prepared(config, population, recipes, store, apart, public=public)


def carried_out(context: typer.Context, options: RunOptions, config: RunConfig, usual_out: str) -> int:
    """Train, attack, write, print; the exit code."""
    screen = Screen.of(options)
    if options.dump_config is not None:
        return dumped(config, Path(options.dump_config), screen)
    checks = checks_from(config.run.checks)
    folder = output_folder(config.run.out or usual_out)
    ready = probed_first(context, prepared(config, options, screen), folder, screen)
    return finish(trained_and_attacked(context, ready, screen), checks, folder, screen)


def probed_first(context: typer.Context, ready: Prepared, folder: Path, screen: Screen) -> Prepared:
    """The run with the regions that a probe finds on the records that were set apart for it, if any were."""
    config = ready.config
    if config.probe is None or ready.apart is None:
        return ready
    where = Where(ready.store, config.run.executor, folder, command_of(context))
    try:
        asked = config.probe.settings(config.audit)
        found = filled(ready.recipes, ready.apart, ready.population, asked, where, screen)
    except KeyboardInterrupt as stopped:
        raise kept(ready.store) from stopped
    return replace(ready, recipes=found.recipes, notices=(*ready.notices, found.notice))


def trained_and_attacked(context: typer.Context, ready: Prepared, screen: Screen) -> Run:
    """The comparison itself, with progress on stderr; an interrupt says what is kept."""
    config = ready.config
    try:
        with open_display(screen.display) as shown:
            on_event = announcing(shown, screen, attacking(config.audit))
            return compare_tuned(
                ready.population,
                ready.recipes,
                config.audit,
                ready.store,
                config.tune,
                public=ready.public,
                executor=config.run.executor,
                on_event=on_event,
                command=command_of(context),
                title=config.run.title,
                notices=[
                    *ready.notices,
                    *(Notice(severity="negligible", text=text) for text in left_fresh(ready.recipes, ready.population)),
                ],
            )
    except KeyboardInterrupt as stopped:
        raise kept(ready.store) from stopped


def attacking(settings: AuditSettings) -> str:
    """What begins once the training is over."""
    inverted = 0 if settings.inversion is None else len(settings.inversion.attacks)
    parts = [f"attacking each model in {ways(len(settings.attacks))}"] if settings.attacks else []
    parts += [f"inverting some models in {ways(inverted)}"] if inverted else []
    return f"{', then '.join(parts).capitalize()} ..."


def ways(count: int) -> str:
    """ "1 way", "2 ways"."""
    return "1 way" if count == 1 else f"{count} ways"


def announcing(shown: OnEvent, screen: Screen, sentence: str) -> OnEvent:
    """The display, and a line once the training is over: attacks and intervals take a while too."""

    def on_event(event: Event) -> None:
        shown(event)
        if isinstance(event, Ended) and not event.missing:
            screen.note(sentence)

    return on_event


def kept(store: Store) -> Stopped:
    """The message of an interrupted run."""
    return Stopped(
        f"Interrupted. Finished models, what attacks trained and what they rebuilt are kept in {store.root}, and "
        "half-trained models where they stand. Only what an attack was just about begins anew."
    )


def dumped(config: RunConfig, path: Path, screen: Screen) -> int:
    """Write the configuration of the run with every number in it; nothing is trained."""
    config, population, _ = opened(config, screen)
    write_atomic(path, dump(config.resolved(population.kind)).encode())
    screen.written({"configuration": path}, f"sfumato compare --config {path}")
    screen.document({"configuration": str(path)})
    return 0


def store_at(text: str | None) -> Store:
    """The store that was named, else that of the environment (SFUMATO_STORE), else one in the user's cache."""
    place = text or os.environ.get("SFUMATO_STORE") or str(cache_folder("store"))
    return Store(Path(place).expanduser())


def command_of(context: typer.Context) -> str:
    """What repeats the run."""
    return context.obj.command if isinstance(context.obj, Invocation) else ""
