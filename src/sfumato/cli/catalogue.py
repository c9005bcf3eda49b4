"""What can be named on the command line, each family as found by discovery."""

from __future__ import annotations

import importlib
import inspect
from dataclasses import MISSING, fields
from typing import Any, NamedTuple

from sfumato.attacks.inversion.base import InversionAttack
from sfumato.audit.defences import needs_of
from sfumato.cli.inverting import known_attacks
from sfumato.models.base import ModelFamily
from sfumato.private.clipping.choice import clippings
from sfumato.registry import discover
from sfumato.training.defence import Defence, chain
from sfumato.training.presets.base import default_preset, presets
from sfumato.validate import one_of


class Entry(NamedTuple):
    """One line of `sfumato list`."""

    name: str
    family: str
    reference: str
    summary: str
    bibtex: str
    details: dict[str, Any]  # of defences: reconstruction, needs, ...; of inversion attacks: reconstruction, game, ...


def defences() -> dict[str, type[Defence]]:
    """All defences by name."""
    return discover(importlib.import_module("sfumato.defences"), Defence)


def models() -> dict[str, type[ModelFamily]]:
    """All kinds of network by name."""
    return discover(importlib.import_module("sfumato.models"), ModelFamily)


def default_recipe(kind: str) -> str:
    """Name of the preset for data of this kind."""
    return default_preset(kind).name


FAMILIES = {
    "attacks": known_attacks, "defences": defences, "models": models, "recipes": presets, "clippings": clippings,
}  # fmt: skip


def entries(family: str) -> list[Entry]:
    """All methods of a family, one of `FAMILIES`."""
    one_of("family", family, FAMILIES)
    return [_entry(name, kind) for name, kind in FAMILIES[family]().items()]


def defence_label(defence: Defence) -> str:
    """How a defence is called in tables: names outermost first, with the fields that differ from the defaults.

    Fields without a default are left out: they would make every name long, and stand in the record.
    """
    return "+".join(_with_fields(part) for part in chain(defence))


def _with_fields(part: Defence) -> str:
    usual = {field.name: field.default for field in fields(part) if field.repr and field.default is not MISSING}
    own = {key: vars(part)[key] for key in usual if key != "inner" and vars(part)[key] != usual[key]}
    return part.name + (f"({','.join(f'{key}={value}' for key, value in own.items())})" if own else "")


def _entry(name: str, kind: Any) -> Entry:
    summary = getattr(kind, "summary", "") or (inspect.getdoc(kind) or "").split("\n\n")[0].replace("\n", " ")
    family = getattr(kind, "family", "clipping")
    details = _details(kind.example()) if issubclass(kind, Defence) else {}
    if issubclass(kind, InversionAttack):
        details = {"reconstruction": kind.reconstruction, "game": kind.game, "access": kind.threat_model.access,
                   "needs_public": kind.needs_public, "usual": kind.usual}  # fmt: skip
    return Entry(name, family, kind.reference, summary, getattr(kind, "bibtex", ""), details)


def _details(example: Defence) -> dict[str, Any]:
    return {
        "reconstruction": example.reconstruction,
        "needs": needs_of(example),
        "guard": type(example).guard is not Defence.guard,
        "couples": example.couples,
        "trainings": example.trainings,
        "branches": list(example.branches),
        "canary": example.canary,
        "adaptive": list(example.adaptive),
    }
