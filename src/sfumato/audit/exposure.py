"""Whose membership shows most: per-unit vulnerability over many models, from signals that share no references.

An attack with references scores one target with the help of the others, and their memberships with it. Within one unit
such scores of different targets are therefore dependent: with 4 models that leak nothing, the leave-one-out LiRA
gives the "worst" units an AUC of 1 on models that did not choose them. So the risk of a unit is measured on what each
model alone answers: its logit-scaled confidence, models trained with the unit against models trained without it
(Carlini et al., 2022, section VI-B). That comparison is calibrated to the unit by construction.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.special import stdtrit

from sfumato.audit.game import Game, Played
from sfumato.audit.record import Finding, UnitRates, Vulnerability
from sfumato.audit.statistics import (
    UnitVulnerability,
    combine,
    histogram,
    resolvable,
    unit_rates,
    unit_vulnerability,
    worst_share,
    worst_unit,
)
from sfumato.audit.statistics.bootstrap import crossed_variance
from sfumato.audit.statistics.intervals import never_certain
from sfumato.targets.queries import BASE, QuerySet
from sfumato.types import Bools, Floats, Ints

SIGNAL = "confidence over models"
FEWEST_MODELS = 4
WORST = 0.1
RATES = (0.001, 0.01)  # pooled FPRs at which single units are counted, the first that can be resolved
_METHOD = (
    "t interval with complementary model pairs and units as clusters; chosen on half of the pairs, measured on rest"
)
_NAME = "worst_decile_auc"
_SHARED = (
    "The targets are each other's references, so models are no independent trials of one unit: chance alone finds some "
    "units often, and no lower end is claimed."
)


def unit_signals(game: Game, queries: QuerySet = BASE) -> Floats:
    """float64 [targets, units]: mean logit-scaled confidence of each unit's records, over variants; NaN outside."""
    each = [case.target.statistic("logit", queries)[0].mean(axis=-1) for case in game.cases]
    finite = np.clip(np.stack(each), -1e300, 1e300)  # an infinite logit keeps its rank
    return np.where(game.in_game, combine(finite, game.unit_of, "mean"), np.nan)


def exposure(game: Game, queries: QuerySet = BASE) -> UnitVulnerability | None:
    """Separation and AUC of each unit over all models; None where models are too few to say anything of one unit."""
    if len(game.cases) < FEWEST_MODELS:
        return None
    return unit_vulnerability(unit_signals(game, queries), game.members, game.in_game)


def vulnerability(game: Game, confidence: float, queries: QuerySet = BASE) -> Vulnerability | None:
    """How unevenly the risk falls on units; None where no unit is in and out often enough to tell.

    Args:
        game: at least `FEWEST_MODELS` targets, models 2k and 2k+1 complements on the units in the game.
        confidence: of the interval of the worst tenth.
        queries: whose answers are the signal.
    """
    units = exposure(game, queries)
    if units is None:
        return None
    values = units.auc[game.in_game]
    if np.isnan(values).all():
        return None
    bars, worst = histogram(values, bins=20, low=0.0, high=1.0), worst_share(values, WORST)
    return Vulnerability(
        attack=SIGNAL,
        models=len(game.cases),
        edges=bars.edges.tolist(),
        counts=bars.counts.tolist(),
        quantiles={f"{q:g}": float(np.nanquantile(values, q)) for q in (0.05, 0.25, 0.5, 0.75, 0.95)},
        worst_decile=held_out_worst(unit_signals(game, queries), game.members, game.in_game, confidence),
        note=f"By the confidence of each model by itself, without references. The tenth of the units with the highest "
        f"values has mean {worst.mean:.3f} where it was chosen; the figure with an interval is measured on other "
        "models than those that chose the tenth.",
    )


