from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from sklearn.base import BaseEstimator
from sklearn.cluster import KMeans
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier

from sfumato.attacks.membership.lira import LiRAOnline
from sfumato.audit.compare import compare
from sfumato.audit.settings import AuditSettings
from sfumato.canonical import content_hash
from sfumato.data.population import Population
from sfumato.defences.mixup import Mixup
from sfumato.errors import NotApplicable, SfumatoError, UsageError
from sfumato.execution.store import Store
from sfumato.integrations.sklearn import (
    ESTIMATORS,
    PROBABILITY_FLOOR,
    ProbabilityPredict,
    SklearnRecipe,
    named_estimator,
)
from sfumato.training.defence import Defence
from sfumato.training.preparation import Assignment, LoopOptions


@pytest.fixture(scope="module")
def population():
    rng = np.random.default_rng(0)
    x = np.column_stack([rng.normal(size=(80, 4)), rng.integers(0, 3, 80)]).astype(np.float32)
    return Population(x, "example", labels=rng.integers(0, 3, 80), name="made up")


def columns():
    cut = ColumnTransformer([("number", StandardScaler(), slice(0, 4)), ("word", OneHotEncoder(), [4])])
    return Pipeline([("cut", cut), ("fill", SimpleImputer()), ("forest", RandomForestClassifier(5))])


def answers(recipe, population, seed, rows=None):
    rows = np.arange(40) if rows is None else rows
    trained = recipe.fit(population, [Assignment(rows, seed)], LoopOptions())[0]
    return recipe.predictor(trained, population)(population.tensor(np.arange(len(population)))).numpy()


EVERY = [
    RandomForestClassifier(5),
    HistGradientBoostingClassifier(max_iter=3),
    make_pipeline(StandardScaler(), LogisticRegression()),
    columns(),
    DecisionTreeClassifier(),
]


@pytest.mark.parametrize("estimator", EVERY, ids=lambda e: type(e).__name__)
def test_log_probabilities_that_the_seed_decides(estimator, population):
    recipe = SklearnRecipe(estimator)
    first = answers(recipe, population, 1)
    assert first.shape == (80, 3)
    np.testing.assert_allclose(np.exp(first).sum(axis=1), 1.0)
    np.random.seed(5)
    np.testing.assert_array_equal(first, answers(recipe, population, 1))
    content_hash(recipe.spec())


def test_another_seed_is_another_forest_also_deep_inside_a_pipeline(population):
    recipe = SklearnRecipe(columns())
    assert (answers(recipe, population, 1) != answers(recipe, population, 2)).any()


def test_the_users_estimator_is_never_fitted_itself(population):
    forest = RandomForestClassifier(5, random_state=3)
    answers(SklearnRecipe(forest), population, 1)
    assert not hasattr(forest, "classes_")
    assert forest.random_state == 3


def test_a_class_that_was_not_in_the_training_set_gets_the_floor(population):
    rows = np.flatnonzero(population.label_array != 1)
    found = np.exp(answers(SklearnRecipe(RandomForestClassifier(5)), population, 0, rows))
    assert found[:, 1] == pytest.approx(PROBABILITY_FLOOR, rel=1e-5)
    assert np.isfinite(np.log(found)).all()


def test_a_broken_predict_proba_is_an_error():
    class Broken(BaseEstimator):
        classes_ = np.array([0, 1])

        def fit(self, x, y):
            return self

        def __sklearn_is_fitted__(self):
            return True

        def predict_proba(self, x):
            return np.full((len(x), 2), np.nan)

    with pytest.raises(SfumatoError, match="finite probabilities"):
        ProbabilityPredict(Broken(), 2)(torch.zeros(3, 2))


def test_the_history_says_that_the_records_were_read(population):
    trained = SklearnRecipe(LogisticRegression()).fit(population, [Assignment(np.arange(40), 0)], LoopOptions())[0]
    assert trained.guarantee_statement == "none, because of ordinary fit of LogisticRegression at stage training"
    assert trained.history.events[0].records == 40
    assert trained.state is None
    assert trained.seconds > 0


