"""One run as one value, and as one TOML file: the file is a dump of the objects, and is read back strictly."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sfumato.attacks.catalogue import default_attacks
from sfumato.attacks.membership.base import MembershipAttack
from sfumato.audit.inversion.settings import InversionSettings
from sfumato.audit.probing.first import ProbeFirst
from sfumato.audit.settings import AuditSettings
from sfumato.audit.strength import FULL, MODELS
from sfumato.audit.tuning import Tuning
from sfumato.cli import catalogue
from sfumato.cli.fields import complete, make, read, shown, unknown
from sfumato.cli.inverting import attack_tables, from_table, inversion_settings, inversion_table, parted
from sfumato.cli.spelling import typical
from sfumato.cli.toml_text import toml_text
from sfumato.defences.undefended import Undefended
from sfumato.errors import UsageError
from sfumato.registry import lookup
from sfumato.training.defence import Defence
from sfumato.training.presets.base import Preset, presets

COMPARED = ("undefended", "label-smoothing", "early-stopping", "mixup")
DATA_KEYS = ("source", "records", "owners", "planted", "canaries")
OBJECTS = ("attacks", "inversion")  # of the audit's settings: they have tables of their own
TABLES = ("data", "recipe", "defence", "contender", "tune", "probe", "attack", "inversion", "audit", "run")


@dataclass(frozen=True, kw_only=True)
class DataChoice:
    """Which data: what `open_source` takes, how many records of it, and how many of their units become canaries.

    Args:
        source: as on a command line.
        records: how many, at random by unit; None for all.
        owners: records of each made-up owner, see `data.owners`; None where the data's own unit counts.
        planted: wrong labels of each made-up owner.
        canaries: kind -> how many.
        options: of the source.
    """

    source: str
    records: int | None = None
    owners: int | None = None
    planted: int | None = None
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

    def resolved(self, kind: str) -> RecipeChoice:
        """The same with the preset named and every field of it written out."""
        preset = self.preset(kind)
        return replace(self, name=preset.name, fields=shown(preset))


@dataclass(frozen=True, kw_only=True)
class Contender:
    """One of several networks that are compared: a preset of its own, behind a defence of its own.

    Args:
        name: in tables; each contender has another one.
        recipe: a preset, or the user's own network in place of the preset's.
        defence: what it is trained behind.
    """

    name: str
    recipe: RecipeChoice = field(default_factory=RecipeChoice)
    defence: Defence = field(default_factory=Undefended)

    def __post_init__(self) -> None:
        if not self.name:
            raise UsageError("Expected a `name` for each [[contender]], got none.", remedy='Write name = "resnet".')
        if self.recipe.train or self.recipe.estimators:
            raise UsageError(
                f"Expected a preset as the recipe of the contender {self.name!r}, got a training or classifiers of "
                "your own.",
                remedy="Name them in [recipe], in a run without [[contender]].",
            )


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
    """Everything that a comparison or an audit needs: one recipe behind several defences, or several contenders."""

    data: DataChoice
    recipe: RecipeChoice = field(default_factory=RecipeChoice)
    defences: tuple[Defence, ...] = ()
    contenders: tuple[Contender, ...] = ()
    tune: tuple[Tuning, ...] = ()
    probe: ProbeFirst | None = None
    audit: AuditSettings = field(default_factory=lambda: AuditSettings(attacks=tuple(default_attacks())))
    run: RunChoice = field(default_factory=RunChoice)

    def __post_init__(self) -> None:
        names = [contender.name for contender in self.contenders]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise UsageError(
                f"Expected contenders with distinct names, got {twice[0]!r} {names.count(twice[0])} times.",
                remedy="Give each [[contender]] a `name` of its own.",
            )
        if self.contenders and self.recipe != RecipeChoice():
            raise beside_contenders("[recipe]")
        if self.contenders and self.defences:
            raise beside_contenders("[[defence]]")

    def resolved(self, kind: str) -> RunConfig:
        """The same with every field of the presets written out, where any are used."""
        if self.contenders:
            written = (replace(one, recipe=one.recipe.resolved(kind)) for one in self.contenders)
            return replace(self, contenders=tuple(written))
        return replace(self, recipe=self.recipe.resolved(kind)) if self.recipe.uses_preset else self


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
    several = {key: _tables(raw, key) for key in ("defence", "contender", "attack")}
    single = {key: _table(raw, key) for key in ("data", "recipe", "audit", "run")}
    chosen = parted([from_table(table) for table in several["attack"]] or default_attacks())
    inversion = inversion_settings(chosen.inversion, _table(raw, "inversion"))
    return RunConfig(
        data=_data(single["data"]),
        recipe=_recipe(single["recipe"]),
        defences=tuple(defence_from(table) for table in several["defence"]),
        contenders=tuple(_contender(table) for table in several["contender"]),
        tune=tuple(_tuning(table) for table in _tuned(raw)),
        probe=make(ProbeFirst, _table(raw, "probe"), "[probe]") if "probe" in raw else None,
        audit=audit_settings(single["audit"], chosen.membership, inversion),
        run=make(RunChoice, single["run"], "[run]"),
    )


def dump(config: RunConfig) -> str:
    """The configuration file of a run."""
    data = config.data
    own = ("records", "owners", "planted")
    given = {**{key: getattr(data, key) for key in own}, "canaries": dict(data.canaries) or None}
    own_data = {key: value for key, value in given.items() if value is not None}
    document = {
        "data": {"source": data.source, **own_data, **data.options},
        "recipe": _recipe_table(config.recipe),
        "defence": [defence_table(defence) for defence in config.defences],
        "contender": [_contender_table(contender) for contender in config.contenders],
        "tune": [_tuning_table(tuning) for tuning in config.tune],
        "probe": {} if config.probe is None else shown(config.probe),
        "attack": attack_tables(config.audit),
        "inversion": inversion_table(config.audit),
        "audit": {key: value for key, value in shown(config.audit).items() if key not in OBJECTS},
        "run": {key: value for key, value in shown(config.run).items() if value != ""},
    }
    head = "# A run of sfumato. Repeat it with: sfumato compare --config THIS_FILE\n\n"
    return head + toml_text({key: value for key, value in document.items() if value})


def audit_settings(
    table: Mapping[str, Any], chosen: tuple[MembershipAttack, ...], inversion: InversionSettings | None = None
) -> AuditSettings:
    """Settings from a table without `OBJECTS`; at full strength its protocol's are the defaults."""
    given = read(AuditSettings, table, "[audit]", without=OBJECTS)
    usual = {"models": MODELS, "design": "canaries"} if given.get("strength") == FULL else {}
    if usual and given.get("design", usual["design"]) != usual["design"]:
        raise UsageError(
            f"Expected the design `canaries` at full strength, got `{given['design']}`.",
            remedy="Leave the design out.",
        )
    return replace(AuditSettings(attacks=chosen, inversion=inversion), **{**usual, **given})


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


