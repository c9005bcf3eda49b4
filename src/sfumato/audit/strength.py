"""Full strength: the protocol that exposed earlier promises (Aerni, Zhang, Tramèr, arXiv 2404.17399, section 5).

500 canaries of several kinds, each in half of 64 models and everything else always in; each model in turn is the target
against shadow models behind the same defence and guard; the best of the LiRA variants, BaVarIA and RMIA, attacks that
see labels only where a guard hides scores, and the attacks that were made for each defence.

`full_strength` chooses, `refuse_weak` holds a run that is called full to it before anything is trained, and `reached`
says afterwards what was really carried out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, fields, replace
from typing import NamedTuple

import numpy as np

from sfumato.attacks.membership.base import MembershipAttack
from sfumato.attacks.membership.bavaria import BaVarIA
from sfumato.attacks.membership.lira import LiRAOnline
from sfumato.attacks.membership.rmia import RMIA
from sfumato.audit.record import Notice, StrengthSummary, Subject
from sfumato.audit.settings import AuditSettings, designated
from sfumato.data.canaries import GROUP, NONE, twins
from sfumato.data.membership import Membership
from sfumato.data.population import Population
from sfumato.errors import UsageError
from sfumato.training.composition import guarded
from sfumato.training.defence import Defence, chain
from sfumato.training.recipe import AnyRecipe
from sfumato.types import Rows

FULL = "full"
MODELS, CANARIES = 64, 500
CLEAN = "natural"
KINDS = (CLEAN, "mislabelled", "out-of-distribution", "blank", "near-duplicate")
SUITED_SHARE = 0.64  # 320 of 500: with 64 models 10,240 scores of non-members, enough for an FPR of 0.1%
LARGEST_FPR = 0.01
LABELS_ONLY = {"image": ("gap", "label-noise", "augmentation-bits"), "table": ("gap", "label-noise")}
_LIRA = tuple(f"{LiRAOnline.name}(statistic={one},augmentation=none)" for one in ("logit", "hinge"))
_TURNED = tuple(f"{LiRAOnline.name}(statistic={one},augmentation=mirror-shift)" for one in ("logit", "hinge"))
ALWAYS = {
    "image": (*_LIRA, *_TURNED, BaVarIA.name, RMIA.name),
    "table": (*_LIRA, BaVarIA.name, RMIA.name),
}

Read = Callable[[str], MembershipAttack]


class FullStrength(NamedTuple):
    """What the protocol chose.

    Attributes:
        settings: of the audit.
        canaries: kind -> units, for `data.canaries.with_canaries`.
        scaled: sentences on what is less than the protocol states; empty for all of it.
    """

    settings: AuditSettings
    canaries: dict[str, int]
    scaled: tuple[str, ...]


def full_strength(
    kind: str,
    units: int,
    defences: Sequence[Defence],
    settings: AuditSettings,
    read: Read,
    given: Mapping[str, int] | None = None,
) -> FullStrength:
    """Settings and canaries of the protocol; a pure function, and done twice it changes nothing more.

    Args:
        kind: of the population, "image" or "table".
        units: of the population, before there are canaries.
        defences: of all recipes in the run.
        settings: `models` is kept; `canaries` above 0 is their number in place of 500; `attacks` are tried besides.
        read: makes an attack from its spelling, `name(field=value,...)`.
        given: canaries by kind that were chosen already, in place of the protocol's.

    Raises:
        UsageError: for another design, too few units, or an attack that is not there.
    """
    if settings.design == "coins":
        raise UsageError(
            "Expected the design `canaries` at full strength, got `coins`.", remedy="Leave the design out."
        )
    total = settings.canaries or CANARIES
    chosen = dict(given) if given else shares(total, defences)
    if sum(chosen.values()) > units // 2:
        raise UsageError(
            f"Expected at least twice as many units as canaries, got {units} and {sum(chosen.values())}.",
            remedy=f"Use more records, or scale the protocol, for instance to --canaries {max(units // 8 * 2, 2)}.",
        )
    attacks = _joined([*settings.attacks, *protocol_attacks(kind, defences, read)])
    made = replace(settings, attacks=attacks, design="canaries", canaries=0, strength=FULL)
    return FullStrength(made, chosen, tuple(scaled(settings.models, chosen)))


def shares(total: int, defences: Sequence[Defence]) -> dict[str, int]:
    """Canaries by kind: 64% for the kinds that suit the defences (`Defence.canary`), the rest for all others.

    Args:
        total: how many in all.
        defences: of the run.
    """
    suited = list(dict.fromkeys(part.canary for defence in defences for part in chain(defence)))
    others = [name for name in KINDS if name not in suited]
    first = round(SUITED_SHARE * total) if others else total
    return {**_evenly(suited, first), **_evenly(others, total - first)}


def scaled(models: int, kinds: Mapping[str, int]) -> list[str]:
    """What is less than the protocol states, one sentence each.

    Args:
        models: per recipe.
        kinds: canaries by kind.
    """
    found, canaries = [], sum(kinds.values())
    if models < MODELS:
        found.append(f"Scaled to {models} models per recipe, where the protocol has {MODELS}.")
    if canaries < CANARIES:
        found.append(f"Scaled to {canaries} canaries, where the protocol has {CANARIES}.")
    if absent := [name for name in KINDS if not kinds.get(name)]:
        found.append(f"No canaries of the kind {', '.join(absent)}, which the protocol has, too.")
    return found


def protocol_attacks(kind: str, defences: Sequence[Defence], read: Read) -> tuple[MembershipAttack, ...]:
    """The attacks of the protocol for data of this kind and these defences; variants bear names of their own.

    Raises:
        UsageError: if an attack that is looked up by name is not there.
    """
    found: list[MembershipAttack] = [LiRAOnline(), LiRAOnline(statistic="hinge", called="lira-hinge")]
    if kind == "image":
        turned = LiRAOnline(augmentation="mirror-shift", scope="game", called="lira-logit-18")
        found += [turned, replace(turned, statistic="hinge", called="lira-hinge-18")]
    found += [BaVarIA(), RMIA()]
    for defence in defences:
        if guarded(defence):
            found += [_read(read, name, f"{defence.name} guards its answers") for name in LABELS_ONLY[kind]]
        for part in chain(defence):
            found += [_read(read, text, f"it was made for {part.name}") for text in _adaptive(part, kind)]
    return tuple(_joined(found))


def refuse_weak(population: Population, recipes: Sequence[AnyRecipe], settings: AuditSettings) -> None:
    """Hold a run that is called full to the protocol, before anything is trained.

    Raises:
        UsageError: if it has only clean canaries, only the AUC, another design, or lacks an attack of the protocol.
    """
    if settings.strength != FULL:
        return
    kinds = canary_kinds(population, settings.membership(population)) if settings.design == "canaries" else {}
    if not set(kinds) - {CLEAN, NONE}:
        raise _weak(f"canaries of other kinds than clean ones, got {', '.join(kinds) or 'no canaries'}")
    if not any(fpr <= LARGEST_FPR for fpr in settings.fprs):
        raise _weak(f"a TPR at an FPR of {LARGEST_FPR:g} or less among `fprs`, got {settings.fprs}, so only the AUC")
    there = ", ".join(sorted(attack.name for attack in settings.attacks))
    for recipe in recipes:
        for spelled in needed(recipe.defence, population.kind):
            if not any(_meets(attack, spelled) for attack in settings.attacks):
                raise _weak(f"the attack {spelled} for {recipe.name}, got {there}")


def needed(defence: Defence, kind: str) -> tuple[str, ...]:
    """Attacks that the protocol wants against this defence, as spelled: other fields may be as one likes."""
    found = [*ALWAYS[kind], *(LABELS_ONLY[kind] if guarded(defence) else ())]
    found += [text for part in chain(defence) for text in _adaptive(part, kind)]
    return tuple(dict.fromkeys(found))


def reached(
    population: Population,
    membership: Membership,
    recipes: Sequence[AnyRecipe],
    subjects: Sequence[Subject],
    settings: AuditSettings,
) -> StrengthSummary | None:
    """What of the protocol was carried out, from what the record holds; None for a run that was not asked for it."""
    if settings.strength != FULL:
        return None
    kinds, missing = canary_kinds(population, membership), []
    less = scaled(membership.models, kinds)
    for recipe, subject in zip(recipes, subjects, strict=True):
        missing += _unsuited(recipe, kinds)
        missing += _missing(subject, needed(recipe.defence, population.kind), settings)
    return StrengthSummary(
        reached="not full" if missing else ("scaled" if less else "full"),
        canaries=kinds,
        models=membership.models,
        scaled=less,
        missing=missing,
    )


def strength_notices(summary: StrengthSummary | None) -> list[Notice]:
    """What was scaled and what is missing, for the record's warnings."""
    if summary is None or summary.reached == FULL:
        return []
    told = [
        Notice(severity="theoretical", text=text, remedy=f"Full strength is {MODELS} models and {CANARIES} canaries.")
        for text in summary.scaled
    ]
    return told + [
        Notice(
            severity="critical",
            text=f"Not at full strength: {text}",
            remedy="Do not compare these numbers with those of a run at full strength.",
        )
        for text in summary.missing
    ]