def key(estimator):
    return content_hash(SklearnRecipe(estimator, name="same").spec())


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (RandomForestClassifier(5), RandomForestClassifier(6)),
        (RandomForestClassifier(max_features=None), RandomForestClassifier(max_features=1.0)),
        (make_pipeline(StandardScaler(), LogisticRegression()), make_pipeline(LogisticRegression())),
        (columns(), columns().set_params(cut__number__with_mean=False)),
        (columns(), columns().set_params(forest__n_estimators=6)),
        (columns(), columns().set_params(cut__word__dtype=np.float32)),
        (columns(), columns().set_params(fill__missing_values=0)),
        (LogisticRegression(), LogisticRegression(class_weight={0: 1.0, 1: 2.0, 2: 1.0})),
    ],
)
def test_every_parameter_changes_the_name(one, other):
    assert key(one) != key(other)


def test_slices_change_the_name():
    cut = [ColumnTransformer([("number", StandardScaler(), slice(0, end))]) for end in (3, 4)]
    first, second = (make_pipeline(c, LogisticRegression()) for c in cut)
    assert key(first) != key(second)


@pytest.mark.parametrize("change", [{"n_jobs": 2}, {"verbose": 1}, {"random_state": 7}])
def test_what_is_not_learned_does_not_change_the_name(change):
    assert key(RandomForestClassifier(5)) == key(RandomForestClassifier(5, **change))
    deep = {f"forest__{name}": value for name, value in change.items()}
    assert key(columns()) == key(columns().set_params(**deep))


def test_a_users_own_class_is_named_by_its_source(tmp_path, monkeypatch):
    text = "from sklearn.linear_model import LogisticRegression\nclass Mine(LogisticRegression):\n    extra = {}\n"
    monkeypatch.syspath_prepend(str(tmp_path))
    keys = []
    for extra in (1, 2):
        (tmp_path / "mine_for_sfumato.py").write_text(text.format(extra))
        monkeypatch.delitem(__import__("sys").modules, "mine_for_sfumato", raising=False)
        import importlib

        importlib.invalidate_caches()
        keys.append(key(importlib.import_module("mine_for_sfumato").Mine()))
    assert keys[0] != keys[1]


@pytest.mark.parametrize("wrong", [KMeans(), StandardScaler(), RandomForestClassifier, "forest", None, object()])
def test_what_is_no_classifier_is_refused(wrong):
    with pytest.raises(UsageError, match="Expected a scikit-learn classifier"):
        SklearnRecipe(wrong)


@pytest.mark.parametrize("wrong", [LinearSVC(), RidgeClassifier(), make_pipeline(StandardScaler(), LinearSVC())])
def test_without_probabilities_it_is_not_applicable(wrong):
    with pytest.raises(NotApplicable, match="predict_proba"):
        SklearnRecipe(wrong)


def test_a_parameter_that_cannot_be_named_is_refused_at_once():
    with pytest.raises(UsageError, match="written down"):
        SklearnRecipe(make_pipeline(FunctionTransformer(lambda x: x), LogisticRegression()))


@dataclass(frozen=True, kw_only=True)
class Rounded(Defence):
    """A guard on answers."""

    name = "rounded"

    def guard(self, logits, draws, behind):
        return logits.round()


def test_a_defence_that_acts_during_training_is_refused():
    SklearnRecipe(LogisticRegression(), defence=Rounded())
    for defence in (Mixup(), Rounded(inner=Mixup())):
        with pytest.raises(UsageError, match="during training"):
            SklearnRecipe(LogisticRegression(), defence=defence)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_every_named_estimator_is_a_recipe(name, population):
    assert answers(SklearnRecipe(named_estimator(name)), population, 0).shape == (80, 3)


def test_named_estimators_from_a_file_and_unknown_names(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "from sklearn.tree import DecisionTreeClassifier\n\n\ndef make():\n    return DecisionTreeClassifier()\n"
    )
    assert isinstance(named_estimator(f"{file}:make"), DecisionTreeClassifier)
    with pytest.raises(UsageError, match="Did you mean 'random-forest'"):
        named_estimator("random-forrest")


def test_a_forest_is_its_own_shadow_model(population, tmp_path):
    settings = AuditSettings(attacks=(LiRAOnline(),), models=6, replicates=30, fprs=(0.1,))
    forest = SklearnRecipe(RandomForestClassifier(10), name="forest")
    record = compare(population, [forest], settings, Store(tmp_path), executor="inline").record
    auc = record.subjects[0].attack("lira-online").finding("auc")
    assert auc.low > 0.6  # labels are noise: what it knows of its training set it remembers
    assert record.subjects[0].guarantee.status == "none"
    assert record.subjects[0].recipe["estimator"]["params"]["n_estimators"] == 10
    assert replace(forest, name="other").spec() == forest.spec()
