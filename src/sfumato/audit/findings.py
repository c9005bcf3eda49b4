"""From scores to findings: the statistics of one attack on one subject, in the form the record keeps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from typing import NamedTuple

import numpy as np

from sfumato.attacks.membership.base import MembershipAttack
from sfumato.audit.epsilon import EpsilonBound, GuessCounts, one_run_bound, one_run_f_dp_bound
from sfumato.audit.game import Game, Played
from sfumato.audit.record import AttackResult, Curve, EpsilonFinding, Finding, GroupResult
from sfumato.audit.settings import AuditSettings
from sfumato.audit.statistics import AttackSummary, Estimate, by_group, calibrated_tpr, summarise
from sfumato.canonical import plain
from sfumato.seeding import stream
from sfumato.types import Bools, Floats, Strings

FEWEST_IN_GROUP = 10
LOWEST_PER_UNIT = 1e-3  # a lower rate for each unit by itself would take tens of thousands of models
SHARED = "The targets are each other's references: where there is little to find this rate reads too low."


class Judged(NamedTuple):
    """One attack's result for the record, and the arrays that go into the npz file."""

    result: AttackResult
    arrays: dict[str, np.ndarray]


def finding(estimate: Estimate) -> Finding:
    """The record's form of an estimate."""
    return Finding(**asdict(estimate))


def judge(game: Game, played: Played, settings: AuditSettings) -> Judged:
    """All statistics of one attack."""
    rng = stream(settings.seed, "statistics", played.attack.name)
    summary = summarise(
        played.scores,
        game.members,
        game.in_game,
        fprs=settings.fprs,
        confidence=settings.confidence,
        replicates=settings.replicates,
        rng=rng,
    )
    attack, per = played.attack, summary.per_target
    per_target = {"auc": _listed(per.auc), "advantage": _listed(per.advantage)}
    per_target |= {f"tpr_at_fpr@{fpr:g}": _listed(per.tpr_at_fpr[:, i]) for i, fpr in enumerate(per.fprs)}
    result = AttackResult(
        name=attack.name,
        method=attack.method if attack.called else "",
        reference=attack.reference,
        summary=attack.summary,
        access=attack.threat.access,
        knowledge=attack.threat.knowledge,
        queries=_queries(attack),
        settings=_settings(attack),
        unit_rule=attack.unit_rule,
        targets=len(game.cases),
        references_per_target=0 if attack.needs().references == "none" else game.references_per_target,
        findings=[*(finding(estimate) for estimate in summary.estimates), *_calibrated(game, played, settings)],
        per_target=per_target,
        curve=_curve(summary),
        seconds=played.seconds,
    )
    arrays = {f"{attack.name}/per_target/{name}": _array(values) for name, values in per_target.items()}
    return Judged(result, arrays)


def _calibrated(game: Game, played: Played, settings: AuditSettings) -> list[Finding]:
    """TPR at an FPR of each unit by itself; nothing for a single target, which has no OUT scores to compare with."""
    if len(game.cases) < 2:
        return []
    estimates = calibrated_tpr(
        played.scores,
        game.members,
        game.in_game,
        fprs=[fpr for fpr in settings.fprs if fpr >= LOWEST_PER_UNIT],
        confidence=settings.confidence,
        replicates=settings.replicates,
        rng=stream(settings.seed, "calibrated", played.attack.name),
    )
    found = [finding(estimate) for estimate in estimates]
    if played.attack.needs().references == "none":
        return found
    return [one.model_copy(update={"note": f"{one.note} {SHARED}"}) if one.resolvable else one for one in found]


def few(
    played: Played,
    game: Game,
    settings: AuditSettings,
    fprs: Sequence[float],
    *,
    only: Bools | None = None,
    among: int = 1,
) -> list[Finding]:
    """AUC and TPR at `fprs` alone, by the statistics of `judge`.

    Args:
        played: scores [targets, units].
        game: who is a member.
        settings: for level, replicates and seed.
        fprs: false positive rates.
        only: bool [units], a group; its thresholds are its own.
        among: how many groups share the level (Bonferroni).
    """
    in_game = game.in_game if only is None else game.in_game & only
    summary = summarise(
        played.scores,
        game.members,
        in_game,
        fprs=fprs,
        priors=(),
        confidence=1 - (1 - settings.confidence) / among,
        replicates=settings.replicates,
        rng=stream(settings.seed, "statistics", played.attack.name),
    )
    return [finding(estimate) for estimate in (summary.auc, *summary.tpr_at_fpr)]


