"""Naive twins of the attacks on models that answer at random: loops over records and references."""

import math

import numpy as np
import pytest
from scipy import stats

from sfumato.attacks.evidence import Evidence
from sfumato.attacks.membership import gradient_norm, lira_two_features, predictive_variance
from sfumato.targets.answers import Answers

R, N, V = 8, 9, 2


@pytest.fixture
def rng():
    return np.random.default_rng(5)


@pytest.fixture
def membership(rng):
    """bool [R, N], at least two references of each kind for every record."""
    half = rng.random((R // 2, N)) < 0.5
    half[:2] = [[True], [False]]
    return np.stack([half, ~half], axis=1).reshape(R, N)


def played(attack, table, membership):
    """The attack on positive statistics {name: [1 + R, N, V]} under its own queries."""
    labels, logits = np.arange(N) % 3, np.zeros((1 + R, N, 3))
    answers = Answers(labels, logits, {attack.query_set.key: table})
    everyone = np.ones(N, bool)
    target, references = answers.pick(np.array([0])), answers.pick(np.arange(1, 1 + R))
    evidence = Evidence(labels, target, everyone, ~everyone, references, membership)
    assert attack.applies_to(evidence) == ()
    return attack.score(evidence)


def test_predictive_variance(rng, membership):
    deviation = np.exp(rng.normal(size=(1 + R, N, V)))
    deviation[0, 0, 0] = 0.0
    steady = [[[-math.log(max(x, 1e-6)) for x in row] for row in model] for model in deviation]
    for calibrated in (True, False):
        scores = played(
            predictive_variance.PredictiveVariance(calibrated=calibrated), {"deviation": deviation}, membership
        )
        for i in range(N):
            each = []
            for v in range(V):
                usual = np.mean([steady[1 + r][i][v] for r in range(R) if not membership[r, i]])
                each.append(steady[0][i][v] - (usual if calibrated else 0.0))
            assert scores[i] == pytest.approx(np.mean(each))


def test_lira_on_two_features(rng, membership):
    logit, deviation = rng.normal(size=(1 + R, N, V)), np.exp(rng.normal(size=(1 + R, N, V)))
    logit[1:] += 2 * membership[..., None]
    scores = played(lira_two_features.LiRATwoFeatures(), {"logit": logit, "deviation": deviation}, membership)

    def feature(model, i, v):
        return np.array([logit[model, i, v], -math.log(deviation[model, i, v])])

    expected = np.zeros(N)
    for v in range(V):
        for inside in (True, False):
            means, outer, freedom = [], np.zeros((2, 2)), 0
            for i in range(N):
                own = [feature(1 + r, i, v) for r in range(R) if membership[r, i] == inside]
                means.append(sum(own) / len(own))
                outer += sum(np.outer(x - means[i], x - means[i]) for x in own)
                freedom += len(own) - 1
            for i in range(N):
                density = stats.multivariate_normal(means[i], outer / freedom).logpdf(feature(0, i, v))
                expected[i] += (1 if inside else -1) * density / V
    np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-4)  # the twin has no floor under the variances


def test_two_features_know_more_than_each_alone(rng):
    """Members are surer at the same spread: the features are correlated, so their difference tells most."""
    members, refs, n = rng.random(400) < 0.5, 40, 400
    membership = np.stack([m := rng.random((refs // 2, n)) < 0.5, ~m], axis=1).reshape(refs, n)

    def draw(inside):
        shared = 3 * rng.normal(size=inside.shape)
        return np.stack([shared + inside, shared + 0.3 * rng.normal(size=inside.shape)], axis=-1)[..., None, :]

    scores = lira_two_features.two_feature_scores(draw(members), draw(membership), membership)
    assert (scores[members][:, None] > scores[~members]).mean() > 0.9


def test_gradient_norm(rng, membership):
    norms = np.exp(rng.normal(size=(1 + R, N, V)))
    norms[0, 0, 0] = 0.0
    flat = -np.log(np.maximum(norms, 1e-12))
    none, difficulty, likelihood = (
        played(gradient_norm.GradientNorm(calibration=kind), {"gradient_norm": norms}, membership)
        for kind in ("none", "difficulty", "likelihood")
    )
    expected = np.zeros(N)
    for v in range(V):
        spread = {}
        for inside in (True, False):
            pooled = [
                x - np.mean(own)
                for i in range(N)
                for own in [[flat[1 + r, i, v] for r in range(R) if membership[r, i] == inside]]
                for x in own
            ]
            spread[inside] = math.sqrt(np.square(pooled).sum() / ((membership == inside).sum() - N))
        for i in range(N):
            kinds = {k: [flat[1 + r, i, v] for r in range(R) if membership[r, i] == k] for k in (True, False)}
            densities = {k: stats.norm.logpdf(flat[0, i, v], np.mean(kinds[k]), spread[k]) for k in kinds}
            expected[i] += (densities[True] - densities[False]) / V
    np.testing.assert_allclose(likelihood, expected, rtol=1e-5)
    for i in range(N):
        usual = [np.mean([flat[1 + r, i, v] for r in range(R) if not membership[r, i]]) for v in range(V)]
        assert none[i] == pytest.approx(flat[0, i].mean())
        assert difficulty[i] == pytest.approx(np.mean(flat[0, i] - usual))
