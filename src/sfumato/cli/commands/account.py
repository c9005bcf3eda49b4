"""`sfumato account`: what noisy training costs, or what keeps a budget, before anything is trained."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from sfumato.cli.options import takes
from sfumato.cli.screen import Screen
from sfumato.errors import UsageError

UNKNOWNS = ("noise_multiplier", "steps", "sample_rate")
DIGITS = 4


@dataclass(frozen=True, kw_only=True)
class AccountOptions:
    """The numbers of a training by DP-SGD with Poisson sampling."""

    delta: Annotated[float, typer.Option(help="Probability with which the bound may fail, e.g. 1e-6.")]
    sample_rate: Annotated[
        float | None, typer.Option(help="Probability of a unit to take part in a step, e.g. 256/60000 = 0.0042667.")
    ] = None
    noise_multiplier: Annotated[
        float | None, typer.Option(help="Standard deviation of the noise over the clipping norm.")
    ] = None
    steps: Annotated[int | None, typer.Option(help="Number of noisy steps.")] = None
    target_epsilon: Annotated[
        float | None, typer.Option(help="Find the one of rate, noise and steps that is left out.")
    ] = None
    adjacency: Annotated[str, typer.Option(help="ADD_OR_REMOVE_ONE, REPLACE_ONE or REPLACE_SPECIAL.")] = (
        "ADD_OR_REMOVE_ONE"
    )
    as_json: Annotated[bool, typer.Option("--json", help="Print an object: accountant to epsilon.")] = False


@takes(AccountOptions)
def account(context: typer.Context, options: AccountOptions) -> int:
    """Say which epsilon noisy steps cost, or which noise, steps or rate keep a target."""
    screen, known = Screen("plain", options.as_json), {name: getattr(options, name) for name in UNKNOWNS}
    missing = [name for name, value in known.items() if value is None]
    if options.target_epsilon is None and not missing:
        found: dict[str, Any] = {}
    elif options.target_epsilon is not None and len(missing) == 1:
        found = {missing[0]: _calibrated(missing[0], options)}
    else:
        raise UsageError(
            "Expected --sample-rate, --noise-multiplier and --steps, or two of them and --target-epsilon, got "
            f"{', '.join('--' + name.replace('_', '-') for name in known if name not in missing) or 'none of them'}"
            f"{' and a target' if options.target_epsilon is not None else ''}.",
            remedy="The one that is left out is found for the target.",
        )
    epsilons = _epsilons(known | found, options, screen)
    screen.document(found | epsilons)
    _shown(known | found, found, epsilons, options, screen)
    return 0


def _calibrated(unknown: str, options: AccountOptions) -> float:
    from sfumato.accounting import calibrate

    search = getattr(calibrate, f"calibrate_{unknown.removesuffix('_multiplier')}")
    given = {name: getattr(options, name) for name in UNKNOWNS if name != unknown}
    return search(
        target_epsilon=options.target_epsilon, target_delta=options.delta, adjacency=options.adjacency, **given
    )


def _epsilons(numbers: dict[str, Any], options: AccountOptions, screen: Screen) -> dict[str, float | None]:
    from sfumato.accounting.adjacency import Adjacency
    from sfumato.accounting.catalogue import accountants
    from sfumato.accounting.guarantee import rounded_up
    from sfumato.accounting.mechanisms.poisson_gaussian import PoissonGaussian

    mechanism = PoissonGaussian(**numbers, adjacency=Adjacency.named(options.adjacency))
    found: dict[str, float | None] = {}
    for name, accountant in accountants().items():
        reason = accountant().why_not(mechanism)
        value = math.inf if reason else accountant().epsilon([mechanism], options.delta)
        if not math.isfinite(value):
            screen.note(f"{name}: {reason or 'nothing is bounded without noise'}.")
        found[name] = float(rounded_up(value, DIGITS)) if math.isfinite(value) else None
    return found


def _shown(
    numbers: dict[str, Any],
    found: dict[str, Any],
    epsilons: dict[str, float | None],
    options: AccountOptions,
    screen: Screen,
) -> None:
    from sfumato.accounting.adjacency import Adjacency
    from sfumato.accounting.catalogue import accountants

    for name, value in found.items():
        screen.say(f"{name} = {value:.7g} keeps epsilon {options.target_epsilon:g} at delta {options.delta:g}.")
    relation = Adjacency.named(options.adjacency)
    screen.say(
        f"Neighbours: {relation.words} ({relation}). Poisson sampling at rate {numbers['sample_rate']:.7g}, "
        f"noise multiplier {numbers['noise_multiplier']:.7g}, {numbers['steps']} steps, delta {options.delta:g}."
    )
    rows = [
        [name, "not bounded" if value is None else f"{value:g}", accountants()[name].words]
        for name, value in epsilons.items()
    ]
    screen.table(["accountant", "epsilon", "meaning"], rows, numbers=False)
    screen.say("Epsilons are upper bounds, rounded up. The one to state is pld.")