def canary_kinds(population: Population, membership: Membership) -> dict[str, int]:
    """Kind of canary -> units in the game; units that are no canaries count as "none"."""
    column = population.groups.get(GROUP)
    if column is None:
        return {}
    first = np.unique(population.unit_of, return_index=True)[1]
    names, counts = np.unique(np.asarray(column).astype(str)[first][membership.in_game], return_counts=True)
    return {str(name): int(count) for name, count in zip(names, counts, strict=True)}


def ordinary_units(population: Population, membership: Membership) -> Rows:
    """int64 [k], rising: units that may be used to choose hyper-parameters: neither attacked nor known to be out.

    Twins of attacked near copies are left out too: they say as much of the copy as the copy itself.

    Raises:
        UsageError: if there are none, as in designs that attack every unit.
    """
    apart = np.isin(np.arange(population.units), [*designated(population), *twins(population)])
    found = np.flatnonzero(~membership.in_game & ~membership.public & ~apart)
    if not len(found):
        raise UsageError(
            f"Expected units outside the game to tune on, got none: the design ({membership.design}) attacks them all.",
            remedy="Use the design `canaries`, where ordinary units are never attacked.",
        )
    return found


def refuse_attacked(tuned: Population, population: Population, membership: Membership) -> None:
    """Refuse hyper-parameters that were chosen on attacked records.

    Args:
        tuned: what they were chosen on.
        population: of the audit.
        membership: who is in the game.

    Raises:
        UsageError: if a record of `tuned` belongs to a unit in the game.
    """
    ordinary = np.isin(np.arange(population.units), ordinary_units(population, membership))
    attacked = population.id_array[population.rows_of(~ordinary & ~membership.public)]
    both = int(np.isin(tuned.id_array, attacked).sum())
    if both:
        raise UsageError(
            f"Expected hyper-parameters chosen on records outside the game, got {both} records that are attacked or "
            "near copies of such.",
            remedy="Tune on `ordinary_units(population, membership)`.",
        )


