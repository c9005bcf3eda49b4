"""All attacks by name, and the ones that a comparison of recipes runs unless told otherwise.

Membership attacks and inversion attacks play different games; `attacks` are the former, `inversions` the latter.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from sfumato import registry
from sfumato.attacks import inversion, membership
from sfumato.attacks.inversion.base import InversionAttack
from sfumato.attacks.membership.base import MembershipAttack
from sfumato.attacks.membership.bavaria import BaVarIA
from sfumato.attacks.membership.calibration import Calibration
from sfumato.attacks.membership.lira import LiRAOnline
from sfumato.attacks.membership.loss import LossThreshold
from sfumato.attacks.membership.rmia import RMIA


class Listing(NamedTuple):
    """One line of `sfumato list attacks`."""

    name: str
    family: str
    reference: str
    summary: str


class DefaultAttacks(NamedTuple):
    """From the cheapest to the default attack; all read the same answers, so each costs next to nothing."""

    loss: LossThreshold
    calibration: Calibration
    lira: LiRAOnline
    rmia: RMIA
    bavaria: BaVarIA


def attacks() -> dict[str, type[MembershipAttack]]:
    """Every membership attack by its name, sorted."""
    return registry.discover(membership, MembershipAttack)


def inversions() -> dict[str, type[InversionAttack[Any]]]:
    """Every inversion attack by its name, sorted."""
    return registry.discover(inversion, InversionAttack)


def usual_inversions() -> tuple[InversionAttack[Any], ...]:
    """What `inversion` stands for where attacks are named: those that are quick and need no file of the user's."""
    return tuple(kind() for kind in inversions().values() if kind.usual)


def listings() -> tuple[Listing, ...]:
    """Name, family, citation key and summary of every attack, membership first."""
    found = [*attacks().values(), *inversions().values()]
    return tuple(Listing(a.name, a.family, a.reference, a.summary) for a in found)


def default_attacks(queries: int = 1, augmentation: str = "none") -> DefaultAttacks:
    """The default attacks, all with the same queries, so that what they score can be compared."""
    return DefaultAttacks(
        LossThreshold(queries=queries, augmentation=augmentation),
        Calibration(queries=queries, augmentation=augmentation),
        LiRAOnline(queries=queries, augmentation=augmentation),
        RMIA(queries=queries, augmentation=augmentation),
        BaVarIA(queries=queries, augmentation=augmentation),
    )
