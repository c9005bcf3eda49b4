import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from sfumato.attacks.membership.augmentation_bits import AugmentationBits, regression_scores
from sfumato.attacks.membership.boundary_distance import BoundaryDistance, log_distances
from sfumato.attacks.membership.gap import Gap
from sfumato.attacks.membership.input_gradient_norm import InputGradientNorm
from sfumato.attacks.membership.label_noise import LabelNoise
from sfumato.errors import UsageError
from sfumato.targets.answers import CORRECT


def bits(seed=0, g=20, r=12, views=18):
    rng = np.random.default_rng(seed)
    membership = np.stack([half := rng.random((r // 2, g)) < 0.5, ~half], axis=1).reshape(r, g)
    rate = np.where(membership, 0.8, 0.4)[..., None]
    references = (rng.random((r, g, views)) < rate).astype(float)
    return (rng.random((g, views)) < 0.6).astype(float), references, membership


def test_regression_scores_are_log_odds_of_a_fit_for_each_record():
    target, references, membership = bits()
    scores = regression_scores(target, references, membership, 1.0)
    for one in range(20):
        twin = LogisticRegression(tol=1e-10, max_iter=10_000).fit(references[:, one], membership[:, one])
        np.testing.assert_allclose(scores[one], twin.decision_function(target[[one]])[0], atol=2e-4)


def test_records_on_which_all_references_agree_are_judged_by_the_count():
    target, references, membership = bits()
    references[:, :3] = np.tile([[1.0], [0.0], [1.0]], (1, 18))
    target[:3] = np.array([np.ones(18), np.arange(18) < 9, np.arange(18) < 6])
    scores = regression_scores(target, references, membership, 1.0)
    np.testing.assert_allclose(scores[:3], [0, 0.5, -2 / 3])
    everything = regression_scores(target, np.ones_like(references), membership, 1.0)
    np.testing.assert_allclose(everything, target.mean(axis=1) - 1)


def test_without_references_right_labels_are_counted(attack_evidence):
    evidence, _ = attack_evidence.synthetic()
    for attack in (Gap(), AugmentationBits(calibration="none"), LabelNoise()):
        right = evidence.target_statistic("hinge", attack.query_set) > 0
        np.testing.assert_array_equal(attack.score(evidence), right.mean(axis=1))
        np.testing.assert_array_equal(evidence.target_statistic(CORRECT, attack.query_set), right)


def test_a_tie_counts_as_wrong(attack_evidence):
    evidence, _ = attack_evidence.synthetic()

    def tie_first(logits):
        logits = logits.copy()
        logits[:, :10] = 1.0
        return logits

    tied = attack_evidence.with_logits(evidence, tie_first)
    assert (Gap().score(tied)[:10] == 0).all()
    assert Gap().score(tied)[10:].any()
    assert (Gap().score(tied.restricted_to(Gap().needs()))[:10] == 0).all()


def test_a_distance_of_0_is_half_of_the_smallest():
    found = log_distances(np.array([[0.0, 2.0], [4.0, 0.0]]))
    np.testing.assert_allclose(found, np.log([[1, 2], [4, 1]]))
    assert np.isfinite(log_distances(np.zeros((2, 2)))).all()


def test_options_reach_the_queries():
    assert LabelNoise(scale=0.1).query_set.key == "noise-16-s0.1-x1-game"
    assert BoundaryDistance(budget=200, queries=3).query_set.key == "none-x3-game-boundary-distance-b200"
    assert InputGradientNorm().query_set.key == "none-x1-off-game-input-gradient-norm"
    assert AugmentationBits().query_set.key == "mirror-shift-x1-game"
    assert BoundaryDistance().threat.access == "labels"
    assert LabelNoise(noise="off").threat.access == "weights"
    for wrong in (
        lambda: BoundaryDistance(budget=10),
        lambda: BoundaryDistance(noise="off"),
        lambda: LabelNoise(augmentation="mirror", scale=0.1),
        lambda: AugmentationBits(c=0),
        lambda: AugmentationBits(calibration="difficulty"),
        lambda: InputGradientNorm(noise="fresh"),
    ):
        with pytest.raises(UsageError):
            wrong()


def test_the_reason_is_given_where_views_need_images(attack_evidence):
    evidence, _ = attack_evidence.synthetic()
    (reason,) = AugmentationBits().applies_to(evidence)
    assert "needs images" in reason
    assert LabelNoise().applies_to(evidence) == ()
