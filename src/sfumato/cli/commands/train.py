"""`sfumato train`: one model for release."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from sfumato.audit.branches import branch_notices
from sfumato.cli.charging import charging
from sfumato.cli.configuring import release_config
from sfumato.cli.contenders import contenders
from sfumato.cli.opening import open_population
from sfumato.cli.options import TrainOptions, takes
from sfumato.cli.promises import left_fresh
from sfumato.cli.releases import KEEPER, ReleaseFolder, write_members, write_release
from sfumato.cli.releasing import chosen_members, measured, trained_once
from sfumato.cli.screen import Screen
from sfumato.cli.writing import output_folder
from sfumato.errors import UsageError
from sfumato.training.recipe import Recipe


@takes(TrainOptions)
def train(context: typer.Context, options: TrainOptions) -> int:
    """Train one model on your data and write it into a folder that `sfumato audit --release` can attack."""
    screen, config = Screen.of(options), release_config(options)
    population = open_population(config.data, config.audit.seed)
    recipes = contenders(config, population)
    recipe = recipes[0]
    if len(recipes) != 1 or not isinstance(recipe, Recipe):
        raise UsageError(
            f"Expected one recipe of a network, got {', '.join(r.name for r in recipes)}.",
            remedy="Weights of a user's own training or of a scikit-learn classifier are saved by their owner.",
        )
    folder = output_folder(options.out or "model")
    members = chosen_members(population, options, config.audit.seed)
    for note in left_fresh(recipes, population):
        screen.note(note)
    charge = charging(options, recipe, population)
    trained = trained_once(recipe, population, members, config, screen, charge)
    for notice in branch_notices(recipe.name, recipe.defence, [trained.facts()]):
        screen.note(f"{notice.text} {notice.remedy}")
    facts: dict[str, Any] = {"utility": measured(recipe, trained, population, members)}
    if charge is not None:
        facts["ledger"] = {"people": charge.ledger.name, "spent": charge.statement()}
    written = write_release(folder, config.resolved(population.kind), recipe, trained, population, facts)
    write_members(folder, population.id_array[population.rows_of(members)])
    _report(written, screen, bool(members.all()))
    return 0


def _report(written: ReleaseFolder, screen: Screen, whole: bool) -> None:
    folder, utility = written.path, written.facts["utility"]
    screen.say(*(f"{name}: {value:.4f}" for name, value in utility.items()))
    screen.say(f"Formal guarantee: {written.facts['guarantee']}.")
    files = {"weights": folder / "model.safetensors", "recipe": folder / "recipe.json"}
    files["training records (personal data)"] = written.members
    if (folder / KEEPER).exists():
        files["facts read from the records (keep them)"] = folder / KEEPER
        screen.say(_spent(written))
    step = f"sfumato audit --release {folder}"
    if whole:
        step = (
            "sfumato audit with the same options; this model was trained on all records, so none is left to attack it"
        )
    screen.written(files, step)
    screen.document({**{name: str(Path(path)) for name, path in files.items()}, "utility": utility, **_short(written)})


def _spent(written: ReleaseFolder) -> str:
    ledger = written.facts.get("ledger")
    if ledger is None:
        return "No ledger: what other trainings on these people spent is not counted. Name one with --ledger."
    return f"All trainings on {ledger['people']} together: {ledger['spent']}."


def _short(written: ReleaseFolder) -> dict[str, object]:
    return {key: written.facts[key] for key in ("guarantee", "epochs", "seconds", "recipe_hash")}