def held_out_worst(signals: Floats, members: Bools, in_game: Bools, confidence: float) -> Finding:
    """Mean per-unit AUC of the worst tenth: chosen on every other model pair, measured on the pairs between.

    Units share the models that they are measured on, so they are not independent samples: the interval takes model
    pairs and units as crossed clusters, with Satterthwaite's degrees of freedom.

    Args:
        signals: float64 [models, units], higher means more likely a member; models do not depend on one another.
        members: bool [models, units]; models 2k and 2k+1 are complements on the game.
        in_game: bool [units].
        confidence: of the interval, in (0, 1).
    """
    choosing = (np.arange(len(signals)) // 2) % 2 == 0
    chooser = unit_vulnerability(signals[choosing], members[choosing], in_game).auc
    worst = worst_share(np.where(in_game, chooser, np.nan), WORST).units
    pairs = int((~choosing).sum()) // 2
    counted = {"n_members": len(worst) * pairs, "n_nonmembers": len(worst) * pairs, "confidence": confidence}
    if pairs < 2 or len(worst) < 2:
        note = f"Needs 8 models and 20 units in the game, got {len(signals)} and {int(in_game.sum())}."
        return Finding(name=_NAME, value=None, low=None, high=None, resolvable=False, note=note, **counted)
    held = _mean_auc(signals[~choosing][:, worst], members[~choosing][:, worst])
    tail = (1 - confidence) / 2
    reach = -float(stdtrit(held.freedom, tail)) * held.deviation
    least = never_certain(held.mean, min(pairs, len(worst)), confidence)
    low, high = min(held.mean - reach, float(least.low)), max(held.mean + reach, float(least.high))
    return Finding(
        name=_NAME, value=held.mean, low=max(0.0, low), high=min(1.0, high), method=_METHOD, **counted
    )  # fmt: skip


def rates_of_units(game: Game, played: Played, confidence: float) -> UnitRates | None:
    """How often one attack found each unit, over the models trained on it, at the lowest FPR that can be resolved.

    None where there are too few models or non-members to say anything of one unit. The threshold is pooled, so the
    false positive rate of a unit by itself may be another one; the note gives that of the worst unit.

    Args:
        game: at least `FEWEST_MODELS` targets.
        played: the attack; with references, which are other targets, the interval of the worst unit begins at 0.
        confidence: of the interval of the worst unit.
    """
    negatives = int((~game.members[:, game.in_game]).sum())
    at = next((fpr for fpr in RATES if resolvable(fpr, negatives)), None)
    if at is None or len(game.cases) < FEWEST_MODELS:
        return None
    found = unit_rates(played.scores, game.members, game.in_game, fpr=at)
    values, trials = found.rates[game.in_game], int(found.trials.max())
    bars, ends = histogram(values, bins=20, low=0.0, high=1.0), worst_unit(found, confidence)
    shared, hit = played.attack.needs().references != "none", int(np.nanargmax(found.rates))
    worst = Finding(
        name="worst_unit_tpr",
        value=float(np.nanmax(values)),
        low=0.0 if shared else float(ends.low),
        high=float(ends.high),
        at=at,
        confidence=confidence,
        method="Clopper-Pearson, shared among all units (Bonferroni)",
        n_members=trials,
        n_nonmembers=negatives,
    )
    return UnitRates(
        attack=played.attack.name,
        at=at,
        models=len(game.cases),
        edges=bars.edges.tolist(),
        counts=bars.counts.tolist(),
        quantiles={f"{q:g}": float(np.nanquantile(values, q)) for q in (0.05, 0.25, 0.5, 0.75, 0.95)},
        worst=worst,
        note=f"Each rate rests on at most {trials} models trained on the unit. The worst-hit unit was also called a "
        f"member by {found.false[hit]} of {found.others[hit]} models without it.{' ' + _SHARED if shared else ''}",
    )


class _MeanAUC(NamedTuple):
    """Mean of per-unit AUCs, the standard deviation of that mean, and its degrees of freedom."""

    mean: float
    deviation: float
    freedom: float


def _mean_auc(signals: Floats, members: Bools) -> _MeanAUC:
    influence = np.stack([_influence(signals[:, u], members[:, u]) for u in range(signals.shape[1])], axis=1)
    auc = unit_vulnerability(signals, members).auc
    units, models = len(auc), len(signals)
    influence = influence / units + (auc - auc.mean()) / (units * models)
    by_pair = influence.reshape(models // 2, 2, units).sum(axis=1)
    variance = crossed_variance(by_pair)
    spread = variance.targets**2 / (models // 2 - 1) + variance.units**2 / (units - 1)
    freedom = variance.total**2 / spread if spread > 0 else 1.0
    return _MeanAUC(float(auc.mean()), float(np.sqrt(variance.total)), freedom)


def _influence(signals: Floats, members: Bools) -> Floats:
    """Influence of each model's signal on the AUC of one unit [models]; sums to 0 (DeLong 1988, placements)."""
    inside, outside = signals[members], signals[~members]
    wins = (inside[:, None] > outside) + 0.5 * (inside[:, None] == outside)
    influence = np.empty(len(signals))
    influence[members] = (wins.mean(axis=1) - wins.mean()) / len(inside)
    influence[~members] = (wins.mean(axis=0) - wins.mean()) / len(outside)
    return influence


def worst_of(units: UnitVulnerability, in_game: Bools) -> Ints:
    """Positions of the tenth of the units with the highest AUC, worst first; empty where none could be measured."""
    values = np.where(in_game, units.auc, np.nan)
    return np.array([], dtype=np.int64) if np.isnan(values).all() else worst_share(values, WORST).units
