"""Intervals cover the truth as often as they say, in games with and without effects of targets and units.

Error rate: a 95 % interval may miss in so many of the simulated games that a sound one would miss more often
with probability below 1e-3 (binomial); seeds are fixed.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom, norm

from sfumato.audit import statistics as stats

pytestmark = [pytest.mark.statistical, pytest.mark.slow]

GAMES = 200
MAY_MISS = int(binom.isf(1e-3, GAMES, 0.05))


class Model:
    """score = target + unit + member * (shift + target effect + unit effect) + N(0, 1), all Gaussian."""

    def __init__(self, targets, units, shift, offsets=(0.0, 0.0), effects=(0.0, 0.0)):
        self.shape, self.shift, self.offsets, self.effects = (targets, units), shift, offsets, effects
        self.out = 1 + offsets[0] ** 2 + offsets[1] ** 2
        self.inside = self.out + effects[0] ** 2 + effects[1] ** 2

    def draw(self, rng):
        members = rng.random(self.shape) < 0.5
        offset, effect = (
            a * rng.normal(size=(self.shape[0], 1)) + b * rng.normal(size=(1, self.shape[1]))
            for a, b in (self.offsets, self.effects)
        )
        return offset + members * (self.shift + effect) + rng.normal(size=self.shape), members

    @property
    def auc(self):
        return norm.cdf(self.shift / np.sqrt(self.out + self.inside))

    @property
    def advantage(self):
        at = np.linspace(-8, 8, 8001)
        return np.max(norm.sf((at - self.shift) / np.sqrt(self.inside)) - norm.sf(at / np.sqrt(self.out)))

    def tpr(self, fpr):
        return norm.sf((norm.isf(fpr) * np.sqrt(self.out) - self.shift) / np.sqrt(self.inside))


MODELS = {
    "null, one target": Model(1, 400, 0.0),
    "leak, one target": Model(1, 400, 0.7),
    "null, four targets": Model(4, 200, 0.0),
    "null, shared offsets": Model(16, 200, 0.0, (0.5, 1.0)),
    "leak differs by target and unit": Model(6, 200, 0.7, (0.3, 0.5), (0.3, 0.3)),
    "leak of vulnerable units": Model(16, 200, 0.7, (0.0, 0.5), (0.0, 1.0)),
}


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_summary_intervals_cover(model):
    rng, missed = np.random.default_rng(7), {"auc": 0, "advantage": 0, "crossfitted low end": 0, "tpr": 0}
    for _ in range(GAMES):
        found = stats.summarise(*model.draw(rng), fprs=(0.1,), replicates=100, rng=rng)
        tpr = found.tpr_at_fpr[0]
        missed["auc"] += not found.auc.low <= model.auc <= found.auc.high
        missed["advantage"] += not found.advantage.low <= model.advantage <= found.advantage.high
        missed["crossfitted low end"] += found.advantage_crossfitted.low > model.advantage
        missed["tpr"] += tpr.value is not None and not tpr.low <= model.tpr(0.1) <= tpr.high
    assert max(missed.values()) <= MAY_MISS, missed


def test_treating_all_scores_as_independent_is_caught_by_this_harness():
    """Power: DeLong's interval over pooled scores must miss too often where units differ."""
    rng, model, missed = np.random.default_rng(8), MODELS["leak of vulnerable units"], 0
    for _ in range(GAMES):
        found = stats.delong(*stats.by_membership(*model.draw(rng)))
        missed += not found.low <= model.auc <= found.high
    assert missed > MAY_MISS


def test_delong_covers_for_one_target():
    rng, model, missed = np.random.default_rng(9), MODELS["leak, one target"], 0
    for _ in range(5 * GAMES):
        found = stats.delong(*stats.by_membership(*model.draw(rng)))
        missed += not found.low <= model.auc <= found.high
    assert missed <= binom.isf(1e-3, 5 * GAMES, 0.05)
