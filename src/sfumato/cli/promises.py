"""What private recipes will be able to say, before anything runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sfumato.accounting.guarantee import Guarantee, guarantee
from sfumato.data.population import Population
from sfumato.defences.pretrained import Pretrained
from sfumato.defences.tl_dmi import TLDMI
from sfumato.models.build import build_seeded
from sfumato.training.composition import release_of, update_of
from sfumato.training.defence import chain, configured
from sfumato.training.preparation import foreseen
from sfumato.training.recipe import AnyRecipe, Recipe


class Promise(NamedTuple):
    """One private recipe: its noise, and the guarantee that its models will have (or why none)."""

    recipe: str
    noise_multiplier: float
    calibrated: bool
    epsilon: float | None
    delta: float
    statement: str

    @property
    def text(self) -> str:
        """For a plan."""
        origin = "calibrated" if self.calibrated else "as given"
        return f"{self.recipe}: noise multiplier {self.noise_multiplier:.6g} ({origin}); guarantee: {self.statement}."


def promises(recipes: Sequence[AnyRecipe], population: Population) -> list[Promise]:
    """Noise and guarantee of each recipe with a private update or a release of the records.

    The noise is solved for where a target was given.
    """
    found = []
    for recipe in recipes:
        if not isinstance(recipe, Recipe):
            continue
        plan, releasing = update_of(recipe.defence, population), release_of(recipe.defence, population)
        private = releasing.release if releasing is not None else plan
        if private is None:
            continue
        task = configured(recipe.defence, recipe.task)
        promised = guarantee(foreseen(task, recipe.defence, population, plan))
        solved = any(getattr(part, "target_epsilon", None) is not None for part in chain(recipe.defence))
        epsilon = promised.epsilon if isinstance(promised, Guarantee) else None
        found.append(Promise(recipe.name, private.noise_multiplier, solved, epsilon, private.delta, promised.statement))
    return found


def left_fresh(recipes: Sequence[AnyRecipe], population: Population) -> list[str]:
    """What given weights do not fill of each network, as sentences."""
    told = []
    for recipe in recipes:
        starts = [
            part.given if isinstance(part, TLDMI) else part
            for part in chain(recipe.defence)
            if isinstance(part, (Pretrained, TLDMI))
        ]
        if isinstance(recipe, Recipe) and starts:
            outputs = 1 if recipe.task.head == "binary" else population.classes
            network = build_seeded(recipe.task.model, population.records.shape, outputs, 0)
            fits = [part.fit(network) for part in starts]
            told += [
                f"{recipe.name}: {len(fit.loaded)} tensors come from the given weights; left fresh: "
                f"{', '.join(fit.fresh)}."
                for fit in fits
                if fit.fresh
            ]
    return told
