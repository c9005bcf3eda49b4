"""Charging the steps of a release to the ledger of the people concerned."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path

from sfumato.accounting.ledger import Ledger
from sfumato.accounting.meter import Meter
from sfumato.cli.options import TrainOptions
from sfumato.data.population import Population
from sfumato.errors import UsageError
from sfumato.training.composition import update_of
from sfumato.training.recipe import Recipe


@dataclass(frozen=True)
class Charging:
    """One run in a ledger, as a training loop charges it."""

    ledger: Ledger
    meter: Meter

    def step(self) -> None:
        """Pay for one step; returns before the step may be released, or refuses it."""
        self.meter.charge(1)

    def close(self) -> None:
        """End the run; steps that were paid for and never taken are given back."""
        self.meter.close()

    def statement(self) -> str:
        """What all trainings on these people together have spent."""
        return self.ledger.guarantee().statement


def charging(options: TrainOptions, recipe: Recipe, population: Population) -> Charging | None:
    """The ledger's run for this training, or None where no ledger was named.

    Raises:
        UsageError: if the ledger or the name is given alone, or the recipe has no private update.
        NotPrivateError: if the training would spend more than was declared for these people.
    """
    if options.ledger is None and options.people is None:
        return None
    if options.ledger is None or options.people is None:
        raise UsageError(
            f"Expected --ledger and --people together, got {options.ledger!r} and {options.people!r}.",
            remedy="A ledger folder holds one ledger for each name of people.",
        )
    plan = update_of(recipe.defence, population)
    if plan is None:
        raise UsageError(
            f"Expected a recipe with a private update for a ledger, got {recipe.name}.",
            remedy="Only private steps can be charged; use --defence dpsgd, or leave --ledger out.",
        )
    ledger = Ledger.open(Path(options.ledger).expanduser(), options.people)
    run = f"{Path(options.out or 'model').name}-{secrets.token_hex(4)}"
    mechanism = plan.mechanism(audit_only=False)
    return Charging(ledger, ledger.begin(run, mechanism, config=recipe.spec(), fingerprint=population.fingerprint))
