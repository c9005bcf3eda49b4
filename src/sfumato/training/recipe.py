"""A recipe is what can be trained again: the target and every shadow model come from the same one, by construction."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import nn

from sfumato.data.population import Population
from sfumato.data.view import PrivateView
from sfumato.errors import UsageError
from sfumato.sde.streams import random_layers
from sfumato.seeding import derive
from sfumato.training.checking import check_chain
from sfumato.training.composition import guards_at_random
from sfumato.training.defence import Defence, configured
from sfumato.training.features import Inputs, KnownFeatures
from sfumato.training.losses import two_column
from sfumato.training.preparation import Assignment, LoopOptions, assemble
from sfumato.training.task import Task
from sfumato.training.train import train
from sfumato.training.trained import Predict, Trained
from sfumato.training.user_function import FileFunction, function_spec

TrainFunction = Callable[[np.ndarray, np.ndarray, int], Any]


class AnyRecipe(ABC):
    """Something that can train any number of models on any subsets of a population."""

    name: str
    defence: Defence

    @property
    @abstractmethod
    def stackable(self) -> bool:
        """Whether several models may be trained side by side in one call of `fit`."""

    @abstractmethod
    def spec(self) -> dict[str, Any]:
        """Plain values that determine what `fit` computes. They make the key of every stored result."""

    @abstractmethod
    def fit(self, population: Population, work: Sequence[Assignment], options: LoopOptions) -> list[Trained]:
        """Train one model for each assignment, in order.

        Raises:
            UnsupportedModel: if several models were asked for and cannot be stacked exactly.
        """

    @abstractmethod
    def predictor(self, trained: Trained, population: Population) -> Predict:
        """What answers queries to the released model, before the defence's guard.

        Returns:
            A function from records [b, *shape] to logits (or log-probabilities) [b, classes], one column per class
            also for the one-logit head; the network is in eval mode.
        """

    def check(self, population: Population) -> None:
        """Refuse what the training would refuse, before anything is trained; nothing where that cannot be known."""
        del population

    def answers_at_random(self, population: Population) -> bool:
        """Whether the same record may get another answer each time: a guard that draws, or a layer that does.

        What a training function of the user's own draws while it answers is not seen: without a guard that is False.

        Args:
            population: for the shape and the number of classes.
        """
        return guards_at_random(self.defence)


@dataclass(frozen=True, eq=False)
class ModulePredict:
    """A network as a predictor: records to logits with one column per class.

    Args:
        module: in eval mode; whoever reads signals asserts it.
        head: "multiclass" or "binary".
        features: what the network sees of records; None for the records themselves.
    """

    module: nn.Module
    head: str = "multiclass"
    features: Callable[[torch.Tensor], torch.Tensor] | None = None

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """float [b, *shape] to [b, classes]."""
        x = x if self.features is None else self.features(x)
        dtype = next((p.dtype for p in self.module.parameters()), x.dtype)
        return two_column(self.module(x.to(dtype)), self.head)


@dataclass(frozen=True)
class Recipe(AnyRecipe):
    """A task and a defence.

    Args:
        task: what is learned.
        defence: how leakage is to be reduced.
        name: for reports; by default the defence's name.
    """

    task: Task
    defence: Defence
    name: str = ""

    def __post_init__(self) -> None:
        if not self.name:
            object.__setattr__(self, "name", self.defence.name)

    @classmethod
    def from_function(cls, train_function: TrainFunction, *, name: str, defence: Defence) -> FunctionRecipe:
        """Wrap a user's own training loop; see `FunctionRecipe`."""
        return FunctionRecipe(train_function, name, defence)

    @property
    def stackable(self) -> bool:
        return True

    def spec(self) -> dict[str, Any]:
        return {"recipe": "task and defence", "task": self.task, "defence": self.defence}

    def fit(self, population: Population, work: Sequence[Assignment], options: LoopOptions) -> list[Trained]:
        return train(self.task, self.defence, population, work, options)

    def network(self, trained: Trained, population: Population) -> nn.Module:
        """The trained network itself, in eval mode; where the task has fixed features, it takes those."""
        if trained.state is None:
            raise UsageError("Expected stored weights, got none.", remedy="Train again; the weights were dropped.")
        task = configured(self.defence, self.task)
        network = assemble(task, self.defence, population.records.shape, population.classes, trained.seed)
        dtype = next((value.dtype for value in trained.state.values() if value.is_floating_point()), torch.float32)
        network.to(dtype).load_state_dict(trained.state)
        return network.eval()

    def check(self, population: Population) -> None:
        check_chain(configured(self.defence, self.task), self.defence, population)

    def answers_at_random(self, population: Population) -> bool:
        if super().answers_at_random(population):
            return True
        task = configured(self.defence, self.task)
        return bool(random_layers(assemble(task, self.defence, population.records.shape, population.classes, seed=0)))

    def predictor(self, trained: Trained, population: Population) -> Predict:
        task = configured(self.defence, self.task)
        known = None if task.features is None else KnownFeatures(Inputs(population, task.features))
        return ModulePredict(self.network(trained, population), task.head, known)


@dataclass(frozen=True)
class FunctionRecipe(AnyRecipe):
    """A user's own training loop.

    Args:
        train_function: takes records float32 [k, *shape], labels int64 [k] and a seed; returns a module in whatever
            mode, or a function, from records [b, *shape] to logits [b, classes]. It must use no other data, and no
            randomness but what the seed decides.
        name: for reports.
        defence: for its description and its guard on answers; the loop is the user's own.
    """

    train_function: TrainFunction
    name: str
    defence: Defence

    @property
    def stackable(self) -> bool:
        return False

    def spec(self) -> dict[str, Any]:
        return {"recipe": "function", "train": function_spec(self.train_function), "defence": self.defence}

    def fit(self, population: Population, work: Sequence[Assignment], options: LoopOptions) -> list[Trained]:
        return [self._fit_one(PrivateView(population, rows), seed) for rows, seed in work]

    def _fit_one(self, view: PrivateView, seed: int) -> Trained:
        x = view.read("training", f"the user's own training function {self.name}").numpy()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive(seed, "function"))
            model = self.train_function(x, view.labels, derive(seed, "function") % 2**32)
        predict: Predict = ModulePredict(model.eval()) if isinstance(model, nn.Module) else cast(Predict, model)
        if not callable(model):
            raise UsageError(
                f"Expected `{self.name}` to return a module or a function from records to logits, got {type(model)}.",
                remedy="Return the trained network.",
            )
        return Trained(state=None, history=view.history, seed=seed, predict=predict)

    def predictor(self, trained: Trained, population: Population) -> Predict:
        if trained.predict is None:
            raise UsageError("Expected a live model, got stored answers only.", remedy="Train again.")
        return trained.predict


def recipe_from_file(path: Path, function: str, defence: Defence) -> FunctionRecipe:
    """A recipe whose training loop is `function(x, y, seed)` in a user's Python file."""
    return FunctionRecipe(FileFunction(str(path), function), f"{path.stem}.{function}", defence)
