import numpy as np
import pytest

from sfumato.errors import NotApplicable
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
