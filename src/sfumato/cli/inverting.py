"""Attacks of both kinds by name, and the settings of inversion, from a configuration file and from a command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from sfumato.attacks.catalogue import attacks, inversions, usual_inversions
from sfumato.attacks.inversion.base import InversionAttack
from sfumato.attacks.membership.base import MembershipAttack
from sfumato.audit.inversion.settings import InversionSettings
from sfumato.audit.settings import AuditSettings
from sfumato.cli.fields import make, names, read, shown
from sfumato.cli.spelling import method, words
from sfumato.data.population import Population
from sfumato.errors import UsageError
from sfumato.registry import lookup

ALL = "inversion"  # stands for all usual attacks of that kind
AnyAttack = MembershipAttack | InversionAttack[Any]


class Chosen(NamedTuple):
    """Attacks, each where it belongs."""

    membership: tuple[MembershipAttack, ...]
    inversion: tuple[InversionAttack[Any], ...]


def known_attacks() -> dict[str, type[Any]]:
    """Every attack of both kinds by its name, membership first."""
    return {**attacks(), **inversions()}


def parted(given: Sequence[AnyAttack]) -> Chosen:
    """Membership attacks and inversion attacks apart, each in the order given."""
    return Chosen(
        tuple(one for one in given if isinstance(one, MembershipAttack)),
        tuple(one for one in given if isinstance(one, InversionAttack)),
    )


def named(text: str) -> Chosen:
    """The attacks that names with commas between stand for; `inversion` is all usual ones of that kind.

    What is named by itself keeps its own numbers: `inversion,miface(steps=50)` has one miface.
    """
    given = words(text)
    own = [method(word, known_attacks(), "attack") for word in given if word != ALL]
    taken = {one.method for one in own}
    usual = [one for one in usual_inversions() if one.method not in taken] if ALL in given else []
    return parted([*own, *usual])


def from_table(table: Mapping[str, Any]) -> AnyAttack:
    """One [[attack]] of a configuration file."""
    kind = lookup(known_attacks(), "attack", str(table.get("name", "")))
    return make(kind, {key: value for key, value in table.items() if key != "name"}, f"attack {kind.name}")


def attack_tables(settings: AuditSettings) -> list[dict[str, Any]]:
    """Inverse of `from_table`: `name` is the method's, and `called` stands there where it has another."""
    every: list[AnyAttack] = [*settings.attacks, *(settings.inversion.attacks if settings.inversion else ())]
    return [
        {"name": one.method, **{key: value for key, value in shown(one).items() if (key, value) != ("called", "")}}
        for one in every
    ]


def inversion_table(settings: AuditSettings) -> dict[str, Any]:
    """The table [inversion]; empty where nothing is inverted, and for fields that are as usual and empty."""
    if settings.inversion is None:
        return {}
    return {key: value for key, value in shown(settings.inversion).items() if key != "attacks"}


def inversion_settings(
    chosen: Sequence[InversionAttack[Any]],
    table: Mapping[str, Any],
    base: InversionSettings | None = None,
    where: str = "[inversion]",
) -> InversionSettings | None:
    """How inversion is audited; None where no attack of that kind is named.

    Args:
        chosen: the attacks.
        table: fields that were given.
        base: settings that hold where the table is silent.
        where: the table stands, for errors.

    Raises:
        UsageError: for fields of inversion without an attack that could read them.
    """
    given = read(InversionSettings, table, where, without=("attacks",))
    if not chosen:
        if given:
            raise UsageError(
                f"Expected an inversion attack for `{next(iter(given))}` of {where}, got none.",
                remedy="Name one, or all usual ones: --attacks inversion. See `sfumato list attacks`.",
            )
        return None
    kept = {key: getattr(base, key) for key in names(InversionSettings) if key != "attacks"} if base else {}
    if given.get("public"):
        kept["public_classes"] = ()  # public records come from one place, the one named last
    if given.get("public_classes"):
        kept["public"] = ""
    return InversionSettings(attacks=tuple(chosen), **{**kept, **given})


def without_public(settings: AuditSettings, public: Population | None) -> list[str]:
    """Lines about attacks that will not run because no public records are given.

    Raises:
        UsageError: if nothing else would run.
    """
    inversion = settings.inversion
    if inversion is None or public is not None:
        return []
    lacking = [one.method for one in inversion.attacks if one.needs_public and one.game != "attribute"]
    if not lacking:
        return []
    remedy = "Name them by --public SOURCE, or classes of the data by --public-classes A,B."
    if len(lacking) == len(inversion.attacks) and not settings.attacks:
        raise UsageError(f"Expected public records for {', '.join(lacking)}, got none.", remedy=remedy)
    return [f"{', '.join(lacking)}: not run, because public records of other classes are needed. {remedy}"]


def share_of(text: str | None) -> str | None:
    """`--public` as a share of the units, or None where it names a source."""
    return text if text is not None and _is_number(text) else None


def source_of(text: str | None) -> str | None:
    """`--public` as a source of public records, or None where it is a share."""
    return None if text is None or _is_number(text) else text


def with_queries(chosen: Chosen, queries: Mapping[str, Any]) -> Chosen:
    """Membership attacks that ask as told.

    Raises:
        UsageError: if there are none that could.
    """
    if queries and not chosen.membership:
        name = next(iter(queries))
        raise UsageError(
            f"Expected a membership attack for --{name}, got only inversion.", remedy="Leave the option out."
        )
    return chosen._replace(membership=tuple(replace(attack, **queries) for attack in chosen.membership))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
