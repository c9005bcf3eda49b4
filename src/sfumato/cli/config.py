"""One run as one value, and as one TOML file: the file is a dump of the objects, and is read back strictly."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sfumato.attacks.catalogue import attacks, default_attacks
from sfumato.attacks.membership.base import MembershipAttack
from sfumato.audit.settings import AuditSettings
from sfumato.cli import catalogue
from sfumato.cli.fields import complete, make, read, shown, unknown
from sfumato.cli.spelling import typical
from sfumato.cli.toml_text import toml_text
from sfumato.errors import UsageError
from sfumato.registry import lookup
from sfumato.training.defence import Defence
from sfumato.training.presets.base import Preset, presets

COMPARED = ("undefended", "label-smoothing", "early-stopping", "mixup")
TABLES = ("data", "recipe", "defence", "attack", "audit", "run")


@dataclass(frozen=True, kw_only=True)
class DataChoice:
    """Which data: what `open_source` takes, how many records of it, and how many of their units become canaries."""

    source: str
    records: int | None = None
    canaries: Mapping[str, int] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class RecipeChoice:
    """What is trained.

    Args:
        name: of a preset; None for the one that suits the data.
        fields: of the preset, where they differ from its own.
        model: `file.py:function` that makes the user's own network, in place of the preset's.
        train: `file.py:function`s that train by themselves.
        estimators: scikit-learn classifiers by name, or `file.py:function`s that make one.
    """

    name: str | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)
    model: str = ""
    train: tuple[str, ...] = ()
    estimators: tuple[str, ...] = ()

    @property
    def uses_preset(self) -> bool:
        """Whether a preset is among what is trained: it is left out where only something else was named."""
        return self.name is not None or bool(self.model) or not (self.train or self.estimators)

    def preset(self, kind: str) -> Preset:
        """The preset for a population of this kind, with the fields that were given."""
        name = self.name or catalogue.default_recipe(kind)
        return make(lookup(presets(), "recipe", name), self.fields, f"recipe {name}")


@dataclass(frozen=True, kw_only=True)
class RunChoice:
    """How and where to run: nothing that changes a result."""

    executor: str = "auto"
    store: str | None = None
    out: str | None = None
    checks: str | None = None
    title: str = ""


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Everything that a comparison or an audit needs."""

    data: DataChoice
    recipe: RecipeChoice = field(default_factory=RecipeChoice)
    defences: tuple[Defence, ...] = ()
    audit: AuditSettings = field(default_factory=lambda: AuditSettings(attacks=tuple(default_attacks())))
    run: RunChoice = field(default_factory=RunChoice)

    def resolved(self, kind: str) -> RunConfig:
        """The same with every field of the preset written out, where one is used."""
        if not self.recipe.uses_preset:
            return self
        preset = self.recipe.preset(kind)
        return replace(self, recipe=replace(self.recipe, name=preset.name, fields=shown(preset)))


def load(path: Path) -> RunConfig:
    """Read a configuration file.

    Raises:
        UsageError: for a file that is no TOML, an unknown table, key or method (with the nearest name), or a value
            that does not fit.
    """
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(
            f"Expected a configuration file at {path}, got {error}.",
            remedy="`sfumato compare digits --dump-config run.toml` writes one.",
        ) from error
    return from_tables(raw)


def from_tables(raw: Mapping[str, Any]) -> RunConfig:
    """The run that the tables of a configuration file describe."""
    for key in raw:
        if key not in TABLES:
            raise unknown(key, list(TABLES), "the configuration")
    several = {key: _tables(raw, key) for key in ("defence", "attack")}
    single = {key: _table(raw, key) for key in ("data", "recipe", "audit", "run")}
    chosen = tuple(_attack(table) for table in several["attack"]) or tuple(default_attacks())
    return RunConfig(
        data=_data(single["data"]),
        recipe=_recipe(single["recipe"]),
        defences=tuple(defence_from(table) for table in several["defence"]),
        audit=audit_settings(single["audit"], chosen),
        run=make(RunChoice, single["run"], "[run]"),
    )


