"""From scores to findings: the statistics of one attack on one subject, in the form the record keeps."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import NamedTuple

import numpy as np

from sfumato.attacks.membership.base import MembershipAttack
from sfumato.audit.epsilon import GuessCounts, one_run_bound, one_run_f_dp_bound
from sfumato.audit.game import Game, Played
from sfumato.audit.record import AttackResult, Curve, EpsilonFinding, Finding, GroupResult, Vulnerability
from sfumato.audit.settings import AuditSettings
from sfumato.audit.statistics import (
    AttackSummary,
    Estimate,
    by_group,
    histogram,
    mean_interval,
    summarise,
    unit_vulnerability,
    worst_share,
)
from sfumato.canonical import plain
from sfumato.seeding import stream
from sfumato.types import Floats, Strings


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
        reference=attack.reference,
        summary=attack.summary,
        access=attack.threat_model.access,
        knowledge=attack.threat_model.knowledge,
        queries=_queries(attack),
        settings=_settings(attack),
        unit_rule=attack.unit_rule,
        targets=len(game.cases),
        references_per_target=0 if attack.needs().references == "none" else game.references_per_target,
        findings=[finding(estimate) for estimate in summary.estimates],
        per_target=per_target,
        curve=_curve(summary),
        seconds=played.seconds,
    )
    arrays = {f"{attack.name}/per_target/{name}": _array(values) for name, values in per_target.items()}
    return Judged(result, arrays)


def vulnerability(game: Game, played: Played, confidence: float) -> Vulnerability | None:
    """How unevenly the risk falls on units; None where no unit is both in and out often enough to tell."""
    if len(game.cases) < 4:
        return None
    units = unit_vulnerability(played.scores, game.members, game.in_game)
    values = units.auc[game.in_game]
    if np.isnan(values).all():
        return None
    bars, worst = histogram(values, bins=20, low=0.0, high=1.0), worst_share(values, 0.1)
    held_out = _held_out_worst(game, played, confidence)
    return Vulnerability(
        attack=played.attack.name,
        models=len(game.cases),
        edges=bars.edges.tolist(),
        counts=bars.counts.tolist(),
        quantiles={f"{q:g}": float(np.nanquantile(values, q)) for q in (0.05, 0.25, 0.5, 0.75, 0.95)},
        worst_decile=held_out,
        note=f"The tenth of the units with the highest values has mean {worst.mean:.3f} where it was chosen; the "
        "figure with an interval is measured on other models than those that chose the tenth.",
    )


def _held_out_worst(game: Game, played: Played, confidence: float) -> Finding:
    """AUC of the worst decile: chosen on one half of the model pairs, measured on the other half."""
    targets = np.arange(len(game.cases))
    first = (targets // 2) % 2 == 0
    members = game.members
    chooser = unit_vulnerability(played.scores[first], members[first], game.in_game).auc
    measurer = unit_vulnerability(played.scores[~first], members[~first], game.in_game).auc
    worst = worst_share(np.where(game.in_game, chooser, np.nan), 0.1).units
    values = measurer[worst]
    values = values[~np.isnan(values)]
    counted = {"n_members": len(values), "n_nonmembers": len(values), "confidence": confidence}
    if len(values) < 2:
        return Finding(name="worst_decile_auc", value=None, low=None, high=None, resolvable=False, **counted)
    ci = mean_interval(values, confidence)
    mean, low, high = ci.mean, max(0.0, ci.low), min(1.0, ci.high)
    method = "mean over units, chosen on half of the model pairs and measured on the others"
    return Finding(name="worst_decile_auc", value=mean, low=low, high=high, method=method, **counted)


def groups(game: Game, played: Played, columns: dict[str, Strings], settings: AuditSettings) -> list[GroupResult]:
    """Findings by group of units; `columns` name -> [units]."""
    rng = stream(settings.seed, "groups", played.attack.name)
    found = by_group(
        played.scores,
        game.members,
        columns,
        game.in_game,
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


def one_run_bounds(game: Game, played: Played, settings: AuditSettings) -> list[EpsilonFinding]:
    """Lower bounds on epsilon from one training with many coin flips; the target is fixed in advance: the first."""
    scores, coins = played.scores[0][game.in_game], game.cases[0].members[game.in_game]
    guesses = [GuessCounts(k, k) for k in _guess_counts(len(scores))]
    bounds = [
        make(
            scores,
            coins,
            guesses,
            independent_coins=True,
            delta=settings.delta,
            confidence=settings.confidence,
        )
        for make in (one_run_bound, one_run_f_dp_bound)
    ]
    return [
        EpsilonFinding(
            method=bound.method,
            value=bound.value,
            ceiling=bound.ceiling,
            confidence=bound.confidence,
            delta=bound.delta,
            assumption=bound.assumption,
            n=bound.n,
            attack=played.attack.name,
            note="Measured on the first model. A lower bound says what leaks at least; it is not a guarantee.",
        )
        for bound in bounds
    ]


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
    if queries.per_record == 1:
        return "one per record"
    return f"{queries.per_record} per record ({queries.variants} variants, {queries.repeats} repeats)"


def _settings(attack: MembershipAttack) -> dict[str, object]:
    return {field.name: plain(getattr(attack, field.name)) for field in fields(attack)}


def _listed(values: Floats) -> list[float | None]:
    return [float(v) if np.isfinite(v) else None for v in values]


def _array(values: list[float | None]) -> np.ndarray:
    return np.array([np.nan if v is None else v for v in values])
