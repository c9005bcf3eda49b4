"""Who judges guesses of classes: a network unlike any target, and a second opinion that no training made.

An evaluation model takes over much of what fools a target, so that its verdicts alone overstate what leaked. It differs
from every target in architecture, seed and order of the data, and beside it stands what a record looks like.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from sfumato.audit.executing import executed
from sfumato.audit.inversion.estimates import Answers
from sfumato.audit.inversion.evaluator import HeldOut, evaluator_preset, evaluator_rng, held_out
from sfumato.audit.inversion.looks import Looks
from sfumato.audit.inversion.targets import of_job
from sfumato.audit.inverted import EvaluatorSummary
from sfumato.audit.measured import Finding
from sfumato.audit.settings import AuditSettings
from sfumato.audit.statistics.nearest import nearest
from sfumato.audit.utility import honest
from sfumato.data.population import Population
from sfumato.defences.undefended import Undefended
from sfumato.errors import UsageError
from sfumato.execution.discovery import AUTO
from sfumato.execution.events import (
    LINE_EVERY,
    Attacking,
    EpochDone,
    Event,
    Notice,
    OnEvent,
    Started,
    silent,
    sparingly,
)
from sfumato.execution.executors.base import Executor
from sfumato.execution.jobs import TrainJob
from sfumato.execution.store import Store
from sfumato.seeding import derive
from sfumato.targets.oracle import CHUNK
from sfumato.training.extras import features_of
from sfumato.training.recipe import AnyRecipe, ModulePredict, Recipe
from sfumato.types import Bools, Floats, Ints

FAIR = 0.6  # accuracy below which verdicts mean little; more where guessing alone is right often


@dataclass(frozen=True, eq=False)
class Judge:
    """The evaluation model, the private records, and the second opinion.

    Args:
        predict: the evaluation model, in eval mode, which ends in a linear layer.
        population: the private records.
        held_out: bool [n], those that the evaluation model was not trained on.
        summary: for the record.
        notices: what the user should know.
    """

    predict: ModulePredict
    population: Population
    held_out: Bools
    summary: EvaluatorSummary
    notices: tuple[Notice, ...] = ()

    def logits(self, x: Floats) -> Floats:
        """float32 [b, classes] for records [b, *shape]."""
        with torch.no_grad():
            parts = [self.predict(part).float().numpy() for part in _parts(x)]
        return np.concatenate(parts) if parts else np.empty((0, self.population.classes), np.float32)

    def features(self, x: Floats) -> Floats:
        """float32 [b, D] for records [b, *shape], b at least 1: what the last linear layer is given."""
        found = []
        for part in _parts(x):
            with features_of(self.predict.module) as taken, torch.no_grad():
                self.predict(part)
            found.append(taken.last().float().numpy())
        return np.concatenate(found)

    @cached_property
    def looks(self) -> Looks:
        """The features of the second opinion."""
        return Looks.of(self._records)

    @cached_property
    def record_features(self) -> Floats:
        """float32 [n, D]: `features` of the private records."""
        return self.features(self._records)

    @cached_property
    def record_looks(self) -> Floats:
        """float32 [n, d]: looks of the private records."""
        return self.looks(self._records)

    def second_opinion(self, x: Floats) -> Ints:
        """int64 [b]: the class of the private record that each of the records [b, *shape] looks most like.

        Records with a planted label, and canaries that were changed, are no picture of their class, and do not count.
        """
        rows = np.flatnonzero(honest(self.population))
        return self.population.label_array[rows[nearest(self.looks(x), self.record_looks[rows]).which]]

    @property
    def _records(self) -> Floats:
        return self.population.tensor(np.arange(len(self.population))).numpy()


def judge_for(
    population: Population,
    recipes: Sequence[AnyRecipe],
    settings: AuditSettings,
    store: Store,
    *,
    executor: str | Executor = AUTO,
    on_event: OnEvent = silent,
) -> Judge:
    """Train the evaluation model on all private records but a tenth, or take it from the store, and try it on those.

    Records with a planted label, and canaries that were changed, teach it nothing and try it on nothing.

    Args:
        population: the private records, with labels.
        recipes: of all targets.
        settings: for the seed, the level and `inversion.evaluator`.
        store: where it is kept.
        executor: as for `execute`.
        on_event: is told how the training goes, and where its verdicts mean little.

    Raises:
        UsageError: if no network differs from those of the targets, or no class has two records.
    """
    wanted = settings.inversion.evaluator if settings.inversion is not None else ""
    preset = evaluator_preset(population, recipes, wanted)
    recipe = Recipe(preset.task(population), Undefended(), name=f"evaluator: {preset.name}")
    if recipe.answers_at_random(population):
        raise UsageError(
            f"Expected an evaluator that answers alike each time, got {preset.name!r}.", remedy="Name another preset."
        )
    apart = held_out(population, evaluator_rng(settings.seed))
    own = np.flatnonzero(~apart.rows & honest(population))
    if not apart.rows.any() or not len(own):
        raise UsageError(
            "Expected a class with two records as they came, one of which to try the evaluator on, got none.",
            remedy="Use more records.",
        )
    job = TrainJob(
        recipe,
        population,
        own,
        derive(settings.seed, "evaluator"),
        settings.dtype,
        label="evaluator",
    )
    executed([job], (), store, executor, on_event)
    trained = of_job(job, store, lambda line: on_event(Notice("negligible", line))).trained
    predict = recipe.predictor(trained, population)
    if not isinstance(predict, ModulePredict):
        raise UsageError(f"Expected a network, got {type(predict).__name__}.", remedy="Name another preset.")
    judge = Judge(predict, population, apart.rows, EvaluatorSummary(name=preset.name, accuracy=_UNTRIED))
    return _tried(judge, apart, settings.confidence, on_event)


def of_the_judge(on_event: OnEvent) -> OnEvent:
    """What is told of the evaluator's training: it is none of the models of the run, and its end is not the run's."""
    tell = sparingly(lambda text: on_event(Attacking(text)), LINE_EVERY)

    def told(event: Event) -> None:
        if isinstance(event, Started) and event.training:
            on_event(Attacking("Training the network that judges what is guessed."))
        elif isinstance(event, EpochDone):
            tell(f"The network that judges: epoch {event.epoch} of {event.epochs}.")
        elif isinstance(event, (Notice, Attacking)):
            on_event(event)

    return told


_UNTRIED = Finding(name="evaluator-accuracy", value=None, low=None, high=None, resolvable=False, note="not tried yet")


def _tried(judge: Judge, apart: HeldOut, confidence: float, on_event: OnEvent) -> Judge:
    """The judge with its accuracy, and a notice where that is poor."""
    accuracy = accuracy_on(judge, apart, confidence)
    note = "" if apart.by_unit else (
        f"Tried on further records of each {judge.population.unit.name} that it knows: a class has too few of them to "
        "hold one out."
    )  # fmt: skip
    notices: tuple[Notice, ...] = ()
    if accuracy.value is None or accuracy.value < fair(judge.population.classes):
        text = (
            f"The evaluation model {judge.summary.name} is right on {accuracy.value or 0:.0%} of the records held out: "
            "its verdicts on guesses mean little."
        )
        notices = (Notice("critical", text, "Name a better preset as `evaluator`, or use more records."),)
        note = f"{note} {text}".strip()
    for notice in notices:
        on_event(notice)
    summary = EvaluatorSummary(name=judge.summary.name, accuracy=accuracy, note=note)
    return Judge(judge.predict, judge.population, judge.held_out, summary, notices)


def accuracy_on(judge: Judge, apart: HeldOut, confidence: float) -> Finding:
    """Accuracy on the records held out; clusters are units, or classes where units were not held out."""
    population = judge.population
    rows = np.flatnonzero(apart.rows & honest(population))
    hits = judge.logits(population.tensor(rows).numpy()).argmax(axis=1) == population.label_array[rows]
    clusters = population.unit_of if apart.by_unit else population.label_array
    of = f"units ({population.unit.name})" if apart.by_unit else "classes"
    answers = Answers(np.zeros((1, len(rows)), np.int64), clusters[rows][None], of, confidence)
    found = answers.share("evaluator-accuracy", hits[None].astype(np.float64))
    return found.model_copy(update={"method": found.method.split(";")[0] + f"; clusters: {of}; one model"})


def fair(classes: int) -> float:
    """The accuracy that an evaluator should have: `FAIR`, and half of what chance leaves where that is more."""
    return max(FAIR, (1 + 1 / classes) / 2)


def _parts(x: Floats) -> Iterator[torch.Tensor]:
    for first in range(0, len(x), CHUNK):
        yield torch.from_numpy(np.ascontiguousarray(x[first : first + CHUNK], np.float32))
