"""From the contenders of a comparison to their accuracy-leakage curves: which scores are read, and what is compared.

Leakage is that of each contender's strongest attack. With four targets or more, accuracies and leakages are drawn
together, the same draws for every contender, so that differences are paired; with fewer, intervals are put together
from those of the points.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np

from sfumato.audit.curves import (
    BOOTSTRAP,
    CORNERS,
    EVERY_KIND,
    WORST_KIND,
    AtAccuracy,
    EqualAccuracy,
    Frontier,
    GroupFrontier,
    Name,
    Reading,
    Replicated,
    StrengthCurve,
    StrengthPoint,
    corners_at,
    difference_of,
    difference_of_readings,
    reading_at,
    split_name,
)
from sfumato.audit.findings import few
from sfumato.audit.game import Game, Played
from sfumato.audit.record import Finding, Subject
from sfumato.audit.settings import AuditSettings
from sfumato.audit.statistics import (
    FEWEST_TARGETS,
    Resamples,
    WeightedROC,
    crossed_game,
    draw_resamples,
    resolvable,
    sort_game,
    weighted_auc,
    weighted_tpr_at_fpr,
)
from sfumato.data.canaries import GROUP, NONE
from sfumato.seeding import stream
from sfumato.types import Bools, Floats, Strings

FPRS = (0.001, 0.01)
MEASURES: tuple[tuple[str, float | None], ...] = (*(("tpr_at_fpr", fpr) for fpr in FPRS), ("auc", None))
LEVELS = (0.005, 0.01, 0.02, 0.05)  # accuracy given up against the reference
FEWEST = 10  # units of a kind of canaries; fewer are no kind


Way = tuple[int, str, int]  # models side by side, executor, threads


@dataclass(frozen=True, eq=False)
class Contended:
    """A contender after attacking.

    Args:
        subject: as in the record.
        game: who is a member.
        played: attack name -> its scores.
        accuracies: float64 [targets], on records outside each training set.
        groups: columns of the units, [units] each.
        ways: how its models were trained (side by side or alone, by what, on how many threads); their times can be
            compared with those of another contender where both were trained in one and the same way.
    """

    subject: Subject
    game: Game
    played: Mapping[str, Played]
    accuracies: Floats
    groups: Mapping[str, Strings]
    ways: frozenset[Way] = frozenset()

    def strongest(self, kind: str = "") -> str:
        """The name of its strongest attack, on canaries of one kind where that is known; "" where none could run."""
        of_kind = (g.attack for g in self.subject.groups if (g.column, g.group) == (GROUP, kind))
        name = next(of_kind, self.subject.strongest)
        return name if name in self.played else ""


class _Sampled(NamedTuple):
    """A point with its replicates: accuracy [1 + R], leakage by measure [1 + R]."""

    point: StrengthPoint
    accuracy: Floats
    leakage: dict[tuple[str, float | None], Floats]
    members: int


Curves = dict[str, list[_Sampled]]


def ways_of(facts: Iterable[Mapping[str, Any]]) -> frozenset[Way]:
    """The ways in which models were trained, from what is stored with them."""
    return frozenset(
        (int(one.get("stacked_with", 1)), str(one.get("executor", "")), int(one.get("threads", 0))) for one in facts
    )


def frontier_of(contended: Sequence[Contended], settings: AuditSettings) -> Frontier | None:
    """The curves of all methods whose contenders are named by strength; None where there is no such name."""
    named = [(name, one) for one in contended if (name := split_name(one.subject.name)) and one.strongest()]
    if not named:
        return None
    reference = _reference(contended)
    first = named[0][1]
    known = all(np.isfinite(one.accuracies).all() for _, one in named)
    draws = _draws(len(first.accuracies), len(first.game.in_game), settings) if known else None
    groups = [_group(EVERY_KIND, _curves(named, reference, settings, draws), reference, settings)]
    if len(kinds_of(first)) > 1:
        groups.append(_group(WORST_KIND, _worst(named, reference, settings, draws), reference, settings))
    return Frontier(
        reference=reference.subject.name,
        confidence=settings.confidence,
        method=BOOTSTRAP if draws is not None else CORNERS,
        groups=groups,
    )


def kinds_of(one: Contended) -> list[str]:
    """Kinds of canaries with enough units in the game."""
    column = one.groups.get(GROUP)
    if column is None:
        return []
    names, counts = np.unique(column[one.game.in_game], return_counts=True)
    return [str(n) for n, count in zip(names, counts, strict=True) if n != NONE and count >= FEWEST]


def _reference(contended: Sequence[Contended]) -> Contended:
    """The undefended contender, else the most accurate one."""
    plain = [one for one in contended if one.subject.defence.name == "undefended"]
    return plain[0] if plain else max(contended, key=lambda one: float(np.nanmean(one.accuracies)))


def _draws(targets: int, units: int, settings: AuditSettings) -> Resamples | None:
    """The sample itself and replicates; targets 2k and 2k+1 are complements and are drawn together."""
    if targets < FEWEST_TARGETS or targets % 2:
        return None
    rng = stream(settings.seed, "frontier")
    pairs = rng.multinomial(targets // 2, np.full(targets // 2, 2 / targets), size=settings.replicates)
    of_units = draw_resamples(1, units, settings.replicates, rng).units
    of_targets = np.repeat(np.vstack([np.ones(targets // 2), pairs]), 2, axis=1).astype(np.float64)
    return Resamples(of_targets, np.vstack([np.ones(units), of_units]))


def _curves(
    named: Sequence[tuple[Name, Contended]],
    reference: Contended,
    settings: AuditSettings,
    draws: Resamples | None,
    kind: str = "",
) -> Curves:
    found: Curves = {}
    for name, one in named:
        found.setdefault(name.method, []).append(_sampled(name, one, reference, settings, draws, kind))
    return found


def _sampled(
    name: Name, one: Contended, reference: Contended, settings: AuditSettings, draws: Resamples | None, kind: str
) -> _Sampled:
    attack, game = one.strongest(kind) or one.strongest(), one.game
    played = one.played[attack]
    only = np.asarray(one.groups[GROUP] == kind) if kind else np.ones(len(game.in_game), dtype=bool)
    inside = game.in_game & only
    point = StrengthPoint(
        subject=one.subject.name,
        strength=name.strength,
        attack=attack,
        accuracy=next(f for f in one.subject.utility if f.name == "accuracy"),
        leakage=few(played, game, settings, FPRS, only=only if kind else None),
        kind=kind,
        relative_time=_ratio(one, reference),
    )
    members = int((game.members & inside).sum())
    if draws is None:
        return _Sampled(point, np.array([]), {}, members)
    accuracy = draws.targets @ one.accuracies / draws.targets.sum(axis=1)
    return _Sampled(point, accuracy, _leakages(played.scores, game.members, inside, draws), members)


def _ratio(one: Contended, reference: Contended) -> float | None:
    """Training time over that of the reference; None where it would compare ways to train, not methods."""
    seconds, base = one.subject.training_seconds, reference.subject.training_seconds
    alike = one.ways == reference.ways and len(one.ways) < 2
    return seconds / base if alike and base > 0 and seconds > 0 else None


def _leakages(
    scores: Floats, members: Bools, inside: Bools, draws: Resamples
) -> dict[tuple[str, float | None], Floats]:
    """[1 + R] of each measure that the number of non-members resolves."""
    game = sort_game(crossed_game(scores[:, inside], members[:, inside]))
    negatives = int((~members[:, inside]).sum())
    fprs = [fpr for fpr in FPRS if resolvable(fpr, negatives)]
    curves = (game.weighted_roc(t, u[inside]) for t, u in zip(*draws, strict=True))
    rows = np.array([_read(curve, np.array(fprs)) for curve in curves])
    rows = np.where(np.isnan(rows), rows[0], rows)  # a replicate that drew an empty class says nothing
    measures = [*(("tpr_at_fpr", fpr) for fpr in fprs), ("auc", None)]
    return {measure: rows[:, i] for i, measure in enumerate(measures)}


def _read(curve: WeightedROC, fprs: Floats) -> Floats:
    if curve.members <= 0 or curve.nonmembers <= 0:
        return np.full(len(fprs) + 1, np.nan)
    return np.append(weighted_tpr_at_fpr(curve, np.asarray(fprs, np.float64)), weighted_auc(curve))


def _worst(
    named: Sequence[tuple[Name, Contended]], reference: Contended, settings: AuditSettings, draws: Resamples | None
) -> Curves:
    """For each point the kind of canaries with the highest leakage; where there are draws, of each replicate."""
    by_kind = [_curves(named, reference, settings, draws, kind) for kind in kinds_of(named[0][1])]
    return {
        method: [_highest([curves[method][i] for curves in by_kind]) for i in range(len(by_kind[0][method]))]
        for method in by_kind[0]
    }


def _highest(kinds: Sequence[_Sampled]) -> _Sampled:
    worst = max(kinds, key=lambda one: _headline(one.point))
    kept = {
        measure: np.max([one.leakage[measure] for one in kinds], axis=0)
        for measure in worst.leakage
        if all(measure in one.leakage for one in kinds)
    }
    highest = [_top([one.point for one in kinds], *measure) for measure in MEASURES]
    return worst._replace(point=worst.point.model_copy(update={"leakage": highest}), leakage=kept)


def _headline(point: StrengthPoint) -> float:
    found = point.measured("tpr_at_fpr", 0.01) or point.measured("auc", None)
    return -1.0 if found is None or found.value is None else found.value


def _top(points: Sequence[StrengthPoint], name: str, at: float | None) -> Finding:
    """The largest of the kinds; its interval is that of this kind by itself."""
    found = [f for point in points for f in point.leakage if (f.name, f.at) == (name, at)]
    return max(found, key=lambda f: -1.0 if f.value is None else f.value)


def _group(group: str, curves: Curves, reference: Contended, settings: AuditSettings) -> GroupFrontier:
    curves = {method: sorted(points, key=_place) for method, points in curves.items()}
    top = float(np.nanmean(reference.accuracies))
    levels = [(below, top - below) for below in LEVELS]
    return GroupFrontier(
        group=group,
        curves=[StrengthCurve(method=m, points=[one.point for one in points]) for m, points in curves.items()],
        at_accuracies=[
            AtAccuracy(
                method=method,
                accuracy=accuracy,
                below=below,
                leakage=[_finding(_at(points, measure, accuracy, settings), measure, settings, points, accuracy)
                         for measure in MEASURES],
            )
            for method, points in curves.items()
            for below, accuracy in levels
        ],
        differences=[_compared(second, first, curves, settings) for first, second in combinations(curves, 2)],
    )  # fmt: skip


def _place(one: _Sampled) -> float:
    return one.point.accuracy.value or 0.0


def _measured(points: Sequence[_Sampled], measure: tuple[str, float | None]) -> bool:
    return all(one.point.measured(*measure) is not None and one.point.accuracy.value is not None for one in points)


def _replicated(points: Sequence[_Sampled], measure: tuple[str, float | None]) -> Replicated | None:
    """The curve with its draws, None where a point has none."""
    if any(measure not in one.leakage for one in points):
        return None
    return Replicated(
        accuracy=np.stack([one.accuracy for one in points], axis=1),
        leakage=np.stack([one.leakage[measure] for one in points], axis=1),
        members=min(one.members for one in points),
        rate=measure[0] != "auc",
    )


def _at(
    points: Sequence[_Sampled], measure: tuple[str, float | None], accuracy: float, settings: AuditSettings
) -> Reading | None:
    if not _measured(points, measure):
        return None
    curve = _replicated(points, measure)
    if curve is None:
        return corners_at([one.point for one in points], *measure, accuracy)
    return reading_at(curve, accuracy, settings.confidence)


def _finding(
    found: Reading | None,
    measure: tuple[str, float | None],
    settings: AuditSettings,
    points: Sequence[_Sampled] = (),
    accuracy: float = float("nan"),
) -> Finding:
    name, at = measure
    if found is not None:
        value, low, high = found
        return Finding(name=name, at=at, value=value, low=low, high=high, confidence=settings.confidence)
    note = "not resolvable on every point of the curve"
    if _measured(points, measure):
        places = [_place(one) for one in points]
        note = "not reached: all settings are " + ("less" if accuracy > max(places) else "more") + " accurate"
    return Finding(
        name=name, at=at, value=None, low=None, high=None, resolvable=False, note=note, confidence=settings.confidence
    )


def _compared(subject: str, baseline: str, curves: Curves, settings: AuditSettings) -> EqualAccuracy:
    first, second = curves[subject], curves[baseline]
    low = max(min(map(_place, first)), min(map(_place, second)))
    high = min(max(map(_place, first)), max(map(_place, second)))
    if low > high:
        ahead = subject if min(map(_place, first)) > max(map(_place, second)) else baseline
        return EqualAccuracy(
            subject=subject, baseline=baseline, accuracy=None, note=f"every setting of {ahead} is more accurate"
        )
    found = [
        _finding(_difference(first, second, measure, (low + high) / 2, settings), measure, settings, [*first, *second])
        for measure in MEASURES
    ]
    return EqualAccuracy(subject=subject, baseline=baseline, accuracy=(low + high) / 2, differences=found)


def _difference(
    first: Sequence[_Sampled],
    second: Sequence[_Sampled],
    measure: tuple[str, float | None],
    accuracy: float,
    settings: AuditSettings,
) -> Reading | None:
    if not _measured([*first, *second], measure):
        return None
    above, below = _replicated(first, measure), _replicated(second, measure)
    if above is not None and below is not None:
        found = difference_of(above, below, settings.confidence)
        return None if found is None else found.difference
    sides = [corners_at([one.point for one in points], *measure, accuracy) for points in (first, second)]
    return None if sides[0] is None or sides[1] is None else difference_of_readings(sides[0], sides[1])