def beside_contenders(what: str) -> UsageError:
    """The error for a choice that would have to be ignored."""
    return UsageError(
        f"Expected no {what} beside [[contender]], got both: each contender has a recipe and a defence of its own, so "
        "nobody would know which of them it is for.",
        remedy="Write `recipe` and `defence` inside each [[contender]], or leave the contenders out.",
    )


def _contender(table: Mapping[str, Any]) -> Contender:
    known = ["name", "recipe", "defence"]
    name = table.get("name", "")
    where = f"[[contender]] {name}".strip()
    for key in table:
        if key not in known:
            raise unknown(key, known, where)
    if not isinstance(name, str):
        raise UsageError(
            f"Expected text as the name of a [[contender]], got {name!r}.", remedy='Write name = "resnet".'
        )
    recipe, defence = _recipe(_inside(table, "recipe", where)), _inside(table, "defence", where)
    return Contender(name=name, recipe=recipe, defence=defence_from(defence) if defence else Undefended())


def _inside(table: Mapping[str, Any], key: str, where: str) -> Mapping[str, Any]:
    value = table.get(key, {})
    if not isinstance(value, Mapping):
        raise UsageError(
            f"Expected a table as `{key}` of {where}, got {type(value).__name__}.",
            remedy=f'Write {key} = {{ name = "..." }}, or [contender.{key}] on a line.',
        )
    return value


def _contender_table(contender: Contender) -> dict[str, Any]:
    recipe, defence = _recipe_table(contender.recipe), defence_table(contender.defence)
    return {"name": contender.name, **({"recipe": recipe} if recipe else {}), "defence": defence}


def _recipe_table(recipe: RecipeChoice) -> dict[str, Any]:
    own = {key: getattr(recipe, key) for key in ("model", "train", "estimators") if getattr(recipe, key)}
    return {**({"name": recipe.name} if recipe.name else {}), **_plain(own), **_plain(recipe.fields)}


def _tuned(raw: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """[tune] for one method, or [[tune]] for several."""
    return [_table(raw, "tune")] if isinstance(raw.get("tune"), Mapping) else _tables(raw, "tune")


def _tuning(table: Mapping[str, Any]) -> Tuning:
    made = make(Tuning, {key: value for key, value in table.items() if key != "grid"}, "[tune]")
    grid = _inside(table, "grid", "[tune]")
    for name, values in grid.items():
        if not isinstance(values, list):
            raise UsageError(
                f"Expected a list of candidates for `{name}` in [tune] grid, got {values!r}.",
                remedy=f"Write {name} = [{values}].",
            )
    return replace(made, grid={name: tuple(values) for name, values in grid.items()})


def _tuning_table(tuning: Tuning) -> dict[str, Any]:
    own = {key: value for key, value in shown(tuning).items() if key != "grid"}
    grid = {name: list(values) for name, values in tuning.grid.items()}
    return {**own, **({"grid": grid} if grid else {})}


def _data(table: Mapping[str, Any]) -> DataChoice:
    own = {key: table[key] for key in DATA_KEYS if key in table}
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
