"""A run at full strength: the protocol's canaries and attacks, once the data and the defences are known."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from sfumato.attacks.catalogue import attacks
from sfumato.attacks.membership.base import MembershipAttack
from sfumato.audit.settings import AuditSettings
from sfumato.audit.strength import FULL, FullStrength, full_strength
from sfumato.cli.config import RunConfig
from sfumato.cli.contenders import contenders
from sfumato.cli.opening import open_data
from sfumato.cli.screen import Screen
from sfumato.cli.spelling import method
from sfumato.data.canaries import with_canaries
from sfumato.data.population import Population
from sfumato.errors import UsageError


class Opened(NamedTuple):
    """A run with its data, and the public records that attackers by inversion have."""

    config: RunConfig
    population: Population
    public: Population | None = None


def opened(config: RunConfig, screen: Screen) -> Opened:
    """The data, and the run as the protocol wants it where it is asked for at full strength; says what was chosen."""
    if config.audit.strength != FULL:
        return Opened(config, *open_data(config.data, config.audit))
    plain, public = open_data(replace(config.data, canaries={}), config.audit)
    defences = [recipe.defence for recipe in contenders(config, plain)]
    given = config.data.canaries
    found = full_strength(plain.kind, plain.units, defences, config.audit, attack_from, given)
    for line in _told(found):
        screen.note(line)
    strong = replace(config, audit=found.settings, data=replace(config.data, canaries=found.canaries))
    return Opened(strong, with_canaries(plain, found.canaries, config.audit.seed), public)


def attack_from(text: str) -> MembershipAttack:
    """An attack from its spelling on a command line."""
    return method(text, attacks(), "attack")


def refuse_full(settings: AuditSettings, what: str) -> None:
    """Refuse full strength where nothing is trained again and again.

    Raises:
        UsageError: if it is asked for.
    """
    if settings.strength == FULL:
        raise UsageError(
            f"Expected a recipe for full strength, got {what}: its protocol trains models of its own.",
            remedy="Leave `strength` out, or compare recipes: sfumato compare DATA --strength full",
        )


def _told(found: FullStrength) -> list[str]:
    canaries = ", ".join(f"{count} {kind}" for kind, count in found.canaries.items())
    names = ", ".join(attack.name for attack in found.settings.attacks)
    return [f"Full strength: {found.settings.models} models per recipe; canaries: {canaries}; attacks: {names}.",
            *found.scaled]  # fmt: skip
