"""A network that answers at random, fitted to the end: one answer shows its noise, many show what it remembers.

Real networks; the training sets are random points with random labels, so all there is to learn must be remembered.
Every seed is fixed. The margins are met with at least two standard deviations to spare by the mean over six other seeds
(one answer to four: +0.083, sd 0.012; four to sixteen: +0.066, sd 0.013; sixteen to sixty-four: +0.023, sd 0.005; noise
off against sixteen answers: +0.048, sd 0.019; for the spread, AUC 0.579, sd 0.017).
"""

import numpy as np
import pytest

from sfumato.attacks.membership.gradient_norm import GradientNorm
from sfumato.attacks.membership.lira import LiRAOnline
from sfumato.attacks.membership.lira_two_features import LiRATwoFeatures
from sfumato.attacks.membership.loss import LossThreshold
from sfumato.attacks.membership.predictive_variance import PredictiveVariance
from sfumato.audit.game import play, siblings, why_not
from sfumato.audit.paired import aucs
from sfumato.data.membership import Membership
from sfumato.data.population import Population
from sfumato.data.records import ArrayRecords
from sfumato.defences.undefended import Undefended
from sfumato.execution.executors.stacked import Stacked
from sfumato.execution.jobs import TrainJob
from sfumato.execution.run import execute
from sfumato.execution.store import Store
from sfumato.models.sde_net import SDENet
from sfumato.targets.answers import Answers
from sfumato.training.recipe import Recipe
from sfumato.training.task import Optimizer, Task

MODELS = 16
ATTACKS = {
    **{f"lira-{k}": LiRAOnline(queries=k) for k in (1, 4, 16, 64)},
    **{f"loss-{k}": LossThreshold(queries=k) for k in (1, 64)},
    **{f"lira-{average}": LiRAOnline(queries=64, average=average) for average in ("logits", "probabilities")},
    "common": LiRAOnline(queries=64, noise="common"),
    "off": LiRAOnline(noise="off"),
    "gradient": GradientNorm(),
    "two features": LiRATwoFeatures(queries=64),
    "variance": PredictiveVariance(queries=64),
}


def trained_game(folder, sigma, dims, records, epochs, seed=0):
    rng = np.random.default_rng(seed)
    x, labels = rng.normal(size=(records, dims)).astype(np.float32), rng.integers(0, 2, records)
    data = Population(ArrayRecords(x), "example", labels=labels)
    task = Task(model=SDENet(width=32, steps=4, sigma=sigma), optimizer=Optimizer(lr=0.1), epochs=epochs, batch_size=20)
    design = Membership.half_pairs(records, MODELS, rng)
    recipe = Recipe(task, Undefended())
    asked = np.arange(records)
    jobs = [TrainJob(recipe, data, design.rows(data, m), 100 * seed + m, asked=asked) for m in range(MODELS)]
    queries = list({attack.query_set for attack in ATTACKS.values()})
    done = execute(jobs, Store(folder), executor=Stacked(MODELS), queries=queries)
    return siblings(data, design, gathered(done.results, data), task.model)


def gathered(results, data):
    scalars = {
        key: {name: np.stack([result.scalars[key][name] for result in results]) for name in table}
        for key, table in results[0].scalars.items()
    }
    return Answers(data.label_array, np.stack([result.logits for result in results]), scalars)


def measured(game):
    found = {}
    for name, attack in ATTACKS.items():
        assert why_not(game, attack) == ()
        scores = play(game, attack, 0, lambda fit: fit.run()).scores
        found[name] = float(np.mean(aucs(scores, game.members, game.in_game)))
    return found


@pytest.fixture(scope="module")
def noisy(tmp_path_factory):
    """AUC of each attack on networks whose noise is far larger than what they remember of a record."""
    return measured(trained_game(tmp_path_factory.mktemp("noisy"), sigma=8.0, dims=100, records=160, epochs=60))


@pytest.mark.statistical
def test_risk_grows_with_the_number_of_answers(noisy):
    rising = [noisy[f"lira-{k}"] for k in (1, 4, 16, 64)]
    assert (np.diff(rising) > [0.03, 0.03, 0.005]).all()
    assert noisy["loss-64"] > noisy["loss-1"] + 0.06
    for other in ("logits", "probabilities"):
        assert noisy[f"lira-{other}"] > noisy["lira-1"] + 0.1


@pytest.mark.statistical
def test_the_weights_tell_at_least_as_much_as_many_answers(noisy):
    assert noisy["off"] > noisy["lira-16"] + 0.01
    assert noisy["common"] > noisy["lira-16"]
    assert min(noisy["off"], noisy["common"], noisy["gradient"]) > noisy["lira-1"] + 0.1
    assert max(noisy["off"], noisy["common"], noisy["gradient"]) > noisy["lira-64"]


@pytest.mark.statistical
def test_the_spread_of_the_answers_tells_members_where_they_are_fitted(tmp_path):
    fitted = measured(trained_game(tmp_path, sigma=4.0, dims=40, records=80, epochs=100))
    assert fitted["variance"] > 0.53
    assert fitted["two features"] > fitted["lira-1"]
    assert fitted["off"] < fitted["lira-64"]  # here the noise is part of what was fitted: leaving it out loses some
