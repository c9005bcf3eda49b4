"""`sfumato plan`: what a run will cost, before it starts."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import typer

from sfumato.audit.plan import Plan
from sfumato.audit.plan import plan as planned
from sfumato.audit.tuning import trainings
from sfumato.cli.configuring import configured
from sfumato.cli.options import RunOptions, takes
from sfumato.cli.promises import promises
from sfumato.cli.running import Prepared, prepared
from sfumato.cli.screen import Screen
from sfumato.execution.progress import duration


@takes(RunOptions)
def plan(context: typer.Context, options: RunOptions) -> int:
    """Say what `sfumato compare` with the same options will cost: models, passes, minutes, space."""
    screen = Screen.of(options)
    ready = prepared(configured(options, compared=True), options, screen)
    found = planned(ready.population, ready.recipes, ready.config.audit, ready.store, ready.public)
    screen.document(_document(found, ready))
    screen.say(*_lines(found, ready))
    screen.say("", "Next: the same command with `compare` in place of `plan`.")
    return 0


def _document(found: Plan, ready: Prepared) -> dict[str, Any]:
    settings = ready.config.audit
    return {
        "recipes": [recipe.name for recipe in ready.recipes],
        "attacks": [attack.name for attack in settings.attacks],
        "models_per_recipe": settings.models,
        "models": found.models,
        "fits": found.fits,
        "retraining": found.retraining,
        "asked_at_random": found.asked,
        "inversions": found.inversions,
        "inversion_fits": found.inversion_fits,
        "inversions_refused": list(found.refused),
        "tuning": trainings(ready.recipes, ready.config.tune),
        "private": [promise._asdict() for promise in promises(ready.recipes, ready.population)],
        **asdict(found.cost),
    }


def _lines(found: Plan, ready: Prepared) -> list[str]:
    cost, names = found.cost, ", ".join(recipe.name for recipe in ready.recipes)
    lines = [
        f"Recipes: {names}; {ready.config.audit.models} models each, {found.models} in all.",
        f"To train: {cost.models_to_train}. Stored and reused: {cost.models_ready}. Stored, to be asked more: "
        f"{cost.requeries}.",
        f"Forward passes: {cost.forward_passes:,} records. Space: {cost.bytes / 1e9:.3f} GB.",
        f"Time: {_time(found)}",
    ]
    if ready.config.tune:
        names = ", ".join(one.method for one in ready.config.tune)
        lines.append(
            f"Before that, {names} is tuned: at most {trainings(ready.recipes, ready.config.tune)} more trainings; the "
            "numbers above are for the settings as they stand now. What is tuned has no formal guarantee."
        )
    lines += [promise.text for promise in promises(ready.recipes, ready.population)]
    lines += [
        f"{name} answers at random: each record in the game is put to each model up to {asked:,} times. Fewer draws "
        "ask less, as does one attack alone: --set draws=1,4 --set draws_attacks=lira-online."
        for name, asked in found.asked.items()
    ]
    if found.fits:
        lines.append(f"Attacks train {found.fits} networks of their own; their time comes on top.")
    lines += _inverted(found)
    lines += [
        f"{attack} needs answers that {count} stored models cannot give any more: they are trained again."
        for attack, count in found.retraining.items()
    ]
    return lines


def _inverted(found: Plan) -> list[str]:
    asked = {attack: count for attack, count in found.inversions.items() if count}
    if not found.inversions:
        return []
    if not asked:
        return ["Inversion: nothing is left to reconstruct.", *found.refused]
    told = ", ".join(f"{attack} {count}" for attack, count in asked.items())
    return [
        f"Inversion: {told} reconstructions; {found.inversion_fits} networks are trained for them first. The record "
        "says what each took; their time comes on top.",
        *found.refused,
    ]


def _time(found: Plan) -> str:
    cost = found.cost
    if cost.seconds_low is None or cost.seconds_high is None:
        return f"not known before one model is trained ({', '.join(cost.unknown)})."
    return (
        f"{duration(cost.seconds_low)} to {duration(cost.seconds_high)} of training on this machine. Asking them, "
        "through guards where there are any, and the attacks come on top."
    )
