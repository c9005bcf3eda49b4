"""From the choice of recipe and defences to the recipes that are compared."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from sfumato.cli.catalogue import defence_label
from sfumato.cli.config import RecipeChoice, RunConfig
from sfumato.data.population import Population
from sfumato.defences.undefended import Undefended
from sfumato.errors import UsageError
from sfumato.integrations.sklearn import SklearnRecipe, named_estimator
from sfumato.models.user_file import FileModel
from sfumato.training.composition import only_guards
from sfumato.training.defence import chain
from sfumato.training.recipe import AnyRecipe, Recipe, recipe_from_file
from sfumato.training.task import Task


def contenders(config: RunConfig, population: Population) -> list[AnyRecipe]:
    """The recipes of a run: the contenders where there are any; else the preset with each defence, then the user's own
    trainings and scikit-learn classifiers.

    The preset is left out where only others were named.
    """
    if config.contenders:
        return [Recipe(task_of(one.recipe, population), one.defence, one.name) for one in config.contenders]
    choice = config.recipe
    own: list[AnyRecipe] = [_own_training(text, config) for text in choice.train]
    own += [SklearnRecipe(named_estimator(name), name=name.rpartition("/")[2]) for name in choice.estimators]
    if not choice.uses_preset:
        _refuse_ignored(config)
        return own
    task = task_of(choice, population)
    defences = config.defences or (Undefended(),)
    return [*(Recipe(task, defence, defence_label(defence)) for defence in defences), *own]


def task_of(choice: RecipeChoice, population: Population) -> Task:
    """The learning task: the preset's, with the user's own network where one is given."""
    task = choice.preset(population.kind).task(population)
    if not choice.model:
        return task
    path, function = file_and_function(choice.model, "make")
    return replace(task, model=FileModel(path=path, function=function))


def file_and_function(text: str, usual: str) -> tuple[str, str]:
    """`file.py:function` taken apart; the function may be left out."""
    path, colon, function = text.rpartition(":")
    if not colon or not path.endswith(".py"):
        path, function = text, usual
    if not path.endswith(".py") or not Path(path).is_file():
        raise UsageError(
            f"Expected FILE.py:FUNCTION with a Python file that exists, got {text!r}.", remedy="Check the path."
        )
    return path, function


def _own_training(text: str, config: RunConfig) -> AnyRecipe:
    path, function = file_and_function(text, "train")
    defence = config.defences[0] if config.defences and not config.recipe.uses_preset else Undefended()
    for part in chain(defence):
        if not (only_guards(part) or isinstance(part, Undefended)):
            raise UsageError(
                f"Expected a defence that only guards answers beside your own training, got {part.name}, which would "
                "have to train: it would stand in the record and do nothing.",
                remedy="Put it into your training function, or name a preset with `--recipe`.",
            )
    return recipe_from_file(Path(path), function, defence)


def _refuse_ignored(config: RunConfig) -> None:
    given = [defence for defence in config.defences if not isinstance(defence, Undefended)]
    if given and config.recipe.estimators:
        raise UsageError(
            f"Expected no defence beside a classifier that trains itself, got {defence_label(given[0])}.",
            remedy="Defences belong to presets; name one with `--recipe` to have both.",
        )
    if len(config.defences) > 1 or config.recipe.fields:
        what = "several defences" if len(config.defences) > 1 else f"`{next(iter(config.recipe.fields))}`"
        raise UsageError(
            f"Expected no options of a preset beside your own training or a classifier, got {what}.",
            remedy="Defences and their numbers belong to presets; name one with `--recipe` to have both.",
        )
