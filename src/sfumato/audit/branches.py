"""Branches of an objective that no step took: then the method that was tested is not the method that was meant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sfumato.audit.record import Notice
from sfumato.training.defence import Defence, chain

TALLIES = "tallies"


def never_taken(defence: Defence, tallies: Sequence[Mapping[str, float]]) -> dict[str, list[str]]:
    """Name of a part -> those of its `branches` in which no model spent a step; parts without such are left out.

    Args:
        defence: as it was trained.
        tallies: branch -> steps, one per model; no model means that nothing can be said.
    """
    if not tallies:
        return {}
    found = {
        part.name: [branch for branch in part.branches if not any(steps.get(branch, 0.0) > 0 for steps in tallies)]
        for part in chain(defence)
    }
    return {name: branches for name, branches in found.items() if branches}


def branch_notices(name: str, defence: Defence, facts: Sequence[Mapping[str, object]]) -> list[Notice]:
    """One notice for each part whose branches never fired in the models of a recipe.

    Args:
        name: of the recipe.
        defence: of the recipe.
        facts: stored facts of its models.
    """
    counted = [one for one in facts if not _private(one)]
    tallies = [found for one in counted if isinstance(found := one.get(TALLIES), Mapping)]
    models = "the model" if len(facts) == 1 else f"any of the {len(facts)} models"
    return [
        Notice(
            severity="theoretical",
            text=f"{name}: {part} never took {_listed(branches)} in {models}, so that was not part of what was tested.",
            remedy="Check its settings (a target that was never reached, a switch that is off), or train for longer.",
        )
        for part, branches in never_taken(defence, tallies).items()
    ]


def _private(facts: Mapping[str, object]) -> bool:
    """Whether the steps were private ones, which see single examples and count no branches."""
    kernels = facts.get("kernels")
    return isinstance(kernels, Mapping) and "private" in kernels


def _listed(branches: Sequence[str]) -> str:
    return f"the branch {branches[0]!r}" if len(branches) == 1 else f"the branches {', '.join(map(repr, branches))}"
