"""Attacks find nothing where there is nothing, and what theory says where scores are Gaussian.

Null: the target's answers do not depend on its training set, the references' do. Each attack plays many independent
targets; its mean AUC is normal around 0.5 with the Mann-Whitney variance. Bound 4.9 standard deviations: an honest
attack fails with probability 1e-6 per test, below 1e-4 in all.
"""

import numpy as np
import pytest
from scipy.stats import norm

from sfumato.attacks.catalogue import attacks
from sfumato.attacks.membership import bavaria, lira
from sfumato.attacks.membership.attack_r import AttackR
from sfumato.attacks.membership.bavaria import BaVarIA
from sfumato.attacks.membership.boundary_distance import BoundaryDistance
from sfumato.attacks.membership.label_noise import LabelNoise
from sfumato.attacks.membership.lira import LiRAOffline, LiRAOnline
from sfumato.attacks.membership.rmia import RMIA
from sfumato.attacks.membership.worlds import world
from sfumato.audit.statistics.units import combine

BOUND = 4.9
FITTED = ("quantile", "shadow-classifier")
OPTIONS = [
    LiRAOnline(variance="per-example"),
    LiRAOffline(offline_score="pdf"),
    AttackR(smoothing="linear"),
    RMIA(online=False),
    RMIA(form="counting"),
    BaVarIA(prior="global"),
    BoundaryDistance(calibration="likelihood"),
    LabelNoise(calibration="difficulty"),
]
ALL = [attack() for attack in attacks().values()] + OPTIONS


def label(attack):
    return attack.name if attack not in OPTIONS else f"{attack.name}-option{OPTIONS.index(attack)}"


def z_of_mean_auc(attack, attack_evidence, targets, unit_size):
    z, variance = 0.0, 0.0
    for seed in range(targets):
        evidence, members = attack_evidence.synthetic(
            game=40 * unit_size, public=60, gap=1.5, target_gap=0.0, unit_size=unit_size, seed=seed, references=6
        )
        evidence = evidence.restricted_to(attack.needs())
        scores = attack.score(evidence, [fit.run() for fit in attack.fits(evidence)])
        units = np.arange(40 * unit_size) // unit_size
        combined = combine(scores[evidence.game], units, attack.unit_rule)
        inside = members[: 40 * unit_size : unit_size]
        z += attack_evidence.auc(combined, inside) - 0.5
        variance += (len(inside) + 1) / (12 * inside.sum() * (~inside).sum())
    return z / np.sqrt(variance)


@pytest.mark.statistical
@pytest.mark.parametrize("unit_size", [1, 10])
@pytest.mark.parametrize("attack", ALL, ids=label)
def test_exchangeable_members_are_not_found(attack, unit_size, attack_evidence):
    targets = 20 if attack.name in FITTED else 120
    assert abs(z_of_mean_auc(attack, attack_evidence, targets, unit_size)) < BOUND


@pytest.mark.statistical
def test_the_null_test_would_see_a_small_leak(attack_evidence):
    evidence_of = attack_evidence.synthetic

    class Shifted:
        auc = staticmethod(attack_evidence.auc)

        @staticmethod
        def synthetic(**options):
            return evidence_of(**{**options, "target_gap": 0.3})

    assert abs(z_of_mean_auc(LiRAOnline(), Shifted, 120, 1)) > BOUND


def gaussian_game(separation, records, references, seed):
    """phi ~ N(level_i + separation * member, spread_i^2), every record with its own level and spread."""
    rng = np.random.default_rng(seed)
    half = rng.random((references // 2, records)) < 0.5
    membership = np.stack([half, ~half], axis=1).reshape(references, records)
    level, spread = 3 * rng.normal(size=records), np.exp(rng.normal(size=records))
    members = rng.random(records) < 0.5

    def draw(inside):
        return (level + spread * (rng.normal(size=inside.shape) + separation * inside))[..., None]

    return draw(members), draw(membership), membership, members


@pytest.mark.statistical
@pytest.mark.parametrize("separation", [0.5, 1.0, 2.0])
def test_online_ratio_reaches_the_closed_form_on_gaussian_scores(attack_evidence, separation):
    """AUC = Phi(d/sqrt 2), TPR at FPR a = Phi(d + Phi^-1(a)); sampling error of 4 standard errors, 5e-3 for the fit."""
    target, references, membership, members = gaussian_game(separation, 20_000, 200, seed=int(10 * separation))
    ratios = {
        "lira": lira.online_scores(target, references, membership, "per-example", "mean"),
        "bavaria": bavaria.online_scores(
            target, world(references, membership), world(references, ~membership), bavaria.Options()
        ),
    }
    for scores in ratios.values():
        inside, outside = scores[members], np.sort(scores[~members])
        auc = np.searchsorted(outside, inside).mean() / len(outside)
        assert auc == pytest.approx(norm.cdf(separation / np.sqrt(2)), abs=4 * 0.0041 + 5e-3)
        for rate in (0.1, 0.01):
            threshold = outside[-int(rate * len(outside))]
            expected = norm.cdf(separation + norm.ppf(rate))
            slope = norm.pdf(separation + norm.ppf(rate)) / norm.pdf(norm.ppf(rate))
            error = np.sqrt(expected * (1 - expected) / len(inside) + slope**2 * rate * (1 - rate) / len(outside))
            assert (inside >= threshold).mean() == pytest.approx(expected, abs=4 * error + 5e-3)


@pytest.mark.statistical
@pytest.mark.parametrize("references", [4, 8, 16, 32, 64])
def test_bavaria_is_not_below_the_better_lira(references):
    """Heterogeneous spreads and gaps; paired over 30 targets, one-sided at 1e-3 on mean AUC and on TPR at 1% FPR."""
    better = {"auc": [], "tpr": []}
    for seed in range(30):
        rng = np.random.default_rng([references, seed])
        half = rng.random((references // 2, 800)) < 0.5
        membership = np.stack([half, ~half], axis=1).reshape(references, 800)
        difficulty = rng.normal(size=800)
        spread, gap = np.exp(0.4 * rng.normal(size=800)), np.exp(0.7 * difficulty - 0.5)
        members = rng.random(800) < 0.5

        def draw(inside, rng=rng, difficulty=difficulty, spread=spread, gap=gap):
            noise = rng.standard_t(5, size=inside.shape)
            return (4 - 3 * difficulty + spread * noise + gap * inside)[..., None]

        target, scores = draw(members), draw(membership)
        worlds = world(scores, membership), world(scores, ~membership)
        own = bavaria.online_scores(target, *worlds, bavaria.Options())
        liras = [lira.online_scores(target, scores, membership, v, "mean") for v in ("per-example", "pooled-residual")]
        for name, measure in (("auc", _auc), ("tpr", _tpr)):
            better[name].append([measure(own, members) - measure(other, members) for other in liras])
    for gains in better.values():
        gain = np.array(gains)[:, int(np.argmin(np.mean(gains, axis=0)))]
        assert gain.mean() / (gain.std(ddof=1) / np.sqrt(len(gain))) > norm.ppf(1e-3)


def _auc(scores, members):
    return np.searchsorted(np.sort(scores[~members]), scores[members]).mean() / (~members).sum()


def _tpr(scores, members):
    outside = np.sort(scores[~members])
    return (scores[members] > outside[-1 - int(0.01 * len(outside))]).mean()
