import numpy as np
import pytest

from sfumato.errors import NotApplicable, UsageError
from sfumato.targets.answers import STATISTICS, Answers
from sfumato.targets.queries import BASE, QuerySet


@pytest.fixture
def answers():
    rng = np.random.default_rng(0)
    return Answers(rng.integers(0, 3, 7), rng.normal(size=(4, 7, 3)))


def test_statistics_worked_out_once_are_the_same_and_follow_the_models_picked(answers):
    once = answers.with_base_statistics()
    models = np.array([2, 0])
    for name in STATISTICS:
        np.testing.assert_array_equal(once.statistic(name), answers.statistic(name))
        np.testing.assert_array_equal(once.pick(models).statistic(name), answers.statistic(name)[models])
    assert once.scalars.keys() == {BASE.key}
    assert answers.scalars == {}


def test_queries_that_were_not_made_are_refused_by_name(answers):
    with pytest.raises(NotApplicable, match="mirror-x3"):
        answers.statistic("logit", QuerySet("mirror", 3))


def naive(logits, label):
    """log p_y / (1 - p_y) from probabilities, in extended precision."""
    p = np.exp(np.longdouble(logits) - np.max(logits))
    p /= p.sum()
    return float(np.log(p[label]) - np.log(np.delete(p, label).sum()))


def test_the_logit_is_the_log_odds_of_the_label(answers):
    for m in range(4):
        for i in range(7):
            expected = naive(answers.logits[m, i], answers.labels[i])
            assert answers.statistic("logit")[m, i, 0] == pytest.approx(expected, rel=1e-9)


def test_statistics_by_hand():
    logits, labels = np.array([[[2.0, 0.0, -1.0]]]), np.array([0])
    found = {name: Answers(labels, logits).statistic(name).item() for name in STATISTICS}
    assert found["hinge"] == 2.0
    assert found["logit"] == pytest.approx(2 - np.log(1 + np.exp(-1)))
    assert found["log_confidence"] == pytest.approx(2 - np.log(np.exp(2) + 1 + np.exp(-1)))
    assert found["log_confidence_t2"] == pytest.approx(1 - np.log(np.exp(1) + 1 + np.exp(-0.5)))


def test_very_sure_answers_do_not_tie():
    answers = Answers(np.array([0, 0]), np.array([[[50.0, 0.0], [60.0, 0.0]]]))
    for name in STATISTICS:
        low, high = answers.statistic(name)[0, :, 0]
        assert low < high, name


def test_log_probabilities_give_the_same_as_logits(answers):
    logits = answers.logits
    shifted = Answers(answers.labels, logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True))
    for name in STATISTICS:
        np.testing.assert_allclose(shifted.statistic(name), answers.statistic(name), rtol=1e-9, atol=1e-12)


def test_certainty_is_infinite_and_no_nan():
    answers = Answers(np.array([0, 1]), np.array([[[0.0, -np.inf], [0.0, -np.inf]]]))
    assert answers.statistic("logit")[0, :, 0].tolist() == [np.inf, -np.inf]


@pytest.mark.parametrize(
    ("labels", "shape"),
    [([0, 3], (1, 2, 3)), ([0, -1], (1, 2, 3)), ([0], (1, 2, 3)), ([0.0, 1.0], (1, 2, 3)), ([0, 0], (1, 2, 1))],
)
def test_labels_and_logits_that_do_not_fit_are_refused(labels, shape):
    with pytest.raises(UsageError, match="Expected"):
        Answers(np.array(labels), np.zeros(shape))


def test_an_unknown_statistic_suggests_the_nearest(answers):
    with pytest.raises(UsageError, match="Did you mean 'hinge'"):
        answers.statistic("hing")


def test_stored_scalars_are_read_as_float64(answers):
    queries = QuerySet("mirror", 2)
    table = {name: np.ones((4, 7, 2), dtype=np.float32) for name in STATISTICS}
    found = Answers(answers.labels, answers.logits, {queries.key: table}).statistic("hinge", queries)
    assert (found.dtype, found.shape) == (np.float64, (4, 7, 2))
