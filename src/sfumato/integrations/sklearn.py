"""Any scikit-learn classifier or pipeline as a recipe: refitted on other halves, it is its own shadow model."""

from __future__ import annotations

import importlib
import inspect
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import sklearn
import torch
from sklearn.base import BaseEstimator, clone, is_classifier
from sklearn.utils.validation import check_is_fitted

from sfumato.canonical import canonical_json
from sfumato.data.population import Population
from sfumato.data.view import PrivateView
from sfumato.defences.undefended import Undefended
from sfumato.errors import NotApplicable, SfumatoError, UsageError
from sfumato.models.user_source import user_sources
from sfumato.seeding import derive
from sfumato.training.defence import Defence, chain
from sfumato.training.preparation import Assignment, LoopOptions
from sfumato.training.recipe import AnyRecipe
from sfumato.training.trained import Predict, Trained
from sfumato.training.user_function import FileFunction
from sfumato.validate import one_of

PROBABILITY_FLOOR = 1e-7  # a forest says 0 when it means "fewer than one tree"; the logit of 0 would be infinite
NOT_LEARNED = ("n_jobs", "verbose", "memory", "random_state")  # change nothing learned, or are set from the seed

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
        defence: for its guard on answers; one that acts during training is refused, for it would do nothing here.

    Raises:
        UsageError: if it is no classifier, its parameters cannot be written down (a function, a splitter), or the
            defence acts during training.
        NotApplicable: if the classifier gives no probabilities.
    """

    estimator: Any
    name: str = ""
    defence: Defence = field(default_factory=Undefended)

    def __post_init__(self) -> None:
        if not isinstance(self.estimator, BaseEstimator) or not is_classifier(self.estimator):
            raise UsageError(
                f"Expected a scikit-learn classifier or pipeline, got {_named(self.estimator)}.",
                remedy="Pass an instance of a classifier; regression and clustering are not covered.",
            )
        if not hasattr(self.estimator, "predict_proba"):
            raise NotApplicable(
                f"Expected a classifier with `predict_proba`, got {type(self.estimator).__name__}.",
                remedy="Wrap it in CalibratedClassifierCV, or set probability=True where it has that option.",
            )
        _check_defence(self.defence)
        canonical_json(_described(self.estimator))  # refuses now what could not be named later
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
        start = time.perf_counter()
        x = view.read("training", f"ordinary fit of {type(self.estimator).__name__}").flatten(1).numpy()
        estimator: Any = clone(self.estimator)
        states = [key for key in estimator.get_params(deep=True) if key.rpartition("__")[2] == "random_state"]
        estimator.set_params(**{key: derive(seed, "sklearn", key) % 2**32 for key in states})
        estimator.fit(x, view.labels)
        predict = ProbabilityPredict(estimator, view.population.classes)
        seconds = time.perf_counter() - start
        return Trained(state=None, history=view.history, seed=seed, seconds=seconds, predict=predict)

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
        known = np.asarray(self.estimator.predict_proba(x.flatten(1).numpy()), dtype=np.float64)
        if known.shape != (len(x), len(self.estimator.classes_)) or not np.isfinite(known).all():
            raise SfumatoError(
                f"Expected finite probabilities, a column per class, from {_named(self.estimator)}, got {known.shape}."
            )
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


def _check_defence(defence: Defence) -> None:
    """Refuse a part that acts anywhere but on the answers: the record would name a defence that was never applied."""
    parts = [name for name, part in vars(Defence).items() if inspect.isfunction(part) and not name.startswith("_")]
    for link in chain(defence):
        acting = [name for name in parts if name != "guard" and getattr(type(link), name) is not getattr(Defence, name)]
        if acting:
            raise UsageError(
                f"Expected a defence that acts on answers only, got {link.name!r}, whose part `{acting[0]}` acts "
                "during training.",
                remedy="scikit-learn trains as it does; set its own parameters (depth, regularisation), or drop it.",
            )


def _described(estimator: Any) -> dict[str, Any]:
    """Class and parameters, nested estimators included, in plain values."""
    params = estimator.get_params(deep=False)
    kept = {key: _value(value) for key, value in params.items() if key not in NOT_LEARNED}
    return {"class": _named(type(estimator)), "code": _code_of(type(estimator)), "params": kept}


def _value(value: Any) -> Any:
    if isinstance(value, type):
        return {"type": _named(value)}
    if hasattr(value, "get_params"):
        return _described(value)
    if isinstance(value, slice):
        return {"slice": [value.start, value.stop, value.step]}
    if isinstance(value, (list, tuple)):
        return [_value(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _value(item) for key, item in value.items()}
    return value


def _named(value: Any) -> str:
    kind = value if isinstance(value, type) else type(value)
    return f"{kind.__module__}.{kind.__qualname__}"


def _code_of(kind: type) -> Any:
    """The version of the library that a class comes from, or the user's own sources by content."""
    module = sys.modules.get(kind.__module__)
    library = getattr(sys.modules.get(kind.__module__.partition(".")[0]), "__version__", None)
    if library is not None:
        return str(library)
    path = Path(getattr(module, "__file__", None) or "")
    if not path.is_file():
        raise UsageError(
            f"Expected an estimator class from a Python file, got {_named(kind)}, whose source cannot be found.",
            remedy="Put the class into a .py file that is imported, so that a changed class is noticed.",
        )
    return [list(source) for source in user_sources(path.resolve())]
