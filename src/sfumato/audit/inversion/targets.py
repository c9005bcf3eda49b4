"""The trained models that are inverted: named at once, loaded only when one must really be asked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch

from sfumato.accounting.history import History
from sfumato.canonical import array_digest, content_hash
from sfumato.data.population import Population
from sfumato.errors import SfumatoError, StoreMismatch
from sfumato.execution.jobs import TrainJob
from sfumato.execution.store import Store
from sfumato.targets.boundary import Box
from sfumato.targets.oracle import ACCESSES, Oracle, oracle_of
from sfumato.training.defence import configured
from sfumato.training.preparation import Assignment, LoopOptions, assemble
from sfumato.training.recipe import AnyRecipe, Recipe
from sfumato.training.trained import Trained
from sfumato.types import Rows

Say = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class Target:
    """One model under attack.

    Args:
        name: content hash of it, known before it is loaded.
        recipe: how it was trained.
        population: the records.
        rows: int64 [k], those it was trained on.
        seed: of its training, and of what it draws while it answers.
        source: gives the trained model.
    """

    name: str
    recipe: AnyRecipe
    population: Population
    rows: Rows
    seed: int
    source: Callable[[], Trained]

    @cached_property
    def trained(self) -> Trained:
        """The model, loaded once."""
        return self.source()

    def named(self, access: str, box: Box) -> Oracle:
        """Its name in an oracle that cannot answer: enough to say what an attack is asked about."""
        access = access if access in ACCESSES else "scores"
        return Oracle(_unloaded, self.recipe.defence, self._shape, self.population.classes, box, access, self.seed,
                      name=self.name)  # fmt: skip

    def oracle(self, box: Box) -> Oracle:
        """The model with all access that it can grant."""
        return self._oracle(self.trained, box)

    def untrained(self, box: Box) -> Oracle:
        """A model of the same kind before any training, under the same name, to plan with.

        One from a training function of the user's own is taken to give scores only.
        """
        if not isinstance(self.recipe, Recipe):
            return self.named("scores", box)
        task = configured(self.recipe.defence, self.recipe.task)
        network = assemble(task, self.recipe.defence, self._shape, self.population.classes, self.seed)
        empty = Trained(state=network.state_dict(), history=History(), seed=self.seed)
        return self._oracle(empty, box)

    def _oracle(self, trained: Trained, box: Box) -> Oracle:
        predict = self.recipe.predictor(trained, self.population)
        return oracle_of(
            predict,
            self.recipe.defence,
            self._shape,
            self.population.classes,
            box,
            seed=self.seed,
            name=self.name,
            state=trained.guards,
        )

    @property
    def _shape(self) -> tuple[int, ...]:
        return self.population.records.shape


def of_job(job: TrainJob, store: Store, say: Say) -> Target:
    """The model of a job: its weights from the store, or trained once more where they are not there.

    Args:
        job: that was carried out.
        store: where its weights may be.
        say: is told when a model is trained once more.
    """
    return Target(job.key, job.recipe, job.population, job.rows, job.seed, lambda: _weights(job, store, say))


def of_model(trained: Trained, recipe: AnyRecipe, population: Population, rows: Rows) -> Target:
    """A model that is at hand, named by its weights; by its recipe, records and seed where it has none."""
    state = {f"w/{name}": array_digest(value.cpu().numpy()) for name, value in (trained.state or {}).items()}
    guards = {f"g/{name}": array_digest(value.cpu().numpy()) for name, value in trained.guards.items()}
    parts = {"recipe": recipe.spec(), "records": population.fingerprint, "rows": rows, "seed": trained.seed}
    return Target(content_hash({**parts, **state, **guards}), recipe, population, rows, trained.seed, lambda: trained)


def _weights(job: TrainJob, store: Store, say: Say) -> Trained:
    try:
        found, why = store.weights(job.key), "its weights are not in the store"
    except StoreMismatch as error:
        found, why = None, f"its weights cannot be used: {error.message}"
    if found is not None:
        return found
    say(f"{job.label} is trained once more for inversion, because {why}")
    return job.recipe.fit(job.population, [Assignment(job.rows, job.seed)], LoopOptions(dtype=job.torch_dtype))[0]


def _unloaded(_: torch.Tensor) -> torch.Tensor:
    raise SfumatoError("Expected a loaded model, got only its name.", remedy="Ask `Target.oracle`.")
