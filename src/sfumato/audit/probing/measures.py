"""What a variant is worth and what it gives away, and by how much less than the network it was made from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from sfumato.attacks.membership.lira import LiRAOnline
from sfumato.audit.findings import finding
from sfumato.audit.game import FitRunner, Game, Played, play, siblings
from sfumato.audit.paired import aucs, difference_of_scores, paired, unresolved_difference
from sfumato.audit.probing.settings import ProbeSettings
from sfumato.audit.record import Finding
from sfumato.audit.statistics import (
    FEWEST_TARGETS,
    Resamples,
    SortedGame,
    WeightedROC,
    bootstrap,
    clopper_pearson,
    crossed_game,
    draw_resamples,
    full_roc,
    mean_interval,
    percentile_interval,
    resolvable,
    sort_game,
    summarise,
    weighted_tpr_at_fpr,
)
from sfumato.audit.utility import honest, per_model
from sfumato.data.membership import Membership
from sfumato.data.population import Population
from sfumato.models.base import ModelFamily
from sfumato.seeding import stream
from sfumato.targets.answers import Answers
from sfumato.types import Bools, Floats, Ints

GAP = "loss-difference"  # no rate: it is in nats
_PAIRS = "t interval over complementary pairs of models"
_POOLED = (
    "paired bootstrap over {what} of the pooled scores, the same draws for both; at least as wide as exact intervals"
)


class Measures(NamedTuple):
    """Accuracy on records outside the training sets, and risk: loss gap, AUC and TPRs of LiRA."""

    accuracy: Finding
    risk: list[Finding]


@dataclass(frozen=True, eq=False)
class Measured:
    """All models of one variant, after LiRA.

    Args:
        game: each model in turn is the target, the others of the same variant are its references.
        played: LiRA's scores.
        accuracies: float64 [models], on records outside each training set.
        gaps: float64 [models], mean loss of non-members less that of members, in nats.
        settings: see `ProbeSettings`.
    """

    game: Game
    played: Played
    accuracies: Floats
    gaps: Floats
    settings: ProbeSettings

    @cached_property
    def own(self) -> Measures:
        """The variant's own numbers."""
        game, settings = self.game, self.settings
        summary = summarise(
            self.played.scores,
            game.members,
            game.in_game,
            fprs=settings.fprs,
            confidence=settings.confidence,
            replicates=settings.replicates,
            rng=stream(settings.seed, "statistics", self.played.attack.name),
        )
        lira = [one for one in map(finding, summary.estimates) if one.name in ("auc", "tpr_at_fpr")]
        confidence = settings.confidence
        return Measures(_mean(self.accuracies, "accuracy", confidence), [_mean(self.gaps, GAP, confidence), *lira])

    def carried(self, whole: Measured) -> Measures:
        """By how much each number of `whole`, trained on the same records with the same seeds, is higher."""
        confidence, game = self.settings.confidence, self.game
        scores = whole.played.scores, self.played.scores
        area = difference_of_scores(*scores, game.members, game.in_game, aucs, "auc", confidence)
        rates = [self._rate_carried(whole, fpr) for fpr in self.settings.fprs]
        return Measures(
            paired(whole.accuracies, self.accuracies, "accuracy", confidence),
            [paired(whole.gaps, self.gaps, GAP, confidence), area, *rates],
        )

    def _rate_carried(self, whole: Measured, fpr: float) -> Finding:
        negatives = int((~self.game.members & self.game.in_game).sum())
        if not resolvable(fpr, negatives):
            note = f"{negatives} scores of non-members are too few for {fpr:g}."
            return unresolved_difference("tpr_at_fpr", self.settings.confidence, note).model_copy(update={"at": fpr})
        column = self.settings.fprs.index(fpr)
        value = float(whole.rates.value[column] - self.rates.value[column])
        replicates = whole.rates.replicates[:, column] - self.rates.replicates[:, column]
        interval = percentile_interval(value, replicates, self.settings.confidence)
        own, other = float(self.rates.value[column]), float(whole.rates.value[column])
        members = int((self.game.members & self.game.in_game).sum())
        least = between_rates(other, own, members, self.settings.confidence)  # replicates of two rates of 0 are all 0
        several = len(self.accuracies) // 2 >= FEWEST_TARGETS
        return Finding(
            name="tpr_at_fpr",
            at=fpr,
            value=value,
            low=min(float(interval.low), least.low),
            high=max(float(interval.high), least.high),
            confidence=self.settings.confidence,
            method=_POOLED.format(what="pairs of models and units" if several else "units, of these models only,"),
        )

    @cached_property
    def rates(self) -> Rates:
        """Pooled TPRs and their replicates."""
        members, in_game = self.game.members, self.game.in_game
        pooled = sort_game(crossed_game(self.played.scores[:, in_game], members[:, in_game]))
        return pooled_rates(pooled, self.resamples, self.settings.fprs)

    @property
    def resamples(self) -> Resamples:
        """The same draws of pairs of models and of units for every variant."""
        pairs, units = len(self.accuracies) // 2, int(self.game.in_game.sum())
        drawn = draw_resamples(pairs, units, self.settings.replicates, stream(self.settings.seed, "probe bootstrap"))
        return Resamples(drawn.targets.repeat(2, axis=1), drawn.units)


