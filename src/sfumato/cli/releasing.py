"""Training one model for release, and attacking a released one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import typer

from sfumato.accounting.history import Event, History
from sfumato.audit.release import Release, audit_release
from sfumato.cli.charging import Charging
from sfumato.cli.config import RunConfig
from sfumato.cli.configuring import audit_of, configured, data_choice
from sfumato.cli.contenders import contenders
from sfumato.cli.inverting import without_public
from sfumato.cli.opening import open_population, public_of
from sfumato.cli.options import AuditOptions, TrainOptions
from sfumato.cli.releases import MEMBERS, read_members, read_release
from sfumato.cli.running import command_of, kept, store_at
from sfumato.cli.screen import Screen
from sfumato.cli.strengthening import refuse_full
from sfumato.cli.weights import read_weights
from sfumato.cli.writing import checks_from, finish, output_folder
from sfumato.data.formats.files import existing
from sfumato.data.population import Population
from sfumato.errors import UsageError
from sfumato.execution.events import BundleStarted, EpochDone, JobDone, Started
from sfumato.execution.jobs import DTYPES
from sfumato.execution.progress import open_display
from sfumato.seeding import derive, stream
from sfumato.targets.asking import ask
from sfumato.training.metrics import accuracy
from sfumato.training.preparation import Assignment, Epoch, LoopOptions
from sfumato.training.recipe import Recipe
from sfumato.training.trained import GUARD, Trained
from sfumato.types import Bools
from sfumato.validate import in_range


def chosen_members(population: Population, options: TrainOptions, seed: int) -> Bools:
    """bool [units]: who is trained on: the listed ones, or a share at random, or all."""
    if options.members is not None:
        return read_members(Path(options.members), population)
    in_range("fraction", options.fraction, 0.01, 1)
    members = np.ones(population.units, dtype=bool)
    left_out = stream(seed, "release members").permutation(population.units)[round(options.fraction * len(members)) :]
    members[left_out] = False
    return members


def trained_once(
    recipe: Recipe,
    population: Population,
    members: Bools,
    config: RunConfig,
    screen: Screen,
    charge: Charging | None = None,
) -> Trained:
    """One model on the records of the members, with progress.

    It is for release: private noise comes from the operating system, and neither store nor checkpoint sees the model.
    """
    rows = np.flatnonzero(population.rows_of(members))
    seed = derive(config.audit.seed, "release")
    with open_display(screen.display) as on_event:

        def on_epoch(epoch: Epoch) -> None:
            on_event(EpochDone(recipe.name, epoch.models, epoch.epoch, epoch.epochs, epoch.loss))

        on_event(Started(1, 0, 0, 1))
        on_event(BundleStarted(recipe.name, 1, recipe.name))
        options = LoopOptions(dtype=DTYPES[config.audit.dtype], on_epoch=on_epoch, release=True, charge=charge)
        trained = recipe.fit(population, [Assignment(rows, seed)], options)[0]
        if charge is not None:
            charge.close()
        on_event(JobDone("", recipe.name, "trained", trained.seconds, recipe.name))
    return trained


def measured(recipe: Recipe, trained: Trained, population: Population, members: Bools) -> dict[str, float]:
    """Accuracy on the training records, and on the others where there are any."""
    predict, guards = recipe.predictor(trained, population), trained.guards
    logits = ask(predict, recipe.defence, population, (), trained.seed, guards=guards).logits
    inside, labels = population.rows_of(members), population.label_array
    found = {"training-accuracy": accuracy(logits[inside], labels[inside])}
    return found if inside.all() else {**found, "accuracy": accuracy(logits[~inside], labels[~inside])}


def release_audited(context: typer.Context, options: AuditOptions) -> int:
    """Attack one given model; the exit code."""
    screen, checks = Screen.of(options), checks_from(options.checks)
    place = existing(options.release or "", what="a model")
    _refuse_public_classes(options)
    config, population, release = _from_folder(place, options) if place.is_dir() else _from_weights(place, options)
    refuse_full(config.audit, "one released model")
    public = public_of(config.data, config.audit)
    for line in without_public(config.audit, public):
        screen.note(line)
    folder = output_folder(config.run.out or "audit")
    store = store_at(config.run.store)
    try:
        with open_display(screen.display) as on_event:
            run = audit_release(
                population,
                release,
                config.audit,
                store,
                public=public,
                executor=config.run.executor,
                on_event=on_event,
                command=command_of(context),
                title=config.run.title,
            )
    except KeyboardInterrupt as stopped:
        raise kept(store) from stopped
    return finish(run, checks, folder, screen)


def _from_folder(place: Path, options: AuditOptions) -> tuple[RunConfig, Population, Release]:
    """A folder of `sfumato train`: recipe, data and members are known."""
    _refuse_recipe(options)
    found = read_release(place)
    known = found.config
    run = configured(replace(options, data=options.data or known.data.source), compared=False).run
    config = replace(known, data=data_choice(options, known.data), audit=audit_of(options, known), run=run)
    population = open_population(config.data, known.audit.seed)
    recipe = contenders(config, population)[0]
    found.check(population, recipe)
    members = read_members(Path(options.members) if options.members else place / MEMBERS, population)
    return config, population, Release(recipe, found.trained(), members, name=place.resolve().name)


def _from_weights(place: Path, options: AuditOptions) -> tuple[RunConfig, Population, Release]:
    """Bare weights: the data, the recipe and the members must be given."""
    if options.members is None or options.data is None:
        raise UsageError(
            "Expected data and `--members` beside weights, got only the weights.",
            remedy="Write: sfumato audit DATA --release WEIGHTS --members ids.csv --recipe ... (or --model FILE.py).",
        )
    config = configured(options, compared=False)
    fields = {"standardise": False, **config.recipe.fields}  # weights from elsewhere hold no such layer
    config = replace(config, recipe=replace(config.recipe, fields=fields))
    state = read_weights(place)
    guards = {name.removeprefix(GUARD): state.pop(name) for name in list(state) if name.startswith(GUARD)}
    population = open_population(config.data, config.audit.seed)
    members = read_members(Path(options.members), population)
    recipe = contenders(config, population)[0]
    if not isinstance(recipe, Recipe):
        raise UsageError("Expected the recipe of a network, got another.", remedy="Name it by `--recipe` or `--model`.")
    history = History((Event("training", "training elsewhere, which was not seen", int(members.sum())),))
    trained = Trained(state=state, history=History(population.events) + history, seed=0, guards=guards)
    _check_fits(recipe, trained, population)
    return config, population, Release(recipe, trained, members, name=place.stem)


def _check_fits(recipe: Recipe, trained: Trained, population: Population) -> None:
    try:
        recipe.network(trained, population)
    except RuntimeError as error:
        lines = str(error).splitlines()
        raise UsageError(
            f"Expected weights of the network that the recipe makes, got others: "
            f"{lines[min(1, len(lines) - 1)].strip()}",
            remedy="Name the network they belong to with `--recipe` and `--set`, or `--model FILE.py:FUNCTION`.",
        ) from error


def _refuse_public_classes(options: AuditOptions) -> None:
    if options.public_classes is not None:
        raise UsageError(
            "Expected public records from elsewhere beside a released model, got --public-classes: the model was "
            "trained on all classes of its data.",
            remedy="Name them by --public SOURCE.",
        )


def _refuse_recipe(options: AuditOptions) -> None:
    for name in ("recipe", "model", "train", "estimator", "defences", "records", "tune", "probe"):
        if getattr(options, name) is not None:
            raise UsageError(
                f"Expected no --{name} beside a model folder, got one.",
                remedy="The folder says how the model was trained; shadow models must be trained in the same way.",
            )
