"""Any scikit-learn classifier or pipeline as a recipe: refitted on other halves, it is its own shadow model."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import sklearn
import torch
from sklearn.base import clone, is_classifier
from sklearn.utils.validation import check_is_fitted

from sfumato.data.population import Population
from sfumato.data.view import PrivateView
from sfumato.defences.undefended import Undefended
from sfumato.errors import NotApplicable, UsageError
from sfumato.seeding import derive
from sfumato.training.defence import Defence
from sfumato.training.loop import Assignment, LoopOptions
from sfumato.training.recipe import AnyRecipe
from sfumato.training.trained import Predict, Trained
from sfumato.training.user_function import FileFunction
from sfumato.validate import one_of

PROBABILITY_FLOOR = 1e-7  # a forest says 0 when it means "fewer than one tree"; the logit of 0 would be infinite
NOT_LEARNED = ("n_jobs", "verbose", "random_state")  # change nothing that is learned, or are set from the seed

ESTIMATORS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "decision-tree": ("sklearn.tree", "DecisionTreeClassifier", {}),
    "gradient-boosting": ("sklearn.ensemble", "HistGradientBoostingClassifier", {}),
    "logistic-regression": ("sklearn.linear_model", "LogisticRegression", {"max_iter": 1000}),
    "nearest-neighbours": ("sklearn.neighbors", "KNeighborsClassifier", {}),
    "random-forest": ("sklearn.ensemble", "RandomForestClassifier", {}),
}


@dataclass(frozen=True)
class SklearnRecipe(AnyRecipe):
    """A scikit-learn classifier or pipeline with `predict_proba`.

    Args:
        estimator: unfitted; every `random_state` in it is set from the seed of the training.
        name: for reports; by default the class name.
        defence: for its guard on answers; scikit-learn models are trained as they are.
    """

    estimator: Any
    name: str = ""
    defence: Defence = field(default_factory=Undefended)

    def __post_init__(self) -> None:
        if not is_classifier(self.estimator):
            raise UsageError(
                f"Expected a scikit-learn classifier or pipeline, got {type(self.estimator).__name__}.",
                remedy="Regression and clustering are not covered.",
            )
        if not hasattr(self.estimator, "predict_proba"):
            raise NotApplicable(
                f"Expected a classifier with `predict_proba`, got {type(self.estimator).__name__}.",
                remedy="Wrap it in CalibratedClassifierCV, or set probability=True where it has that option.",
            )
        if not self.name:
            object.__setattr__(self, "name", type(self.estimator).__name__)

    @property
    def stackable(self) -> bool:
        return False

    def spec(self) -> dict[str, Any]:
        return {
            "recipe": "scikit-learn",
            "version": sklearn.__version__,
            "estimator": _described(self.estimator),
            "defence": self.defence,
        }

    def fit(self, population: Population, work: Sequence[Assignment], options: LoopOptions) -> list[Trained]:
        return [self._fit_one(PrivateView(population, rows), seed) for rows, seed in work]

    def _fit_one(self, view: PrivateView, seed: int) -> Trained:
        x = view.read("training", f"ordinary fit of {type(self.estimator).__name__}").flatten(1).numpy()
        estimator: Any = clone(self.estimator)
        states = [key for key in estimator.get_params(deep=True) if key.rpartition("__")[2] == "random_state"]
        estimator.set_params(**{key: derive(seed, "sklearn", key) % 2**32 for key in states})
        estimator.fit(x, view.labels)
        predict = ProbabilityPredict(estimator, view.population.classes)
        return Trained(state=None, history=view.history, seed=seed, predict=predict)

    def predictor(self, trained: Trained, population: Population) -> Predict:
        if trained.predict is None:
            raise UsageError("Expected a live model, got stored answers only.", remedy="Train again.")
        return trained.predict


@dataclass(frozen=True, eq=False)
class ProbabilityPredict:
    """A fitted classifier as a predictor of log-probabilities.

    Args:
        estimator: fitted, with `predict_proba`.
        classes: number of classes of the population; a class that was not in the training set gets the floor.
    """

    estimator: Any
    classes: int

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """float [b, *shape] to log-probabilities float64 [b, classes]."""
        check_is_fitted(self.estimator)
        known = self.estimator.predict_proba(x.flatten(1).numpy())
        p = np.full((len(x), self.classes), PROBABILITY_FLOOR)
        p[:, np.asarray(self.estimator.classes_, dtype=np.int64)] = np.maximum(known, PROBABILITY_FLOOR)
        return torch.from_numpy(np.log(p / p.sum(axis=1, keepdims=True)))


def named_estimator(name: str) -> Any:
    """An unfitted estimator: one of `ESTIMATORS`, or `file.py:function` that returns one."""
    path, colon, function = name.rpartition(":")
    if colon and path.endswith(".py"):
        return FileFunction(str(Path(path)), function)()
    one_of("estimator", name, ESTIMATORS)
    module, kind, settings = ESTIMATORS[name]
    make: Callable[..., Any] = getattr(importlib.import_module(module), kind)
    return make(**settings)


def _described(estimator: Any) -> dict[str, Any]:
    """Class and parameters, nested estimators included, in plain values."""
    params = estimator.get_params(deep=False)
    kept = {key: _value(value) for key, value in params.items() if key not in NOT_LEARNED}
    return {"class": f"{type(estimator).__module__}.{type(estimator).__qualname__}", "params": kept}


def _value(value: Any) -> Any:
    if hasattr(value, "get_params") and not isinstance(value, type):
        return _described(value)
    if isinstance(value, (list, tuple)):
        return [_value(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _value(item) for key, item in value.items()}
    return value
