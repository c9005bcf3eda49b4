"""Hyper-parameters of a defence, chosen before the comparison on records that are never attacked.

A setting is trained on a part of the ordinary units (in every training set, so never in the game) and judged on another
part of them. Neither the records in the game nor the public ones, which accuracy is measured on, are read.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
from scipy.special import log_softmax

from sfumato.audit.compare import Run, compare
from sfumato.audit.executing import executed
from sfumato.audit.record import GuaranteeSummary, Subject
from sfumato.audit.settings import AuditSettings
from sfumato.audit.strength import ordinary_units
from sfumato.audit.tuned import Trial, TuningSummary
from sfumato.data.membership import Membership
from sfumato.data.population import Population
from sfumato.defences.undefended import Undefended
from sfumato.errors import UsageError
from sfumato.execution.events import Ended, Event, OnEvent, silent
from sfumato.execution.executors.base import Executor
from sfumato.execution.jobs import JobResult, TrainJob
from sfumato.execution.store import Store
from sfumato.seeding import derive, stream
from sfumato.training.composition import guarded
from sfumato.training.defence import Defence, chain, configured
from sfumato.training.recipe import AnyRecipe, Recipe
from sfumato.training.splitting import roles_of
from sfumato.types import Rows
from sfumato.validate import at_least, in_range

FEWEST = 20  # ordinary units below which a validation split says nothing
CRITERION = (
    "the smallest absolute gap between the mean loss on fitted and on validation records, among settings whose "
    "validation accuracy is within the tolerance of the undefended model's; where there is none, the most accurate. "
    "Behind a guard that changes scores the gap is that of the shares of wrong answers"
)
NOT_FORMAL = (
    "none, because of hyper-parameters chosen by validation scores of records that it is trained on, outside its "
    "mechanism, at stage `tuning`"
)


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """Which defence is tuned, over what.

    Args:
        method: name of the defence, wherever it stands in a chain.
        grid: field -> candidates; empty for the defence's own `grid()`.
        tolerance: how much validation accuracy may be lost against the undefended model, in [0, 1].
        trials: at most so many settings are trained, drawn from the grid at random where it holds more.
        validation: share of the ordinary units that settings are judged on.
    """

    method: str
    grid: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    tolerance: float = 0.01
    trials: int = 16
    validation: float = 0.25

    def __post_init__(self) -> None:
        in_range("tolerance", self.tolerance, 0, 1)
        at_least("trials", self.trials, 1)
        in_range("validation", self.validation, 0.05, 0.9)
        object.__setattr__(self, "grid", {name: tuple(values) for name, values in self.grid.items()})
        empty = [name for name, values in self.grid.items() if not values]
        if empty:
            raise UsageError(f"Expected candidates for `{empty[0]}`, got none.", remedy="Give at least one value.")


class Tuned(NamedTuple):
    """The recipes with what was chosen in them, and how it was."""

    recipes: list[AnyRecipe]
    found: list[TuningSummary]


class Split(NamedTuple):
    """Records for tuning, int64 [k] each; whole units, none in the game and none public."""

    fitted: Rows
    validation: Rows


def compare_tuned(
    population: Population,
    recipes: Sequence[AnyRecipe],
    settings: AuditSettings,
    store: Store,
    tuning: Sequence[Tuning],
    *,
    executor: str | Executor = "auto",
    on_event: OnEvent | None = None,
    **more: Any,
) -> Run:
    """Tune first, then `compare`; the record says what was tried and chosen. Arguments are those of `compare`."""
    done = tuned(population, recipes, settings, store, tuning, executor=executor, on_event=on_event)
    run = compare(population, done.recipes, settings, store, executor=executor, on_event=on_event, **more)
    names = {one.subject for one in done.found}
    subjects = [without_guarantee(one) if one.name in names else one for one in run.record.subjects]
    return replace(run, record=run.record.model_copy(update={"tuning": done.found, "subjects": subjects}))


def without_guarantee(subject: Subject) -> Subject:
    """A tuned subject: what was chosen by looking at its training records is a read outside of any mechanism."""
    if subject.guarantee.status == "none":
        return subject
    inversions = [one.model_copy(update={"bounds": []}) for one in subject.inversions]
    none = GuaranteeSummary(status="none", statement=NOT_FORMAL)
    return subject.model_copy(update={"guarantee": none, "inversions": inversions})


def tuned(
    population: Population,
    recipes: Sequence[AnyRecipe],
    settings: AuditSettings,
    store: Store,
    tuning: Sequence[Tuning],
    *,
    executor: str | Executor = "auto",
    on_event: OnEvent | None = None,
) -> Tuned:
    """Every recipe with the settings that were chosen for the defences that are tuned.

    Trainings are stored jobs: what is there is reused, and an interrupted search goes on.

    Raises:
        UsageError: if a method is in no recipe, has no grid, or there are no records left to tune on.
    """
    chosen, found = list(recipes), []
    for one in tuning:
        positions = positions_of(chosen, one)
        grid, held = _grid([chosen[i] for i in positions], one)
        split = split_of(population, settings.membership(population), one.validation, settings.seed)
        for i in positions:
            recipe = chosen[i]
            assert isinstance(recipe, Recipe)  # as `positions_of` has checked
            search = _Search(population, recipe, one, grid, split, settings)
            best, summary = search.run(store, executor, _until_the_end(on_event or silent))
            chosen[i] = best
            found.append(summary.model_copy(update={"held": held}))
    return Tuned(chosen, found)


def _until_the_end(on_event: OnEvent) -> OnEvent:
    """All events but an end that is none: the comparison comes after it."""

    def tell(event: Event) -> None:
        if not (isinstance(event, Ended) and not event.missing):
            on_event(event)

    return tell


def trainings(recipes: Sequence[AnyRecipe], tuning: Sequence[Tuning]) -> int:
    """At most so many models are trained to tune."""
    count = 0
    for one in tuning:
        positions = positions_of(recipes, one)
        grid, _ = _grid([recipes[i] for i in positions], one)
        count += len(positions) * (1 + min(one.trials, math.prod(map(len, grid.values()))))
    return count


def split_of(population: Population, membership: Membership, validation: float, seed: int) -> Split:
    """Ordinary units in two parts; those in the game, twins of near copies in it and the public ones are in neither.

    Raises:
        UsageError: if there are too few ordinary units: then only attacked records would be left to tune on.
    """
    ordinary = ordinary_units(population, membership)
    if len(ordinary) < FEWEST:
        raise UsageError(
            f"Expected at least {FEWEST} units that are never attacked to tune on, got {len(ordinary)}.",
            remedy="Use more records, or fewer canaries.",
        )
    order = stream(seed, "tuning", "split").permutation(ordinary)
    judged = np.zeros(membership.units, dtype=bool)
    judged[order[: max(1, round(validation * len(order)))]] = True
    fitted = np.isin(np.arange(membership.units), ordinary) & ~judged
    return Split(np.flatnonzero(population.rows_of(fitted)), np.flatnonzero(population.rows_of(judged)))


def positions_of(recipes: Sequence[AnyRecipe], one: Tuning) -> list[int]:
    """Which recipes have the method."""
    found = [i for i, recipe in enumerate(recipes) if isinstance(recipe, Recipe) and _part(recipe, one) is not None]
    if not found:
        raise UsageError(
            f"Expected a contender with the defence {one.method!r} to tune, got {[r.name for r in recipes]}.",
            remedy=f"Add it: --defences undefended,{one.method}.",
        )
    return found


def _part(recipe: Recipe, one: Tuning) -> Defence | None:
    return next((part for part in chain(recipe.defence) if part.name == one.method), None)


class _Grid(NamedTuple):
    fields: dict[str, tuple[Any, ...]]
    held: list[str]


def _grid(recipes: Sequence[AnyRecipe], one: Tuning) -> _Grid:
    """The candidates; fields in which the contenders differ are their strengths, and are left alone."""
    parts = [_part(recipe, one) for recipe in recipes if isinstance(recipe, Recipe)]
    first = parts[0]
    assert first is not None  # the recipes are those that have the method
    offered = dict(one.grid) or _offered(first)
    if not offered:
        raise UsageError(
            f"Expected a grid to tune {one.method!r}, which offers none of its own.",
            remedy='Write it in a configuration file: [tune] method = "..." with [tune.grid] FIELD = [VALUES].',
        )
    fields = {name: tuple(values) for name, values in offered.items()}
    unknown = [name for name in fields if not hasattr(first, name) or name == "inner"]
    if unknown:
        raise UsageError(
            f"Expected fields of {one.method!r} in its grid, got {unknown[0]!r}.", remedy="Correct its name."
        )
    held = [name for name in fields if len({getattr(part, name) for part in parts}) > 1]
    if held and one.grid:
        raise UsageError(
            f"Expected a grid without `{held[0]}`, in which the contenders with {one.method!r} differ.",
            remedy="Leave it out of the grid: it is their strength.",
        )
    return _Grid({name: values for name, values in fields.items() if name not in held}, held)


def _offered(part: Defence) -> dict[str, Sequence[Any]]:
    """The defence's own grid, empty where it has none."""
    offer = getattr(part, "grid", None)
    return {} if offer is None else dict(offer())


