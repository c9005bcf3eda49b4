"""From options on the command line (over a configuration file, if one is named) to one run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sfumato.attacks.catalogue import default_attacks
from sfumato.audit.probing.first import ProbeFirst
from sfumato.audit.settings import AuditSettings
from sfumato.audit.strength import FULL
from sfumato.audit.tuning import Tuning
from sfumato.cli import catalogue
from sfumato.cli.config import (
    COMPARED,
    OBJECTS,
    DataChoice,
    RecipeChoice,
    RunChoice,
    RunConfig,
    audit_settings,
    beside_contenders,
    load,
)
from sfumato.cli.fields import names, read, unknown
from sfumato.cli.inverting import ALL, Chosen, inversion_settings, named, share_of, source_of, with_queries
from sfumato.cli.options import DataOptions, RunOptions
from sfumato.cli.spelling import Changes, defence, words
from sfumato.data.canaries import counts_from
from sfumato.errors import UsageError
from sfumato.registry import lookup
from sfumato.training.defence import Defence, chain
from sfumato.training.presets.base import presets


def configured(options: RunOptions, *, compared: bool) -> RunConfig:
    """The run that the options describe; what they leave open comes from `--config`, else from the defaults.

    Args:
        options: as given.
        compared: whether several defences stand side by side unless told otherwise.
    """
    base = load(Path(options.config)) if options.config else None
    contenders = base.contenders if base else ()
    if contenders:
        _refuse_for_contenders(options)
    recipe = recipe_choice(options, base.recipe if base else RecipeChoice())
    several = compared and not (recipe.train or recipe.estimators)
    return RunConfig(
        data=data_choice(options, base.data if base else None),
        recipe=recipe,
        defences=() if contenders else _defences(options, base, several),
        contenders=contenders,
        tune=_tune(options, base),
        probe=_probe(options, base),
        audit=audit_of(options, base),
        run=_given(base.run if base else RunChoice(), options, ("executor", "store", "out", "checks", "title")),
    )


def release_config(options: DataOptions) -> RunConfig:
    """The one recipe that a model for release is trained with, or that is probed."""
    seed = {} if options.seed is None else {"seed": options.seed}
    return RunConfig(
        data=data_choice(options),
        recipe=recipe_choice(options),
        defences=_checked(defences_from(options.defences or "undefended", of_defences(options)), options),
        audit=audit_settings(seed | _split_changes(options)[1], tuple(default_attacks())),
    )


def data_choice(options: DataOptions, base: DataChoice | None = None) -> DataChoice:
    """Which data."""
    source = options.data or (base.source if base else None)
    if source is None:
        raise UsageError("Expected data, got none.", remedy="Name them, for instance: sfumato compare digits")
    named = {"label": options.label, "unit": options.unit, "groups": options.groups}
    given = {key: value for key, value in named.items() if value is not None}
    rest = {**(base.options if base else {}), **given, **pairs(options.data_option, "--data-option")}
    records = options.records if options.records is not None else (base.records if base else None)
    canaries = counts_from(rest.pop("canaries")) if "canaries" in rest else (base.canaries if base else {})
    dealt = {
        key: _count(key, rest.pop(key)) if key in rest else getattr(base, key, None) for key in ("owners", "planted")
    }
    return DataChoice(source=source, records=records, canaries=canaries, options=rest, **dealt)


def _count(name: str, given: Any) -> int:
    """A number of made-up owners' records, from text as on a command line."""
    if not str(given).isdecimal():
        raise UsageError(f"Expected `{name}` as a whole number, got {given!r}.", remedy=f"Write {name}=1.")
    return int(given)


def recipe_choice(options: DataOptions, base: RecipeChoice | None = None) -> RecipeChoice:
    """What is trained; `--set` keys that are settings of the audit are left to it."""
    base = base or RecipeChoice()
    other = options.recipe is not None and options.recipe != base.name
    fields = {} if other else dict(base.fields)
    return RecipeChoice(
        name=options.recipe or base.name,
        fields={**fields, **_split_changes(options)[0]},
        model=options.model or base.model,
        train=tuple(words(options.train)) if options.train else base.train,
        estimators=tuple(words(options.estimator)) if options.estimator else base.estimators,
    )


def pairs(given: Sequence[str] | None, option: str) -> dict[str, str]:
    """KEY=VALUE texts as a mapping."""
    found = {}
    for text in given or ():
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise UsageError(f"Expected {option} KEY=VALUE, got {text!r}.", remedy=f"Write {option} epochs=12, say.")
        found[key.strip().replace("-", "_")] = value.strip()
    return found


def defences_from(text: str, changes: Changes | None = None) -> tuple[Defence, ...]:
    """Defences from their names with commas between; `changes` holds fields by name of the defence."""
    known = catalogue.defences()
    return tuple(defence(word, known, changes) for word in words(text))


def of_defences(options: DataOptions) -> dict[str, dict[str, str]]:
    """`--set NAME.FIELD=VALUE` pairs: name of the defence -> field -> value."""
    found: dict[str, dict[str, str]] = {}
    for key, value in pairs(options.changes, "--set").items():
        name, dot, field = key.partition(".")
        if dot and name != ALL:
            found.setdefault(name.replace("_", "-"), {})[field] = value
    return found