def _adaptive(part: Defence, kind: str) -> list[str]:
    """The attacks that were made for a part, but for those that only images can be put to."""
    without = set(LABELS_ONLY["image"]) - set(LABELS_ONLY[kind])
    return [text for text in part.adaptive if _method(text) not in without]


def _method(spelled: str) -> str:
    return spelled.partition("(")[0].strip()


def _meets(attack: MembershipAttack, spelled: str) -> bool:
    """Whether it is the attack that is spelled, with the fields that stand there."""
    given = [part.partition("=") for part in spelled.partition("(")[2].rstrip(")").split(",") if part.strip()]
    return attack.method == _method(spelled) and all(
        str(vars(attack).get(name.strip())) == value.strip() for name, _, value in given
    )


def _unsuited(recipe: AnyRecipe, kinds: Mapping[str, int]) -> list[str]:
    """Parts of a defence that no canary suits: their worst kind was left out."""
    lacking = dict.fromkeys(part.canary for part in chain(recipe.defence) if not kinds.get(part.canary))
    return [f"{recipe.name}: no canaries of the kind {kind}, which it hides worst." for kind in lacking]


def _missing(subject: Subject, wanted: Sequence[str], settings: AuditSettings) -> list[str]:
    methods = {
        attack.name: next((spelled for spelled in wanted if _meets(attack, spelled)), "") for attack in settings.attacks
    }
    found = [
        f"{subject.name}: {one.attack} could not run: {'; '.join(one.reasons)}."
        for one in subject.not_run
        if methods.get(one.attack) in wanted
    ]
    rates = [f for a in subject.attacks for f in a.findings if f.name == "tpr_at_fpr" and f.resolvable]
    if not any(f.at is not None and f.at <= LARGEST_FPR for f in rates):
        found.append(
            f"{subject.name}: only the AUC is measured; no TPR at an FPR of {LARGEST_FPR:g} or less was resolved."
        )
    return found


def _evenly(names: Sequence[str], total: int) -> dict[str, int]:
    """The first ones get one more where it does not come out even."""
    return {name: total // len(names) + (i < total % len(names)) for i, name in enumerate(names)}


def _read(read: Read, text: str, why: str) -> MembershipAttack:
    try:
        return read(text)
    except UsageError as error:
        raise UsageError(
            f"Expected the attack {text} for full strength, because {why}, got none: {error}",
            remedy="See `sfumato list attacks`.",
        ) from error


def _joined(attacks: Sequence[MembershipAttack]) -> tuple[MembershipAttack, ...]:
    """Each configuration once, the first of equals; one whose name is taken gets a name from its own fields."""
    found: list[MembershipAttack] = []
    for attack in attacks:
        if any(replace(attack, called="") == replace(other, called="") for other in found):
            continue
        taken = any(attack.name == other.name for other in found)
        found.append(replace(attack, called=_spelled(attack)) if taken else attack)
    return tuple(found)


def _spelled(attack: MembershipAttack) -> str:
    usual = {field.name: field.default for field in fields(attack) if field.default is not MISSING}
    own = [str(vars(attack)[name]) for name in usual if name != "called" and vars(attack)[name] != usual[name]]
    return re.sub(r"[^A-Za-z0-9.@_+-]+", "-", "-".join([attack.method, *own])).strip("-")


def _weak(what: str) -> UsageError:
    return UsageError(
        f"Expected {what}: such a run is not full strength.",
        remedy='`sfumato.audit.strength.full_strength` chooses what is needed; or use strength="usual".',
    )