def groups(game: Game, played: Played, columns: Mapping[str, Strings], settings: AuditSettings) -> list[GroupResult]:
    """Findings by group of units; `columns` name -> [units]. Groups of few units lose their names and go together."""
    rng = stream(settings.seed, "groups", played.attack.name)
    players = game.in_game  # ordinary units beside designated canaries are no group of their own
    found = by_group(
        played.scores[:, players],
        game.members[:, players],
        {name: without_small(labels, players)[players] for name, labels in columns.items()},
        confidence=settings.confidence,
        replicates=settings.replicates,
        rng=rng,
    )
    return [
        GroupResult(
            column=group.grouping,
            group=group.group,
            attack=played.attack.name,
            findings=[finding(group.auc), finding(group.tpr_at_fpr)],
        )
        for group in found
    ]


def without_small(labels: Strings, in_game: Bools) -> Strings:
    """A group of few people could name them (a column of ids would be one person each), and the record names none."""
    names, codes = np.unique(labels, return_inverse=True)
    sizes = np.bincount(codes[in_game], minlength=len(names))
    kept = np.where(sizes < FEWEST_IN_GROUP, f"groups of fewer than {FEWEST_IN_GROUP} units", names)
    return kept[codes]


def one_run_bounds(game: Game, played: Sequence[Played], settings: AuditSettings, delta: float) -> list[EpsilonFinding]:
    """Lower bounds on epsilon from one training with many coin flips; the target is fixed in advance: the first.

    Which attack is the strongest was seen on the same coins. So every attack that ran is tried, and shares the level
    with the others (Bonferroni); each method keeps its best.

    Args:
        game: played with the design "coins".
        played: every attack that ran.
        settings: for the confidence.
        delta: of the (epsilon, delta) that is tested.
    """
    in_game, target = game.in_game, game.cases[0]
    guesses = [GuessCounts(k, k) for k in _guess_counts(int(in_game.sum()))]
    share = 1 - (1 - settings.confidence) / max(len(played), 1)
    found = []
    for make in (one_run_bound, one_run_f_dp_bound):
        bounds = [
            make(
                one.scores[0][in_game],
                target.members[in_game],
                guesses,
                independent_coins=True,
                delta=delta,
                confidence=share,
            )
            for one in played
        ]
        best = max(range(len(bounds)), key=lambda i: bounds[i].value, default=None)
        if best is not None:
            found.append(_epsilon(bounds[best], played, best, settings.confidence))
    return found


def _epsilon(bound: EpsilonBound, played: Sequence[Played], best: int, confidence: float) -> EpsilonFinding:
    return EpsilonFinding(
        method=bound.method,
        value=bound.value,
        ceiling=bound.ceiling,
        confidence=confidence,
        delta=bound.delta,
        assumption=bound.assumption,
        n=bound.n,
        attack=played[best].attack.name,
        note=f"Measured on the first model, the best of {len(played)} attacks that share the level. A lower bound says "
        "what leaks at least; it is not a guarantee.",
    )


def _guess_counts(canaries: int) -> list[int]:
    return sorted({max(1, round(canaries * share)) for share in (0.01, 0.05, 0.25)})


def _curve(summary: AttackSummary) -> Curve:
    band = summary.roc
    return Curve(
        fpr=band.fpr.tolist(),
        tpr=band.tpr.tolist(),
        low=band.low.tolist(),
        high=band.high.tolist(),
        resolvable_from=min(1.0, 10 / summary.auc.n_nonmembers),
    )


def _queries(attack: MembershipAttack) -> str:
    queries = attack.query_set
    told = [] if queries.signal == "answers" else [queries.signal.replace("-", " ")]
    told += {"off": ["noise off"], "common": ["common noise"]}.get(queries.noise, [])
    told += [f"averaged as {queries.average}"] if queries.average != "statistic" else []
    if queries.budget:
        return ", ".join([f"at most {queries.per_record} labels per record", *told])
    if queries.per_record == 1:
        return ", ".join(["one per record", *told])
    several = f"{queries.per_record} per record ({queries.variants} variants, {queries.repeats} repeats)"
    return ", ".join([several, *told])


def _settings(attack: MembershipAttack) -> dict[str, object]:
    return {field.name: plain(getattr(attack, field.name)) for field in fields(attack) if field.name != "called"}


def _listed(values: Floats) -> list[float | None]:
    return [float(v) if np.isfinite(v) else None for v in values]


def _array(values: list[float | None]) -> np.ndarray:
    return np.array([np.nan if v is None else v for v in values])
