"""What a probe trains: two networks from each start, and for every region the ways to treat it. All are plain jobs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from sfumato.audit.probing.settings import TOLD, ProbeSettings
from sfumato.audit.record import NotRun
from sfumato.data.population import Population
from sfumato.defences.undefended import Undefended
from sfumato.errors import StoreMismatch, UnsupportedModel
from sfumato.execution.code import source_digest
from sfumato.execution.jobs import DTYPES, TrainJob
from sfumato.execution.store import Store
from sfumato.models.regions import Region
from sfumato.training.composition import course_of, release_of
from sfumato.training.defence import Defence, chain, configured
from sfumato.training.preparation import Assignment, LoopOptions, assemble
from sfumato.training.recipe import Recipe
from sfumato.training.task import Task
from sfumato.training.train import train
from sfumato.training.trained import Trained
from sfumato.training.variants import RegionFrozen, RegionRewound, RegionTransplanted

NAMES = {dtype: name for name, dtype in DTYPES.items()}


@dataclass(frozen=True)
class Derived(Recipe):
    """A recipe that starts from networks of other recipes, trained on the same records with the same seed.

    Those are read from the store; where their weights were dropped they are trained again.

    Args:
        ordinary: gives the network that is changed.
        private: gives the region that is put in, for transplants.
        store: where their models are; no part of what the recipe is.
    """

    ordinary: Recipe | None = None
    private: Recipe | None = None
    store: Store | None = None

    def spec(self) -> dict[str, Any]:
        own = {"code": source_digest({"variants": Path(__file__)}), "ordinary": self.ordinary, "private": self.private}
        return {**super().spec(), **own, "recipe": "derived"}

    def fit(self, population: Population, work: Sequence[Assignment], options: LoopOptions) -> list[Trained]:
        if len(work) != 1:
            raise UnsupportedModel(
                f"Expected one model at a time of {self.name}, got {len(work)}.",
                remedy="These models are trained one by one instead.",
            )
        sources = {
            name: self._source(recipe, population, work[0], options)
            for name, recipe in (("ordinary", self.ordinary), ("private", self.private))
            if recipe is not None
        }
        states = {name: trained.state or {} for name, trained in sources.items()}
        made = train(self.task, replace(self.defence, **states), population, work, options)
        before = [trained.history for trained in sources.values()]
        return [replace(one, history=sum([*before[1:], one.history], before[0])) for one in made]

    def _source(self, recipe: Recipe, population: Population, work: Assignment, options: LoopOptions) -> Trained:
        job = TrainJob(recipe, population, work.rows, work.seed, dtype=NAMES[options.dtype])
        found = self._stored(job)
        return recipe.fit(population, [work], LoopOptions(dtype=options.dtype))[0] if found is None else found

    def _stored(self, job: TrainJob) -> Trained | None:
        try:
            return None if self.store is None else self.store.weights(job.key)
        except StoreMismatch:  # damaged: the run that asks for that job itself says so and moves it aside
            return None


class Variant(NamedTuple):
    """One region treated in one way."""

    region: str
    operation: str
    recipe: Recipe


class Variants(NamedTuple):
    """All that a probe trains: the two networks as they are, the variants, and those that cannot be, with reasons."""

    ordinary: Recipe
    private: Recipe
    regions: tuple[Region, ...]
    variants: tuple[Variant, ...]
    refused: tuple[NotRun, ...]

    @property
    def recipes(self) -> list[Recipe]:
        """Sources first, because the others start from them."""
        return [self.ordinary, self.private, *(variant.recipe for variant in self.variants)]


def variants_of(
    task: Task, defence: Defence, population: Population, settings: ProbeSettings, store: Store
) -> Variants:
    """The recipes of a probe.

    The ordinarily trained network sees its inputs as the defence's does, so that their regions fit into each other.

    Args:
        task: what is learned.
        defence: of the network that regions are taken from, and of the objective that rewound ones are tuned with.
        population: for the shape of the records and the number of classes.
        settings: see `ProbeSettings`.
        store: of the models.
    """
    scaled = configured(defence, task)
    task = replace(task, standardise=scaled.standardise, scaling=scaled.scaling)
    ordinary, private = Recipe(task, Undefended(), "ordinary"), Recipe(task, defence, "defended")
    network = assemble(task, ordinary.defence, population.records.shape, population.classes, seed=0)
    regions = settings.regions.of(network)
    reasons = {op: _why_not(op, ordinary, private, regions, population) for op in settings.operations}
    made = [
        Variant(region.name, operation, _recipe(operation, region.name, ordinary, private, settings, store))
        for region in regions
        for operation in settings.operations
        if not reasons[operation]
    ]
    refused = [NotRun(attack=operation, reasons=[reason]) for operation, reason in reasons.items() if reason]
    return Variants(ordinary, private, regions, tuple(made), tuple(refused))


def _recipe(
    operation: str, region: str, ordinary: Recipe, private: Recipe, settings: ProbeSettings, store: Store
) -> Recipe:
    where: dict[str, Any] = {"regions": settings.regions, "region": region}
    name, task = f"{region}, {TOLD[operation]}", ordinary.task
    if operation == "freeze":
        return Recipe(task, RegionFrozen(**where), name)
    if operation == "transplant":
        return Derived(task, RegionTransplanted(**where), name, ordinary, private, store)
    share = settings.epochs / task.epochs
    inner = private.defence if operation == "rewind-private" else None
    rewound = RegionRewound(**where, epochs=settings.epochs, share=share, inner=inner)
    return Derived(task, rewound, name, ordinary, None, store)


def _why_not(
    operation: str, ordinary: Recipe, private: Recipe, regions: Sequence[Region], population: Population
) -> str:
    """Why no region can be treated in this way; "" where they can."""
    if operation == "freeze":
        return "" if len(regions) > 1 else "The network is one region: nothing would be left to train."
    if operation == "rewind":
        return ""
    names = "+".join(part.name for part in chain(private.defence))
    if not _same_network(ordinary, private, population):
        return f"{names} changes the layers of the network, so that regions do not fit into each other."
    if operation == "transplant":
        return ""
    part = course_of(private.defence)
    if part is not None:
        return f"{part.name} has a course of trainings of its own, which cannot be run on one region."
    return "" if release_of(private.defence, population) is None else f"{names} releases the records once."


def _same_network(ordinary: Recipe, private: Recipe, population: Population) -> bool:
    """Whether both have the same tensors in their states, the same ones trained, with the same initial values."""
    states = []
    for recipe in (ordinary, private):
        task = configured(recipe.defence, recipe.task)
        network = assemble(task, recipe.defence, population.records.shape, population.classes, seed=0)
        states.append(network.state_dict())
    if list(states[0]) != list(states[1]):
        return False
    return all(states[0][name].equal(states[1][name]) for name in states[0])