@dataclass(frozen=True, eq=False)
class _Search:
    """One recipe to be tuned."""

    population: Population
    recipe: Recipe
    tuning: Tuning
    grid: dict[str, tuple[Any, ...]]
    split: Split
    settings: AuditSettings

    def run(self, store: Store, executor: str | Executor, on_event: OnEvent) -> tuple[Recipe, TuningSummary]:
        """Train the settings, and choose."""
        candidates, unsuited = self._candidates()
        if not candidates:
            raise UsageError(
                f"Expected a setting of {self.tuning.method!r} that suits these data, got none in the grid.",
                remedy="Give other candidates.",
            )
        made = [self._with(settings) for settings in candidates]
        recipes = [replace(self.recipe, defence=Undefended(), name="undefended"), *made]
        jobs = [self._job(recipe, f"tuning {self.recipe.name} {i}") for i, recipe in enumerate(recipes)]
        results = executed(jobs, (), store, executor, on_event).results
        plain = self._judged(results[0], recipes[0], {}, 0.0)
        least = plain.validation_accuracy - self.tuning.tolerance
        trials = [
            self._judged(result, recipe, settings, least)
            for result, recipe, settings in zip(results[1:], made, candidates, strict=True)
        ]
        best = choose(trials)
        return made[best], self._summary(trials, best, plain, unsuited)

    def _summary(self, trials: list[Trial], best: int, plain: Trial, unsuited: int) -> TuningSummary:
        units = [len(np.unique(self.population.unit_of[rows])) for rows in self.split]
        return TuningSummary(
            subject=self.recipe.name,
            method=self.tuning.method,
            criterion=CRITERION,
            tolerance=self.tuning.tolerance,
            fitted_units=units[0],
            validation_units=units[1],
            undefended_accuracy=plain.validation_accuracy,
            grid={name: list(values) for name, values in self.grid.items()},
            grid_size=math.prod(map(len, self.grid.values())),
            trials=trials,
            chosen=trials[best].settings,
            unsuited=unsuited,
            note="" if trials[best].within else "No setting was within the tolerance: the most accurate was taken.",
        )

    def _candidates(self) -> tuple[list[dict[str, Any]], int]:
        """Up to `trials` settings that suit, and how many were passed over because they do not."""
        found: list[dict[str, Any]] = []
        unsuited = 0
        for settings in drawn(self.grid, self.settings.seed, self.recipe.name):
            if len(found) == self.tuning.trials:
                break
            if self._suits(settings):
                found.append(settings)
            else:
                unsuited += 1
        return found, unsuited

    def _suits(self, settings: Mapping[str, Any]) -> bool:
        """A method may refuse values at construction, or say in `unsuited(classes)` why they are of no use."""
        try:
            part = _part(self._with(settings), self.tuning)
        except UsageError:
            return False
        say = getattr(part, "unsuited", None)
        return say is None or not say(self.population.classes)

    def _with(self, settings: Mapping[str, Any]) -> Recipe:
        return replace(self.recipe, defence=_changed(self.recipe.defence, self.tuning.method, settings))

    def _job(self, recipe: Recipe, label: str) -> TrainJob:
        seed = derive(self.settings.seed, "tuning", "model")
        return TrainJob(
            recipe=recipe,
            population=self.population,
            rows=self.split.fitted,
            seed=seed,
            dtype=self.settings.dtype,
            label=label,
        )

    def _judged(self, result: JobResult, recipe: Recipe, settings: dict[str, Any], least: float) -> Trial:
        """Losses and accuracy; of the fitted part only what the network itself was fitted to."""
        seed = derive(self.settings.seed, "tuning", "model")
        task = configured(recipe.defence, recipe.task)
        roles = roles_of(task, recipe.defence, self.population, self.split.fitted, seed)
        labels, fitted = self.population.label_array, self.split.fitted[roles == "fit"]
        inside, outside = (mean_loss(result.logits, labels, rows) for rows in (fitted, self.split.validation))
        known, accuracy = (hit_rate(result.logits, labels, rows) for rows in (fitted, self.split.validation))
        return Trial(
            settings=settings,
            validation_accuracy=accuracy,
            fitted_loss=inside,
            validation_loss=outside,
            gap=abs(known - accuracy)
            if guarded(recipe.defence)
            else abs(outside - inside),  # scores tell nothing there
            within=accuracy >= least,
        )