def _refuse_for_contenders(options: RunOptions) -> None:
    """Options for one recipe or its defences have no place where a file holds contenders: none may be ignored."""
    for name in ("recipe", "model", "train", "estimator", "defences"):
        if getattr(options, name) is not None:
            raise beside_contenders(f"--{name}")
    changes = [*_split_changes(options)[0], *of_defences(options)]
    if changes:
        raise beside_contenders(f"--set {changes[0]}")


def _defences(options: RunOptions, base: RunConfig | None, compared: bool) -> tuple[Defence, ...]:
    changes = of_defences(options)
    if options.defences is not None:
        chosen = defences_from(options.defences, changes)
    elif base is not None and base.defences:
        chosen = tuple(_changed(one, changes) for one in base.defences)
    else:
        chosen = defences_from(",".join(COMPARED) if compared else "undefended", changes)
    return _checked(chosen, options)


def _probe(options: RunOptions, base: RunConfig | None) -> ProbeFirst | None:
    """Whether and how to probe before the comparison; the share given here goes before that of the file."""
    usual = base.probe if base else None
    if options.probe is None:
        return usual
    return ProbeFirst(share=options.probe) if usual is None else replace(usual, share=options.probe)


def _tune(options: RunOptions, base: RunConfig | None) -> tuple[Tuning, ...]:
    """What is tuned: the methods named here, with the tables that the file has for them; else those of the file."""
    tables = {one.method: one for one in base.tune} if base else {}
    if options.tune is None:
        return tuple(tables.values())
    for name in words(options.tune):
        lookup(catalogue.defences(), "defence", name)
    return tuple(tables.get(name, Tuning(method=name)) for name in words(options.tune))


def _changed(made: Defence, changes: Changes) -> Defence:
    """A defence of a configuration file with the fields that the command line changes."""
    given = read(type(made), changes.get(made.name, {}), f"defence {made.name}", without=("inner",))
    inner = None if made.inner is None else _changed(made.inner, changes)
    return replace(made, **given, inner=inner)


def _checked(chosen: tuple[Defence, ...], options: DataOptions) -> tuple[Defence, ...]:
    """The defences, if every `--set NAME.FIELD` belongs to one of them: none may be ignored."""
    present = sorted({part.name for one in chosen for part in chain(one)})
    for name, values in of_defences(options).items():
        if name not in present:
            key = f"{name}.{next(iter(values))}"
            known = name in catalogue.defences()
            hint = f"Add it: --defences {','.join([*present, name])}." if known else "See `sfumato list defences`."
            raise UsageError(
                f"Expected `--set` for a defence of this run ({', '.join(present)}), got {key}.", remedy=hint
            )
    return chosen


def audit_of(options: RunOptions, base: RunConfig | None = None) -> AuditSettings:
    """What to try and how hard; what the options leave open comes from `base`, else from the defaults."""
    chosen = _attacks(options, base)
    given = {key: getattr(options, key) for key in ("models", "design", "canaries", "seed", "strength")}
    given["public"] = share_of(options.public)
    table = {key: value for key, value in given.items() if value is not None} | _split_changes(options)[1]
    inversion = inversion_settings(
        chosen.inversion, _of_inversion(options), base.audit.inversion if base else None, "the options"
    )
    if base is None:
        return audit_settings(table, chosen.membership, inversion)
    kept = {key: getattr(base.audit, key) for key in names(AuditSettings) if key not in OBJECTS}
    if table.get("strength") == FULL != base.audit.strength:
        del kept["design"]  # that of a usual run; full strength has its own
    return audit_settings({**kept, **table}, chosen.membership, inversion)


def _attacks(options: RunOptions, base: RunConfig | None) -> Chosen:
    asked = {"queries": options.queries, "augmentation": options.augmentation}
    usual = {key: value for key, value in asked.items() if value is not None}
    if options.attacks is not None:
        chosen = named(options.attacks)
    elif base is None:
        chosen = Chosen(tuple(default_attacks()), ())
    else:
        inverted = base.audit.inversion
        chosen = Chosen(base.audit.attacks, () if inverted is None else inverted.attacks)
    return with_queries(chosen, usual)


def _of_inversion(options: RunOptions) -> dict[str, Any]:
    """What the options say of inversion: `--set inversion.FIELD`, public records, the gallery."""
    given: dict[str, Any] = {
        "public": source_of(options.public),
        "public_classes": options.public_classes,
        "gallery": True if options.gallery else None,
    }
    changes = {
        key.removeprefix(f"{ALL}."): value
        for key, value in pairs(options.changes, "--set").items()
        if key.startswith(f"{ALL}.")
    }
    return {**changes, **{key: value for key, value in given.items() if value is not None}}


def _split_changes(options: DataOptions) -> tuple[dict[str, str], dict[str, str]]:
    """`--set` pairs for the recipe, and those for the audit."""
    changes = pairs(options.changes, "--set")
    settings = [key for key in names(AuditSettings) if key not in OBJECTS]
    of_audit = {key: value for key, value in changes.items() if key in settings}
    of_recipe = {key: value for key, value in changes.items() if key not in settings and "." not in key}
    known = {key for kind in presets().values() for key in names(kind)}
    for key in of_recipe:
        if key not in known:
            raise unknown(key, sorted(known | set(settings)), "`--set`")
    return of_recipe, of_audit


def _given(base: RunChoice, options: RunOptions, keys: tuple[str, ...]) -> RunChoice:
    values: Mapping[str, Any] = {key: getattr(options, key) for key in keys}
    return replace(base, **{key: value for key, value in values.items() if value is not None})