class Ends(NamedTuple):
    """Of an interval."""

    low: float
    high: float


def between_rates(first: float, second: float, count: int, confidence: float) -> Ends:
    """Interval of the difference of two independent rates of `count` trials, from the exact ones of each.

    Zou and Donner (2008), equation 5, with the intervals of Clopper and Pearson.
    """
    a, b = (clopper_pearson(round(rate * count), count, confidence) for rate in (first, second))
    below, above = np.hypot(first - a.low, b.high - second), np.hypot(a.high - first, second - b.low)
    return Ends(max(-1.0, first - second - float(below)), min(1.0, first - second + float(above)))


class Rates(NamedTuple):
    """`value` [fprs] and `replicates` [replicates, fprs]."""

    value: Floats
    replicates: Floats


def pooled_rates(game: SortedGame, resamples: Resamples, fprs: Sequence[float]) -> Rates:
    """TPR at each FPR of the pooled scores, and of every replicate."""

    def rates(curve: WeightedROC) -> NDArray[np.float64]:
        return weighted_tpr_at_fpr(curve, np.asarray(fprs, dtype=np.float64)).astype(np.float64)

    whole = full_roc(game, resamples.targets.shape[1], resamples.units.shape[1])
    return Rates(rates(whole), bootstrap(game, resamples, rates))


def measured(
    answers: Answers,
    population: Population,
    membership: Membership,
    model: ModelFamily,
    settings: ProbeSettings,
    run_fit: FitRunner,
) -> Measured:
    """LiRA, accuracy and loss gap of all models of one variant."""
    game = siblings(population, membership, answers, model)
    inside = membership.matrix[:, population.unit_of]
    played_rows = membership.in_game[population.unit_of]
    return Measured(
        game,
        play(game, LiRAOnline(), settings.seed, run_fit),
        per_model("accuracy", answers.logits, answers.labels, ~inside & honest(population)),
        loss_gaps(answers.logits, answers.labels, inside & played_rows, ~inside & played_rows),
        settings,
    )


def loss_gaps(logits: Floats, labels: Ints, members: Bools, nonmembers: Bools) -> Floats:
    """Mean cross-entropy of non-members less that of members, in nats.

    Args:
        logits: [models, n, classes].
        labels: int64 [n].
        members: bool [models, n].
        nonmembers: bool [models, n].

    Returns:
        float64 [models].
    """
    wide = logits.astype(np.float64)
    losses = np.asarray(logsumexp(wide, axis=2)) - wide[:, np.arange(len(labels)), labels]
    return np.array([loss[out].mean() - loss[m].mean() for loss, m, out in zip(losses, members, nonmembers)])


def _mean(values: Floats, name: str, confidence: float) -> Finding:
    """Mean over models; the interval is that of the pairs, whose models have complementary training sets."""
    ci = mean_interval((values[0::2] + values[1::2]) / 2, confidence)
    return Finding(name=name, value=ci.mean, low=ci.low, high=ci.high, confidence=confidence, method=_PAIRS)
