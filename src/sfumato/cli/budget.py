"""The one dial: how many models, and which attacks, fit into a given time."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from sfumato.audit.plan import Plan, plan
from sfumato.audit.settings import AuditSettings
from sfumato.data.population import Population
from sfumato.errors import UsageError
from sfumato.execution.progress import duration
from sfumato.execution.store import Store
from sfumato.training.recipe import AnyRecipe

STEPS = (64, 32, 16, 8, 4)
_UNITS = {"s": 1, "sec": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}


@dataclass(frozen=True)
class Fitted:
    """Settings that fit into the budget, and the sentence that says what was chosen."""

    settings: AuditSettings
    sentence: str


def seconds_of(text: str) -> float:
    """Seconds from "90s", "30min", "1.5h"."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-z]+)\s*", text.lower())
    if found is None or found.group(2) not in _UNITS or float(found.group(1)) == 0:
        raise UsageError(
            f"Expected a time such as 90s, 30min or 2h, got {text!r}.", remedy="Give a number with its unit."
        )
    return float(found.group(1)) * _UNITS[found.group(2)]


def fitted(
    population: Population,
    recipes: Sequence[AnyRecipe],
    settings: AuditSettings,
    store: Store,
    budget: str,
    *,
    steps: Sequence[int] = STEPS,
) -> Fitted:
    """The most models, and with them the most attacks, whose pessimistic estimate fits.

    Args:
        population: the records.
        recipes: what is compared.
        settings: everything but the number of models; its attacks are the most that are tried.
        store: what is stored already costs nothing.
        budget: as `seconds_of` reads it.
        steps: numbers of models to try, falling.

    Raises:
        UsageError: if even the least does not fit, or the time of a recipe cannot be measured beforehand.
    """
    limit = seconds_of(budget)
    lean = tuple(attack for attack in settings.attacks if not attack.needs().fits_per_target)
    needed = 0.0
    fewest = 0 if settings.inversion is None else settings.inversion.targets
    for models in [step for step in steps if step >= fewest] or steps[:1]:
        for attacks in dict.fromkeys((settings.attacks, lean)):
            if not attacks and settings.attacks:
                continue
            kept = {attack.name for attack in attacks}
            named = tuple(name for name in settings.draws_attacks if name in kept)
            tried = replace(settings, models=models, attacks=attacks, draws_attacks=named)
            found = plan(population, recipes, tried, store)
            needed = pessimistic(found)
            if needed <= limit:
                return Fitted(tried, _sentence(budget, settings, tried, found))
    raise UsageError(
        f"Expected a budget that {steps[-1]} models per recipe fit into (about {duration(needed)}), got {budget}.",
        remedy="Give more time, fewer records (`--records`), fewer recipes, or fewer epochs (`--set epochs=10`).",
    )


def pessimistic(found: Plan) -> float:
    """Seconds, at the high end, an attack's own network counted as one more model."""
    cost = found.cost
    if cost.seconds_high is None:
        raise UsageError(
            f"Expected recipes whose time can be measured, got {', '.join(cost.unknown)}.",
            remedy="Run it once with `--models 2`; the seconds are then known from the store.",
        )
    per_model = cost.seconds_high / cost.models_to_train if cost.models_to_train else 0.0
    return cost.seconds_high + per_model * found.fits


def _sentence(budget: str, asked: AuditSettings, chosen: AuditSettings, found: Plan) -> str:
    left_out = [attack.name for attack in asked.attacks if attack not in chosen.attacks]
    without = f"; left out: {', '.join(left_out)} (they train networks of their own)" if left_out else ""
    low, high = found.cost.seconds_low or 0.0, pessimistic(found)
    return (
        f"Budget {budget}: {chosen.models} models per recipe, {len(chosen.attacks)} attacks, about {duration(low)} to "
        f"{duration(high)}{without}."
    )
