"""What is known of the recipes of a comparison before anything is trained: what is refused, and what must be told."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sfumato.audit.record import Notice
from sfumato.data.population import Population
from sfumato.defences.pptp_reconstruction import PPTPReconstruction
from sfumato.errors import UsageError
from sfumato.models.ranking import read_json
from sfumato.training.defence import chain
from sfumato.training.recipe import AnyRecipe


def refuse_same_names(recipes: Sequence[AnyRecipe]) -> None:
    """Refuse recipes that a record could not tell apart.

    Raises:
        UsageError: if there are none, or two with one name.
    """
    names = [recipe.name for recipe in recipes]
    if not names or len(set(names)) != len(names):
        raise UsageError(
            f"Expected one or more recipes with distinct names, got {names}.", remedy="Give each recipe its `name`."
        )


def refuse_untrainable(recipes: Sequence[AnyRecipe], population: Population) -> None:
    """Refuse recipes whose training would fail, and regions that were chosen on the very records that are attacked.

    Raises:
        UsageError: if parts of a defence do not fit together, or a map of risks is one of this population.
        NotPrivateError: if a private update would not be one.
    """
    for recipe in recipes:
        recipe.check(population)
        for part in _with_map(recipe):
            if _fingerprint(part) == population.fingerprint:
                raise UsageError(
                    f"Expected the regions of {recipe.name} to be chosen on records that are not attacked, got "
                    f"{Path(part.map).name}, a map of these very records.",
                    remedy=f"Name {part.name} without a map and probe a part that is set apart (`--probe 0.3`), or "
                    "probe other records.",
                )


def remarks(recipes: Sequence[AnyRecipe], population: Population) -> list[Notice]:
    """What a reader must know of each recipe besides its numbers."""
    found = []
    for recipe in recipes:
        for part in chain(recipe.defence):
            if text := part.remark(recipe.defence):
                found.append(Notice(severity="critical", text=f"{recipe.name}: {text}"))
        for part in _with_map(recipe):
            if read_json(Path(part.map)).get("apart_from") != population.fingerprint:
                found.append(_unknown(recipe, part))
    return found


def _with_map(recipe: AnyRecipe) -> list[PPTPReconstruction]:
    return [part for part in chain(recipe.defence) if isinstance(part, PPTPReconstruction) and part.map]


def _fingerprint(part: PPTPReconstruction) -> str | None:
    data = read_json(Path(part.map)).get("data")
    return data.get("fingerprint") if isinstance(data, dict) else None


def _unknown(recipe: AnyRecipe, part: PPTPReconstruction) -> Notice:
    return Notice(
        severity="critical",
        text=f"The regions that {recipe.name} protects come from {Path(part.map).name}. Whether records that are "
        "attacked here were probed for it cannot be told from the map: if they were, the numbers flatter the defence.",
        remedy="Use a map of records that are in no game of this record; `--probe 0.3` sets some apart and probes them "
        "first.",
    )