def _changed(defence: Defence, method: str, settings: Mapping[str, Any]) -> Defence:
    """The chain with other fields in the part of this name."""
    if defence.name == method:
        return replace(defence, **settings)
    assert defence.inner is not None  # the method is in the chain
    return replace(defence, inner=_changed(defence.inner, method, settings))


def mean_loss(logits: np.ndarray, labels: np.ndarray, rows: Rows) -> float:
    """Mean cross-entropy of logits [n, classes] on some rows; a probability of 0 counts as 1e-12."""
    log_p = log_softmax(logits[rows].astype(np.float64), axis=1)[np.arange(len(rows)), labels[rows]]
    return float(-np.maximum(log_p, math.log(1e-12)).mean())


def hit_rate(logits: np.ndarray, labels: np.ndarray, rows: Rows) -> float:
    """Share of right answers of logits [n, classes] on some rows."""
    return float((logits[rows].argmax(axis=1) == labels[rows]).mean())


def choose(trials: Sequence[Trial]) -> int:
    """Position of the best by `CRITERION`; the first of equals."""
    within = [i for i, trial in enumerate(trials) if trial.within]
    if within:
        return min(within, key=lambda i: trials[i].gap)
    return max(range(len(trials)), key=lambda i: trials[i].validation_accuracy)


def drawn(grid: Mapping[str, Sequence[Any]], seed: int, name: str) -> Iterator[dict[str, Any]]:
    """The settings of a grid in an order that the seed draws, none twice."""
    names, sizes = list(grid), [len(values) for values in grid.values()]
    order = stream(seed, "tuning", "grid", name).permutation(math.prod(sizes))
    for number in order:
        places = np.unravel_index(number, sizes) if sizes else ()
        yield {name: grid[name][int(place)] for name, place in zip(names, places, strict=True)}
