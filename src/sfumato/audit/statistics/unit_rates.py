"""How often each unit is found: its true positive rate over the models that had it, at one threshold for all units."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sfumato.audit.statistics.bootstrap import crossed_game
from sfumato.audit.statistics.intervals import Interval, checked_confidence, clopper_pearson
from sfumato.validate import in_range

Floats = NDArray[np.float64]


class UnitRates(NamedTuple):
    """How often each unit was found.

    Attributes:
        found: models trained on the unit whose score is above the threshold [units].
        trials: models trained on the unit [units].
        false: models not trained on the unit whose score is above the threshold [units].
        others: models not trained on the unit [units].
        threshold: the lowest one whose pooled FPR is at most the one asked for.
    """

    found: NDArray[np.int64]
    trials: NDArray[np.int64]
    false: NDArray[np.int64]
    others: NDArray[np.int64]
    threshold: float

    @property
    def rates(self) -> Floats:
        """found / trials [units], NaN for a unit that no model was trained on."""
        return np.where(self.trials > 0, self.found / np.maximum(self.trials, 1), np.nan)


def unit_rates(scores: ArrayLike, members: ArrayLike, in_game: ArrayLike | None = None, *, fpr: float) -> UnitRates:
    """The true positive rate of each unit over models (as the per-sample rates of Aerni et al., arXiv 2404.17399).

    Args:
        scores: [targets, units], higher = member; NaN only outside the game.
        members: booleans [targets, units].
        in_game: booleans [targets, units] or [units]; None plays all.
        fpr: pooled over units and targets.
    """
    in_range("fpr", fpr, 0.0, 1.0)
    game = crossed_game(scores, members, in_game)
    negatives = np.sort(game.scores[game.in_game & ~game.members])[::-1]
    allowed = int(np.floor(fpr * negatives.size * (1 + 1e-12)))
    threshold = float(negatives[allowed]) if allowed < negatives.size else -np.inf
    inside, outside = game.in_game & game.members, game.in_game & ~game.members
    above = game.scores > threshold
    return UnitRates(
        found=(inside & above).sum(axis=0).astype(np.int64),
        trials=inside.sum(axis=0).astype(np.int64),
        false=(outside & above).sum(axis=0).astype(np.int64),
        others=outside.sum(axis=0).astype(np.int64),
        threshold=threshold,
    )


def worst_unit(rates: UnitRates, confidence: float) -> Interval:
    """An interval for the highest rate of any unit: exact for each, and for all of them at once (Bonferroni).

    So the low end is exceeded by the true rate of some unit with this confidence, although it was picked: where a
    unit's models are independent trials, which they are not for an attack whose references are the other targets.

    Args:
        rates: at least one unit with a trial.
        confidence: of all units together, in (0, 1).
    """
    tried = rates.trials > 0
    share = 1 - (1 - checked_confidence(confidence)) / int(tried.sum())
    ends = clopper_pearson(rates.found[tried], rates.trials[tried], share)
    return Interval(ends.low.max(), ends.high.max())
