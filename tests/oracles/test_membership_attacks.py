"""Naive twins of every membership attack: loops over records and references, straight from the formulas."""

import math

import numpy as np
import pytest
from scipy import stats

from sfumato.attacks.membership import (
    attack_p,
    attack_r,
    base_attack,
    bavaria,
    calibration,
    class_thresholds,
    confidence,
    entropy,
    lira,
    loss,
    marginals,
    modified_entropy,
    quantile,
    rmia,
    shadow_classifier,
)
from sfumato.attacks.membership.worlds import World, median, world
from sfumato.targets.answers import hinge, log_confidence, logit_scaled

R, N, V, C = 6, 9, 2, 4


@pytest.fixture
def rng():
    return np.random.default_rng(5)


@pytest.fixture
def game(rng):
    """Target [N, V], references [R, N, V], membership bool [R, N] in complementary pairs."""
    half = rng.random((R // 2, N)) < 0.5
    membership = np.stack([half, ~half], axis=1).reshape(R, N)
    return rng.normal(size=(N, V)), rng.normal(size=(R, N, V)) + membership[..., None], membership


def chosen(references, mask, i, v):
    return [references[r, i, v] for r in range(len(references)) if mask[r, i]]


def twin(target, of_one):
    """Mean over variants of `of_one(record, variant)`."""
    return [np.mean([of_one(i, v) for v in range(target.shape[1])]) for i in range(len(target))]


def softmax(z):
    e = [math.exp(x) for x in z]
    return [x / sum(e) for x in e]


def test_statistics_of_answers(rng):
    logits, labels = rng.normal(size=(N, C)), rng.integers(0, C, N)
    for i, y in enumerate(labels):
        p = softmax(logits[i])
        assert logit_scaled(logits, labels)[i] == pytest.approx(math.log(p[y] / (1 - p[y])))
        assert hinge(logits, labels)[i] == pytest.approx(logits[i, y] - max(logits[i, c] for c in range(C) if c != y))
        assert log_confidence(logits, labels)[i] == pytest.approx(math.log(p[y]))
        assert log_confidence(logits, labels, 2.0)[i] == pytest.approx(math.log(softmax(logits[i] / 2)[y]))


def test_sure_answers_do_not_tie_at_loss_zero():
    logits = np.array([[50.0, 0.0], [60.0, 0.0]])
    low, high = log_confidence(logits, np.array([0, 0]))
    assert low < high < 0


def test_loss_and_confidence(game):
    target, _, _ = game
    np.testing.assert_allclose(loss.loss_scores(target), twin(target, lambda i, v: target[i, v]))
    np.testing.assert_allclose(confidence.confidence_scores(target), twin(target, lambda i, v: target[i, v]))


def test_entropies(rng):
    logits, labels = rng.normal(size=(N, C)) * 3, rng.integers(0, C, N)
    for i, y in enumerate(labels):
        p = softmax(logits[i])
        plain = -sum(q * math.log(q) for q in p)
        modified = -(1 - p[y]) * math.log(p[y]) - sum(p[c] * math.log(1 - p[c]) for c in range(C) if c != y)
        assert entropy.entropy_scores(logits)[i] == pytest.approx(-plain)
        assert modified_entropy.modified_entropy_scores(logits, labels)[i] == pytest.approx(-modified)


def test_modified_entropy_tells_very_sure_answers_apart():
    sure = modified_entropy.modified_entropy_scores(np.array([[45.0, 0.0], [50.0, 0.0]]), np.array([0, 0]))
    assert sure[0] < sure[1] < 0
    wrong = modified_entropy.modified_entropy_scores(np.array([[45.0, 0.0], [45.0, 0.0]]), np.array([0, 1]))
    assert wrong[1] < -80


def test_best_threshold_has_the_highest_balanced_accuracy(rng):
    for _ in range(20):
        members = rng.random(12) < 0.5
        members[:2] = True, False
        scores = np.round(rng.normal(size=12) + members)  # many ties, across both kinds

        def accuracy(threshold, scores=scores, members=members):
            return ((scores >= threshold)[members].mean() + (scores < threshold)[~members].mean()) / 2

        best = max(accuracy(t) for t in [*scores, scores.max() + 1])
        found = class_thresholds.best_threshold(scores, members)
        assert accuracy(found) == pytest.approx(best) or best == pytest.approx(0.5)


def test_class_thresholds_are_those_of_the_class_or_the_overall_one(rng):
    scores, membership = rng.normal(size=(R, N)), rng.random((R, N)) < 0.5
    labels = np.array([0, 0, 0, 0, 2, 2, 2, 2, 3])
    membership[:, 8] = True
    found = class_thresholds.class_thresholds(scores, labels, membership)
    for c in (0, 2):
        of = [(scores[r, i], membership[r, i]) for r in range(R) for i in range(N) if labels[i] == c]
        assert found[c] == class_thresholds.best_threshold(*(np.array(x) for x in zip(*of, strict=True)))
    overall = class_thresholds.best_threshold(scores.ravel(), membership.ravel())
    assert found[1] == found[3] == overall


def test_worlds(game):
    _, references, membership = game
    one, middle = world(references, membership), median(references, membership)
    for i in range(N):
        for v in range(V):
            x = chosen(references, membership, i, v)
            assert one.models[i] == len(x)
            assert one.mean[i, v] == pytest.approx(np.mean(x))
            assert one.squares[i, v] == pytest.approx(np.var(x) * len(x))
            assert middle[i, v] == pytest.approx(np.median(x))


@pytest.mark.parametrize("smoothing", attack_p.SMOOTHINGS)
def test_attack_p(rng, smoothing):
    target, population = rng.normal(size=(N, V)), rng.normal(size=(15, V))
    population[0] = target[0]

    def one(i, v):
        z, x = sorted(population[:, v]), target[i, v]
        if smoothing == "gaussian":
            return (x - np.mean(z)) / np.std(z)
        if smoothing == "empirical":
            return (sum(q < x for q in z) + 0.5 * sum(q == x for q in z)) / len(z)
        if x <= z[0] or x >= z[-1]:
            return (1 if x <= z[0] else len(z)) / (len(z) + 1)
        k = max(k for k in range(len(z)) if z[k] <= x)
        return (k + 1 + (x - z[k]) / (z[k + 1] - z[k])) / (len(z) + 1)

    np.testing.assert_allclose(attack_p.population_scores(target, population, smoothing), twin(target, one))


@pytest.mark.parametrize("smoothing", attack_p.SMOOTHINGS)
def test_attack_r(game, smoothing):
    target, references, membership = game
    target[0] = references[np.flatnonzero(~membership[:, 0])[0], 0]  # a tie

    def one(i, v):
        z, x = sorted(chosen(references, ~membership, i, v)), target[i, v]
        if smoothing == "gaussian":
            return (x - np.mean(z)) / np.std(z, ddof=1)
        if smoothing == "empirical":
            return (sum(q < x for q in z) + 0.5 * sum(q == x for q in z)) / len(z)
        return np.interp(x, z, np.arange(1, len(z) + 1)) / (len(z) + 1)

    np.testing.assert_allclose(attack_r.reference_scores(target, references, ~membership, smoothing), twin(target, one))


def test_calibration(game):
    target, references, membership = game
    expected = twin(target, lambda i, v: target[i, v] - np.mean(chosen(references, ~membership, i, v)))
    np.testing.assert_allclose(calibration.calibrated_scores(target, references, ~membership), expected)


def variance_of(references, mask, i, v, rule):
    if rule == "per-example":
        return np.var(chosen(references, mask, i, v))
    if rule == "pooled-raw":
        return np.var([x for j in range(N) for x in chosen(references, mask, j, v)])
    groups = [chosen(references, mask, j, v) for j in range(N)]
    return sum(np.var(g) * len(g) for g in groups) / sum(len(g) - 1 for g in groups)


@pytest.mark.parametrize("center", ["mean", "median"])
@pytest.mark.parametrize("rule", ["per-example", "pooled-residual", "pooled-raw"])
def test_lira(game, rule, center):
    target, references, membership = game
    middle = np.mean if center == "mean" else np.median

    def gaussian(mask, i, v):
        sigma = math.sqrt(variance_of(references, mask, i, v, rule))
        return stats.norm(middle(chosen(references, mask, i, v)), sigma)

    def online(i, v):
        return gaussian(membership, i, v).logpdf(target[i, v]) - gaussian(~membership, i, v).logpdf(target[i, v])

    found = lira.online_scores(target, references, membership, rule, center)
    np.testing.assert_allclose(found, twin(target, online))
    for score, form in (("cdf", lambda d, x: d.logcdf(x)), ("pdf", lambda d, x: -d.logpdf(x))):
        found = lira.offline_scores(target, references, ~membership, (rule, center, score))
        expected = twin(target, lambda i, v, form=form: form(gaussian(~membership, i, v), target[i, v]))
        np.testing.assert_allclose(found, expected)


def test_lira_switches_where_64_models_leave_62_references():
    assert lira.resolved_variance("auto", 61) == "pooled-residual"
    assert lira.resolved_variance("auto", 62) == "per-example"
    assert lira.resolved_variance("pooled-raw", 64) == "pooled-raw"


def test_lira_with_one_reference_of_each_kind_ranks_by_the_midpoint_rule(game):
    target, references, membership = game
    found = lira.online_scores(target, references[:2], membership[:2], "auto", "mean")
    inside = np.where(membership[0][:, None], references[0], references[1])
    outside = np.where(membership[0][:, None], references[1], references[0])
    sigma2 = np.var(inside - outside, axis=0) / 2
    np.testing.assert_allclose(found, ((inside - outside) * (target - (inside + outside) / 2) / sigma2).mean(axis=1))


def naive_log_mean(log_p, mask, i, v, trim=0.0):
    p = sorted(math.exp(x) for x in chosen(log_p, mask, i, v))
    k = int(trim * len(p))
    return math.log(np.mean(p[k : len(p) - k]))


def test_base(game):
    target, references, membership = -np.exp(game[0]), -np.exp(game[1]), game[2]
    balanced = twin(target, lambda i, v: target[i, v] - naive_log_mean(references, membership | True, i, v))
    np.testing.assert_allclose(base_attack.base_scores(target, references, membership, None), balanced)
    offline = twin(target, lambda i, v: target[i, v] - 0.33 * naive_log_mean(references, ~membership, i, v))
    np.testing.assert_allclose(base_attack.base_scores(target, references, membership, 0.33), offline)


def test_rmia_marginals(game):
    log_p, membership = -np.exp(game[1]), game[2]
    membership = np.concatenate([membership, membership[:1]])  # unequal numbers must not shift the weights
    log_p = np.concatenate([log_p, log_p[:1] - 0.1])
    for trim in (0.0, 0.34):
        online, outside = (
            marginals.log_mean_of_worlds(log_p, membership, trim),
            marginals.log_mean(log_p, ~membership, trim),
        )
        for i in range(N):
            p_in, p_out = (math.exp(naive_log_mean(log_p, m, i, 0, trim)) for m in (membership, ~membership))
            assert math.exp(online[i, 0]) == pytest.approx((p_in + p_out) / 2)
            assert math.exp(outside[i, 0]) == pytest.approx(p_out)
            for a in (0.0, 0.4, 1.0):
                found = marginals.log_marginal_from_outside(outside[i, 0], a)
                assert math.exp(found) == pytest.approx(((1 + a) * p_out + 1 - a) / 2)


def test_rmia_scores(rng):
    ratios, population = rng.normal(size=N), rng.normal(size=20)
    counted = [sum(math.exp(x) / math.exp(z) >= 2.0 for z in population) / 20 for x in ratios]
    np.testing.assert_allclose(rmia.counting_scores(ratios, population, 2.0), counted)
    np.testing.assert_allclose(rmia.continuous_scores(ratios, population), [x - sum(population) / 20 for x in ratios])
    np.testing.assert_array_equal(rmia.continuous_scores(ratios, np.empty(0)), ratios)


def test_taylor_softmax(rng):
    logits, labels = np.abs(rng.normal(size=(N, C))) * 3, rng.integers(0, C, N)

    def t(v):
        return 1 + v + v**2 / 2 + v**3 / 6

    for i, y in enumerate(labels):
        own = t(logits[i, y] / 2 - 0.6)
        p = own / (own + sum(t(logits[i, c] / 2) for c in range(C) if c != y))
        assert rmia.taylor_log_confidence(logits, labels, 2.0)[i] == pytest.approx(math.log(p))


def test_choice_of_a_maximises_the_auc_on_references(rng):
    half = rng.random((4, 200)) < 0.5
    membership = np.stack([half, ~half], axis=1).reshape(8, 200)
    level = -np.exp(rng.normal(size=200))
    log_p = np.minimum((level + 0.3 * rng.normal(size=(8, 200)) + 0.5 * membership), -1e-3)[..., None]
    totals = []
    for a in marginals.GRID:
        total = 0.0
        for t in (0, 1):
            rest = [r for r in range(8) if r not in (0, 1)]
            scores = []
            for i in range(200):
                p_out = np.mean([math.exp(log_p[r, i, 0]) for r in rest if not membership[r, i]])
                scores.append(log_p[t, i, 0] - math.log(((1 + a) * p_out + 1 - a) / 2))
            m = membership[t]
            difference = np.array(scores)[m][:, None] - np.array(scores)[~m][None]
            total += ((difference > 0) + 0.5 * (difference == 0)).mean()
        totals.append(total)
    assert totals[round(10 * marginals.choose_a(log_p, membership))] == pytest.approx(max(totals))
    assert marginals.choose_a(log_p[:2], membership[:2]) == marginals.FALLBACK_A


def naive_variance_prior(one, slope):
    """Moments with loops; `slope` is the trend of log variance already exponentiated and scaled to mean 1."""
    z, squares = [], []
    for i in range(len(one.models)):
        s2 = one.squares[i, 0] / (one.models[i] - 1) / slope[i]
        z.append(s2)
        squares.append(s2**2 / (1 + 2 / (one.models[i] - 1)))
    m = np.mean(z)
    v = max(np.mean(squares) - m**2, m**2 / 1000)
    return 2 + m**2 / v, [m * (1 + m**2 / v) * s for s in slope]


def test_bavaria_priors(rng):
    n = 40
    scores, inside = rng.normal(size=(8, n, 1)) * np.exp(0.3 * rng.normal(size=n))[:, None], np.arange(8) % 2 == 0
    mask = np.repeat(inside[:, None], n, axis=1)
    one, other = world(scores + mask[..., None], mask), world(scores, ~mask)
    difficulty = [(one.mean[i, 0] + other.mean[i, 0]) / 2 for i in range(n)]
    order = sorted(range(n), key=lambda i: difficulty[i])
    u = [stats.norm.ppf((order.index(i) + 0.5) / n) for i in range(n)]
    gap = [one.mean[i, 0] - other.mean[i, 0] for i in range(n)]
    trend = np.polyval(np.polyfit(u, gap, 2), u)
    log_s2 = [math.log(one.squares[i, 0] / 3) for i in range(n)]
    slope = np.exp(0.5 * np.polyval(np.polyfit(u, log_s2, 2), u))
    shape, scale = naive_variance_prior(one, slope / slope.mean())
    noise = sum(w.squares.sum() / (3 * n) / 4 for w in (one, other))
    strength = 4 * noise / max(np.var(gap - trend) - noise, np.var(gap) / 1000)
    prior, other_prior = bavaria.trend_priors(one, other, 0.5)
    np.testing.assert_allclose(prior.mean, np.array(difficulty) + trend / 2, atol=1e-9)
    np.testing.assert_allclose(other_prior.mean, np.array(difficulty) - trend / 2, atol=1e-9)
    assert prior.strength == pytest.approx(strength) == other_prior.strength
    assert prior.shape == pytest.approx(shape)
    np.testing.assert_allclose(prior.scale, scale, rtol=1e-6)
    plain = bavaria.global_prior(one)
    shape, scale = naive_variance_prior(one, [1.0] * n)
    assert plain.shape == pytest.approx(shape)
    np.testing.assert_allclose(plain.scale, scale)
    within = one.squares.sum() / (3 * n)
    assert plain.strength == pytest.approx(within / max(np.var(one.mean) - within / 4, np.var(one.mean) / 1000))
    np.testing.assert_allclose(plain.mean, np.mean(one.mean))


def test_bavaria_predictive_is_the_posterior_average_of_gaussians():
    x = np.array([0.4, 1.1, -0.2])
    one = World(np.array([3]), np.array([[x.mean()]]), np.array([[((x - x.mean()) ** 2).sum()]]))
    prior = bavaria.Prior(np.array([0.9]), 1.7, 2.6, np.array([0.8]))

    mu, s2 = np.meshgrid(np.linspace(-8, 9, 1500), np.geomspace(1e-3, 1e3, 1500))
    joint = stats.invgamma.pdf(s2, 2.6, scale=0.8) * stats.norm.pdf(mu, 0.9, np.sqrt(s2 / 1.7))
    joint *= s2  # the grid is even in log s2
    for value in x:
        joint *= stats.norm.pdf(value, mu, np.sqrt(s2))
    expected = (joint * stats.norm.pdf(1.3, mu, np.sqrt(s2))).sum() / joint.sum()
    found = bavaria.log_density(np.array([1.3]), bavaria.predictive(one, prior), "t")
    assert math.exp(found[0]) == pytest.approx(expected, rel=1e-4)


def test_bavaria_densities_and_distributions():
    x = np.array([-1e4, -50.0, -2.0, 0.0, 1.0, 9.0])
    of = bavaria.Predictive(np.full(6, 7.5), np.full(6, 0.3), np.full(6, 2.0))
    exact = stats.t(7.5, 0.3, math.sqrt(2.0))
    gaussian = stats.norm(0.3, math.sqrt(2.0 * 7.5 / 5.5))
    np.testing.assert_allclose(bavaria.log_density(x, of, "t"), exact.logpdf(x))
    np.testing.assert_allclose(bavaria.log_density(x, of, "n"), gaussian.logpdf(x))
    np.testing.assert_allclose(bavaria.log_distribution(x, of, "t"), exact.logcdf(x), rtol=1e-6)
    np.testing.assert_allclose(bavaria.log_distribution(x, of, "n"), gaussian.logcdf(x))


def test_bavaria_distribution_has_no_ties_and_no_infinity_far_out():
    x = np.array([-1e12, -1e11, -1e4, 1e2, 1e3])
    of = bavaria.Predictive(np.full(5, 60.0), np.zeros(5), np.ones(5))
    found = bavaria.log_distribution(x, of, "t")
    assert np.isfinite(found).all()
    assert (np.diff(found) > 0).all()


def test_bavaria_scores_are_the_ratio_of_the_predictives(game):
    target, references, membership = game
    inside, outside = world(references, membership), world(references, ~membership)

    def one(i, v):
        worlds = [World(w.models, w.mean[:, [v]], w.squares[:, [v]]) for w in (inside, outside)]
        t = [bavaria.predictive(w, p) for w, p in zip(worlds, bavaria.trend_priors(*worlds, 0.5), strict=True)]
        return np.subtract(
            *(stats.t.logpdf(target[i, v], p.freedom[i], p.location[i], math.sqrt(p.scale2[i])) for p in t)
        )

    np.testing.assert_allclose(bavaria.online_scores(target, inside, outside, bavaria.Options()), twin(target, one))

    def alone(i, v):
        w = World(outside.models, outside.mean[:, [v]], outside.squares[:, [v]])
        p = bavaria.predictive(w, bavaria.flat_mean_prior(w))
        return stats.t.logcdf(target[i, v], p.freedom[i], p.location[i], math.sqrt(p.scale2[i]))

    np.testing.assert_allclose(bavaria.offline_scores(target, outside, bavaria.Options()), twin(target, alone))


def test_many_references_recover_lira(rng):
    """With n large the predictive is the Gaussian of the record's own mean and variance."""
    half = rng.random((10_000, 30)) < 0.5
    membership = np.stack([half, ~half], axis=1).reshape(20_000, 30)
    references = rng.normal(size=(20_000, 30, 1)) * np.linspace(0.5, 2, 30)[:, None]
    references += membership[..., None] * rng.exponential(size=30)[:, None]
    target = rng.normal(size=(30, 1))
    own = lira.online_scores(target, references, membership, "per-example", "mean")
    worlds = world(references, membership), world(references, ~membership)
    np.testing.assert_allclose(bavaria.online_scores(target, *worlds, bavaria.Options()), own, atol=0.05)


def test_quantile_scores(rng):
    h, location, scale = rng.normal(size=N), rng.normal(size=N), np.exp(rng.normal(size=N))
    expected = [(h[i] - location[i]) / scale[i] for i in range(N)]
    np.testing.assert_allclose(quantile.gaussian_scores(h, location, scale), expected)
    exceedance = np.array([0.9, 0.5, 0.1])
    quantiles = np.sort(rng.normal(size=(N, 3)), axis=1)
    heights = -np.log10(exceedance)
    for i, score in enumerate(quantile.pinball_scores(h, quantiles, exceedance)):
        k = 0 if h[i] < quantiles[i, 1] else 1
        slope = (heights[k + 1] - heights[k]) / (quantiles[i, k + 1] - quantiles[i, k])
        assert score == pytest.approx(heights[k] + slope * (h[i] - quantiles[i, k]), rel=1e-4, abs=1e-4)


def test_shadow_classifier_features_and_network(rng):
    logits, labels = rng.normal(size=(N, C)), rng.integers(0, C, N)
    full, top = (shadow_classifier.posterior_features(logits, labels, kind) for kind in ("posterior", "top3"))
    weights = {"hidden": rng.normal(size=(2 * C, 5)), "hidden_bias": rng.normal(size=5)}
    weights |= {"output": rng.normal(size=(5, 1)), "output_bias": rng.normal(size=1)}
    for i, y in enumerate(labels):
        p = softmax(logits[i])
        assert list(full[i]) == pytest.approx(p + [float(c == y) for c in range(C)])
        assert list(top[i]) == pytest.approx(sorted(p, reverse=True)[:3])
        hidden = [max(0.0, sum(full[i] * weights["hidden"][:, j]) + weights["hidden_bias"][j]) for j in range(5)]
        output = sum(x * w[0] for x, w in zip(hidden, weights["output"], strict=True)) + weights["output_bias"][0]
        assert shadow_classifier.network_scores(full, weights)[i] == pytest.approx(output)


def test_balanced_rows_are_half_members(rng):
    members = rng.random(100) < 0.8
    rows = shadow_classifier.balanced_rows(members, 30, rng)
    assert len(rows) == len(set(rows)) == 30
    assert members[rows].sum() == 15
    assert len(shadow_classifier.balanced_rows(members, 1000, rng)) == 2 * int((~members).sum())
