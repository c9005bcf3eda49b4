"""The three claims of `neural_sde.py`: estimands from a file that was there before the run, and rules for verdicts.

Intervals are percentile intervals of a bootstrap that draws complementary pairs of targets and units with replacement,
the same draws for both sides of a ratio or difference. Such an interval is a little too wide, never too narrow, because
it counts what pairs and units have in common twice.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from sfumato.audit.paired import paired
from sfumato.audit.statistics import crossed_game, sort_game, weighted_tpr_at_fpr
from sfumato.cli.fields import make
from sfumato.types import Bools, Floats

Word = Literal["confirmed", "refuted", "not decided"]


class Interval(NamedTuple):
    """An estimate with its ends; None where there are none."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One claim, its estimand, and the numbers that decide it; see docs/results/neural_sde_claims.toml."""

    id: str
    claim: str
    estimand: str
    confirms: str
    refutes: str
    rule: str
    subjects: tuple[str, ...]
    baseline: str
    group: str
    ways: tuple[str, ...]
    also_against: tuple[str, ...] = ()
    confirmed_low: float = 0.0
    confirmed_high: float = 0.0
    refuted_above: float = 0.0
    accuracy_within: float = 0.0
    risk_margin: float = 0.0
    accuracy_loss: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Fixed:
    """What all claims share, and the claims."""

    attack: str
    fpr: float
    confidence: float
    replicates: int
    fewest_models: int
    claims: tuple[Claim, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What came of one claim. `estimate` is None where a contender is missing."""

    verdict: Word
    reasons: tuple[str, ...]
    subject: str = ""
    way: str = ""
    estimate: Interval | None = None
    details: tuple[dict[str, Any], ...] = field(default_factory=tuple)


@dataclass(frozen=True, eq=False)
class Contest:
    """What the rules read: accuracies, and replicates of the risk of every contender in every way.

    Args:
        accuracy: name -> float64 [models], on the public records; NaN nowhere.
        risk: (name, way) -> value and replicates [1 + replicates], the value first; a deterministic contender has the
            way "one" and perhaps "gradient-norm" only.
        random: name -> whether it answers at random.
        models: of each contender.
    """

    accuracy: Mapping[str, Floats]
    risk: Mapping[tuple[str, str], Floats]
    random: Mapping[str, bool]
    models: int

    def rates(self, name: str, way: str) -> Floats | None:
        """Replicates in this way; one that does not answer at random gives the same answers however it is asked."""
        asked = way if self.random[name] or way == "gradient-norm" else "one"
        return self.risk.get((name, asked))


def testable(claim: Claim, names: Sequence[str]) -> Claim | None:
    """The claim for a run with these contenders; None where it has none to test it on."""
    subjects = tuple(name for name in claim.subjects if name in names)
    against = tuple(name for name in claim.also_against if name in names)
    return replace(claim, subjects=subjects, also_against=against) if subjects and claim.baseline in names else None


def claims_from(path: Path) -> Fixed:
    """The file of estimands; unknown keys are refused."""
    raw = tomllib.loads(path.read_text(encoding="utf-8"))
    claims = tuple(make(Claim, table, f"the claim {table.get('id', '')}") for table in raw.pop("claim"))
    return replace(make(Fixed, raw, str(path.name)), claims=claims)


class Draws(NamedTuple):
    """Weights of clusters: the sample itself first, then the replicates."""

    targets: Floats
    units: Floats


def drawn(targets: int, units: int, replicates: int, rng: np.random.Generator) -> Draws:
    """Weights [1 + replicates, targets] and [1 + replicates, units]; targets 2k and 2k+1 are drawn together."""
    pairs = rng.multinomial(targets // 2, np.full(targets // 2, 2 / targets), size=replicates)
    whole = rng.multinomial(units, np.full(units, 1 / units), size=replicates)
    first = np.repeat(np.vstack([np.ones(targets // 2), pairs]), 2, axis=1)
    return Draws(first.astype(np.float64), np.vstack([np.ones(units), whole]).astype(np.float64))


def rates(scores: Floats, members: Bools, fpr: float, draws: Draws) -> Floats:
    """[1 + replicates]: TPR at this FPR, pooled over targets; half a success and failure are added, so none is 0.

    Args:
        scores: float64 [targets, units], of the units in question only.
        members: bool [targets, units].
        fpr: false positive rate.
        draws: from `drawn`.
    """
    game = sort_game(crossed_game(scores, members))
    found = []
    for target_weights, unit_weights in zip(*draws, strict=True):
        curve = game.weighted_roc(target_weights, unit_weights)
        hits = float(weighted_tpr_at_fpr(curve, np.array([fpr]))[0]) * curve.members
        found.append((hits + 0.5) / (curve.members + 1))
    return np.array(found)


def interval(values: Floats, confidence: float) -> Interval:
    """The first value with the percentile interval of the others."""
    tail = (1 - confidence) / 2
    low, high = np.quantile(values[1:], [tail, 1 - tail], method="weibull")
    return Interval(float(values[0]), float(low), float(high))


def gain(contest: Contest, subject: str, baseline: str, confidence: float) -> Interval:
    """Difference in accuracy over the same models, paired; no interval (infinite ends) below 4 models."""
    found = paired(contest.accuracy[subject], contest.accuracy[baseline], "accuracy", confidence)
    if found.value is None or found.low is None or found.high is None:
        difference = float((contest.accuracy[subject] - contest.accuracy[baseline]).mean())
        return Interval(difference, -np.inf, np.inf)
    return Interval(found.value, found.low, found.high)


def judged(claim: Claim, contest: Contest, fixed: Fixed) -> Verdict:
    """The verdict on a claim; nothing is decided with contenders missing or with few models."""
    missing = [name for name in (*claim.subjects, claim.baseline) if name not in contest.accuracy]
    there = [name for name in claim.subjects if name not in missing]
    if claim.baseline in missing or not there or (missing and claim.rule != "gain"):
        return Verdict(verdict="not decided", reasons=(f"Not run yet: {', '.join(missing)}.",))
    found = RULES[claim.rule](claim, contest, fixed)
    why_not = []
    if missing:
        why_not.append(f"Not run yet: {', '.join(missing)}.")
    if contest.models < fixed.fewest_models:
        why_not.append(f"Only {contest.models} models of each contender; {fixed.fewest_models} are the least.")
    if not why_not:
        return found
    return replace(found, verdict="not decided", reasons=(*why_not, *found.reasons))


def ratio_rule(claim: Claim, contest: Contest, fixed: Fixed) -> Verdict:
    """T1."""
    (subject,), (way,) = claim.subjects, claim.ways
    above, below = contest.rates(subject, way), contest.rates(claim.baseline, way)
    if above is None or below is None:
        return _unmeasured(subject, [way])
    found = interval(above / below, fixed.confidence)
    difference = gain(contest, subject, claim.baseline, fixed.confidence)
    reasons = [
        f"The ratio is {found.value:.2f} ({found.low:.2f} to {found.high:.2f}).",
        f"The mean test accuracies differ by {_points(difference)}.",
    ]
    word: Word = "not decided"
    if abs(difference.value) > claim.accuracy_within:
        reasons.append(
            f"The condition on accuracy ({100 * claim.accuracy_within:g} points at most) failed, and accuracies were "
            "not matched afterwards by a choice of epochs: the estimate compares networks of unequal accuracy."
        )
    elif claim.confirmed_low <= found.low and found.high <= claim.confirmed_high:
        word = "confirmed"
    elif found.low > claim.refuted_above:
        word = "refuted"
    elif found.high < claim.confirmed_low:
        reasons.append("The whole interval lies below what was claimed: the effect is larger than claimed.")
    else:
        reasons.append("The interval meets neither condition.")
    return Verdict(verdict=word, reasons=tuple(reasons), subject=subject, way=way, estimate=found)


class _Rival(NamedTuple):
    """One neural SDE against DP-SGD: worst difference in risk, gain in accuracy, and what follows."""

    name: str
    way: str
    worst: Interval
    gain: Interval
    no_riskier: bool
    gains: bool
    riskier: bool
    loses: bool

    def plain(self) -> dict[str, Any]:
        return {
            "subject": self.name,
            "way_of_largest_difference": self.way,
            "difference_in_tpr": self.worst._asdict(),
            "gain_in_accuracy": self.gain._asdict(),
            "not_above_in_risk": self.no_riskier,
            "riskier": self.riskier,
            "less_accurate": self.loses,
        }


def gain_rule(claim: Claim, contest: Contest, fixed: Fixed) -> Verdict:
    """T2: the most accurate network that is no riskier, in every way of asking."""
    there = [name for name in claim.subjects if name in contest.accuracy]
    rivals = [_rival(claim, contest, fixed, name) for name in there]
    known = [rival for rival in rivals if rival is not None]
    if len(known) < len(there):
        return _unmeasured(", ".join(there), claim.ways)
    able = [rival for rival in known if rival.no_riskier]
    chosen = max(able, key=lambda r: r.gain.value) if able else min(known, key=lambda r: r.worst.value)
    word: Word = "not decided"
    if any(rival.gains for rival in able):
        word = "confirmed"
        chosen = max((rival for rival in able if rival.gains), key=lambda r: r.gain.value)
    elif all(rival.riskier or rival.loses for rival in known):
        word = "refuted"
    reasons = [
        f"{len(able)} of {len(known)} neural SDEs are not above DP-SGD in risk ({', '.join(r.name for r in able)})."
        if able
        else f"None of {len(known)} neural SDEs is shown to be not above DP-SGD in risk; the nearest is {chosen.name}.",
        f"{chosen.name}: accuracy {_points(chosen.gain)} against {claim.baseline}; largest difference in TPR "
        f"{_points(chosen.worst)}, by {WAYS[chosen.way]}.",
        f"Of all, {sum(r.riskier for r in known)} have a higher risk in some way, and {sum(r.loses for r in known)} a "
        "lower accuracy.",
    ]
    return Verdict(
        verdict=word,
        reasons=tuple(reasons),
        subject=chosen.name,
        way=chosen.way,
        estimate=chosen.gain,
        details=tuple(rival.plain() for rival in known),
    )


def _rival(claim: Claim, contest: Contest, fixed: Fixed, name: str) -> _Rival | None:
    ways = _ways(claim, contest, name)
    error = 1 - fixed.confidence
    strict, shared = 1 - error / len(claim.subjects), 1 - error / max(len(ways), 1)
    differences = {}
    for way in ways:
        above, below = contest.rates(name, way), contest.rates(claim.baseline, way)
        if above is None or below is None:
            return None
        differences[way] = above - below
    if not differences:
        return None
    upper = {way: interval(values, strict).high for way, values in differences.items()}
    lower = {way: interval(values, shared).low for way, values in differences.items()}
    worst = max(differences, key=lambda way: differences[way][0])
    accuracy = gain(contest, name, claim.baseline, strict)
    return _Rival(
        name=name,
        way=worst,
        worst=interval(differences[worst], fixed.confidence),
        gain=accuracy,
        no_riskier=max(upper.values()) < claim.risk_margin,
        gains=accuracy.low > 0,
        riskier=max(lower.values()) > 0,
        loses=gain(contest, name, claim.baseline, fixed.confidence).high < 0,
    )


def drop_in_rule(claim: Claim, contest: Contest, fixed: Fixed) -> Verdict:
    """T3: the ratio of risks in the way where it is largest, and what it costs."""
    (subject,) = claim.subjects
    ways = _ways(claim, contest, subject)
    ratios = {}
    for way in ways:
        above, below = contest.rates(subject, way), contest.rates(claim.baseline, way)
        if above is None or below is None:
            return _unmeasured(subject, ways)
        ratios[way] = above / below
    if not ratios:
        return _unmeasured(subject, claim.ways)
    shared = 1 - (1 - fixed.confidence) / len(ratios)
    largest = max(ratios, key=lambda way: ratios[way][0])
    found = interval(ratios[largest], fixed.confidence)
    difference = gain(contest, subject, claim.baseline, fixed.confidence)
    cheap, dear = difference.low > -claim.accuracy_loss, difference.high < -claim.accuracy_loss
    lower = all(interval(values, fixed.confidence).high < claim.refuted_above for values in ratios.values())
    not_lower = any(interval(values, shared).low > claim.refuted_above for values in ratios.values())
    word: Word = "confirmed" if lower and cheap else "refuted" if not_lower or dear else "not decided"
    reasons = [
        f"The ratio is largest by {WAYS[largest]}: {found.value:.2f} ({found.low:.2f} to {found.high:.2f}).",
        f"Test accuracy changes by {_points(difference)}.",
    ]
    details = [{"way": way, "ratio": interval(values, fixed.confidence)._asdict()} for way, values in ratios.items()]
    return Verdict(
        verdict=word, reasons=tuple(reasons), subject=subject, way=largest, estimate=found, details=tuple(details)
    )


def _ways(claim: Claim, contest: Contest, name: str) -> list[str]:
    """The ways that were tried; gradient norms stay out where no such attack was among those of the run."""
    return [way for way in claim.ways if way != "gradient-norm" or contest.rates(name, way) is not None]


def _unmeasured(subject: str, ways: Any) -> Verdict:
    told = ", ".join(WAYS[way] for way in ways)
    return Verdict(verdict="not decided", reasons=(f"Not every way of asking was tried ({told}).",), subject=subject)


def _points(difference: Interval) -> str:
    value, low, high = (100 * end for end in difference)
    if not np.isfinite(low):
        return f"{value:+.2f} points (too few models for an interval)"
    return f"{value:+.2f} points ({low:+.2f} to {high:+.2f})"


WAYS = {
    "one": "one answer",
    "many": "the average over many draws",
    "drift": "the network with its noise off",
    "common": "many draws with common noise",
    "gradient-norm": "the norm of the gradient",
}
RULES = {"ratio": ratio_rule, "gain": gain_rule, "drop-in": drop_in_rule}