def dump(config: RunConfig) -> str:
    """The configuration file of a run."""
    data, recipe = config.data, config.recipe
    given = {"records": data.records, "canaries": dict(data.canaries) or None}
    own_data = {key: value for key, value in given.items() if value is not None}
    own = {key: getattr(recipe, key) for key in ("model", "train", "estimators") if getattr(recipe, key)}
    document = {
        "data": {"source": data.source, **own_data, **data.options},
        "recipe": {**({"name": recipe.name} if recipe.name else {}), **_plain(own), **_plain(recipe.fields)},
        "defence": [defence_table(defence) for defence in config.defences],
        "attack": [{"name": attack.name, **shown(attack)} for attack in config.audit.attacks],
        "audit": {key: value for key, value in shown(config.audit).items() if key != "attacks"},
        "run": {key: value for key, value in shown(config.run).items() if value != ""},
    }
    head = "# A run of sfumato. Repeat it with: sfumato compare --config THIS_FILE\n\n"
    return head + toml_text({key: value for key, value in document.items() if value})


def audit_settings(table: Mapping[str, Any], chosen: tuple[MembershipAttack, ...]) -> AuditSettings:
    """Settings from a table without `attacks`, which are objects."""
    return replace(AuditSettings(attacks=chosen), **read(AuditSettings, table, "[audit]", without=("attacks",)))


def defence_from(table: Mapping[str, Any]) -> Defence:
    """A defence and what it wraps, from a table with its `name`, fields, and `inner` for a wrapped one."""
    plain = {key: value for key, value in table.items() if key not in ("name", "inner")}
    kind = lookup(catalogue.defences(), "defence", str(table.get("name", "")))
    values = read(kind, plain, f"defence {kind.name}", without=("inner",))
    made = complete(kind, values, f"[[defence]] {kind.name}", ", ".join(toml_text(typical(kind)).splitlines()))
    return replace(made, inner=defence_from(_table(table, "inner"))) if "inner" in table else made


def defence_table(defence: Defence) -> dict[str, Any]:
    """Inverse of `defence_from`."""
    plain = {key: value for key, value in shown(defence).items() if key != "inner"}
    return {"name": defence.name, **plain, **({"inner": defence_table(defence.inner)} if defence.inner else {})}


def _attack(table: Mapping[str, Any]) -> MembershipAttack:
    kind = lookup(attacks(), "attack", str(table.get("name", "")))
    return make(kind, {key: value for key, value in table.items() if key != "name"}, f"attack {kind.name}")


def _data(table: Mapping[str, Any]) -> DataChoice:
    own = {key: table[key] for key in ("source", "records", "canaries") if key in table}
    if "source" not in own:
        raise UsageError("Expected data, got none.", remedy="Name them, for instance: sfumato compare digits")
    rest = {key: value for key, value in table.items() if key not in own}
    return replace(make(DataChoice, own, "[data]"), options=rest)


def _recipe(table: Mapping[str, Any]) -> RecipeChoice:
    own = {key: table[key] for key in ("name", "model", "train", "estimators") if key in table}
    rest = {key: value for key, value in table.items() if key not in own}
    made = replace(make(RecipeChoice, own, "[recipe]"), fields=rest)
    if made.name is not None:
        made.preset("")
    return made


def _table(raw: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = raw.get(key, {})
    if not isinstance(value, Mapping):
        raise UsageError(f"Expected a table [{key}], got {type(value).__name__}.", remedy=f"Write [{key}] on a line.")
    return value


def _tables(raw: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    value = raw.get(key, [])
    if not isinstance(value, list) or not all(isinstance(item, Mapping) for item in value):
        raise UsageError(
            f"Expected tables [[{key}]], got {type(value).__name__}.", remedy=f"Write [[{key}]] on a line."
        )
    return value


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}
