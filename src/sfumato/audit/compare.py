"""The main job: several recipes on one population, trained again and again, attacked, and put side by side."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sfumato.accounting.guarantee import Guarantee, NoGuarantee
from sfumato.accounting.history import History
from sfumato.audit.alarm import alarm_checks, alarms
from sfumato.audit.beforehand import refuse_same_names, refuse_untrainable, remarks
from sfumato.audit.branches import branch_notices
from sfumato.audit.citations import citations, sources
from sfumato.audit.executing import Asked, carried_out, fit_runner, gather, said
from sfumato.audit.exposure import rates_of_units, vulnerability
from sfumato.audit.findings import one_run_bounds
from sfumato.audit.frontier import Contended, Way, frontier_of, ways_of
from sfumato.audit.game import FitRunner, Game, Played, siblings
from sfumato.audit.guarantees import of_one_training, summary
from sfumato.audit.inversion.foreseeing import foresee_recipes
from sfumato.audit.inversion.gallery import Gallery
from sfumato.audit.inversion.study import Workplace, check, invert_recipes
from sfumato.audit.paired import aucs, difference_of_scores, paired, rates_at, resolved, unresolved_difference
from sfumato.audit.provenance import provenance
from sfumato.audit.queries import asked_once, queries_for
from sfumato.audit.record import (
    AuditRecord,
    Comparison,
    DataSummary,
    Design,
    EpsilonFinding,
    Finding,
    Notice,
    StrengthSummary,
    Subject,
)
from sfumato.audit.reference_data import reference_risk
from sfumato.audit.settings import AuditSettings
from sfumato.audit.strength import reached, refuse_weak, strength_notices
from sfumato.audit.subject import asked_often, attack_all, defence_summary, group_of_each_unit
from sfumato.audit.untested import untested
from sfumato.audit.utility import honest, per_model, usefulness
from sfumato.audit.verdict import verdict
from sfumato.audit.worst import WorstUnits, worst_units
from sfumato.canonical import plain
from sfumato.data.classes import unit_is_class
from sfumato.data.membership import COINS, Membership
from sfumato.data.population import Population
from sfumato.execution.events import OnEvent, silent
from sfumato.execution.executors.base import Executor
from sfumato.execution.jobs import JobResult, TrainJob
from sfumato.execution.run import Execution
from sfumato.execution.store import Store
from sfumato.seeding import derive
from sfumato.targets.answers import Answers
from sfumato.training.recipe import AnyRecipe, Recipe

SIBLINGS = (
    "siblings: models trained in the same way on other halves of the data, each attacked in turn with the others as "
    "references. A released model of this recipe was not itself touched."
)
CHOSEN_AFTERWARDS = Notice(
    severity="theoretical",
    text="The strongest attack, over all units and on each kind of canary, was chosen on the scores that its numbers "
    "come from; intervals hold for each attack by itself, not for the largest of them.",
    remedy="Name one attack in advance, or repeat the run with another seed.",
)


@dataclass(frozen=True, eq=False)
class Run:
    """What a run hands back: the record, and what never goes into it: the local table of worst-hit units, pictures."""

    record: AuditRecord
    worst: tuple[WorstUnits, ...]
    gallery: Gallery | None = None


@dataclass(frozen=True, eq=False)
class _Measured:
    """One recipe after training and attacking."""

    recipe: AnyRecipe
    subject: Subject
    game: Game
    answers: Answers
    played: dict[str, Played]
    arrays: dict[str, np.ndarray]
    worst: WorstUnits | None
    ways: frozenset[Way]


def compare(
    population: Population,
    recipes: Sequence[AnyRecipe],
    settings: AuditSettings,
    store: Store,
    *,
    public: Population | None = None,
    executor: str | Executor = "auto",
    on_event: OnEvent | None = None,
    command: str = "",
    title: str = "",
    notices: Sequence[Notice] = (),
) -> Run:
    """Train `settings.models` models of each recipe, attack each in turn, and write down what was found.

    Args:
        population: labelled records.
        recipes: one or more; names must differ. All see the same training sets and seeds, so differences are paired.
        settings: see `AuditSettings`.
        store: where models and answers are kept; what is there already is reused.
        public: records of others that attackers by inversion have; no model is trained on them.
        executor: "auto", the name of an executor, or one.
        on_event: receives progress events (see `sfumato.execution.events`).
        command: for the record, what repeats the run.
        title: of the report.
        notices: warnings that are known already.

    Raises:
        UsageError: if names repeat, or the population is too small for the design.
    """
    start = time.perf_counter()
    membership = _checked(population, public, recipes, settings)
    jobs = jobs_for(population, recipes, membership, settings)
    foresee_recipes(population, public, recipes, jobs, membership, settings, store, on_event or silent)
    asked = [Asked(mine, queries_for(recipe, population, settings)) for recipe, mine in zip(recipes, jobs, strict=True)]
    results, done = carried_out(asked, store, executor, on_event)
    measured = _measured(recipes, population, membership, results, settings, store)
    place = Workplace(store, executor, on_event or silent, _formal(results, settings))
    inverted = invert_recipes(population, public, recipes, jobs, membership, settings, place)
    subjects = [inverted.filled(m.subject) for m in measured]
    checks, strength = alarm_checks(subjects), reached(population, membership, recipes, subjects, settings)
    known = [*notices, *remarks(recipes, population), *said(done), *_unused(recipes, results), *inverted.notices]
    record = AuditRecord(
        kind="compare" if len(recipes) > 1 else "audit",
        title=title or f"{population.name}: {', '.join(recipe.name for recipe in recipes)}",
        data=summary_of(population, membership),
        design=_design(membership, measured, done),
        subjects=subjects,
        comparisons=_comparisons(measured, population, settings.confidence),
        frontier=frontier_of(_contended(measured, population), settings),
        inversion=inverted.design,
        strength=strength,
        verdict=verdict(subjects, checks),
        checks=checks,
        notices=[*alarms(subjects), *known, *_notices(membership, settings, subjects, strength)],
        not_tested=untested(subjects),
        citations=citations(sources(settings), [recipe.defence for recipe in recipes]),
        provenance=provenance(command, settings.seed, time.perf_counter() - start),
    )
    return _run(record, measured, inverted.gallery)


def _measured(
    recipes: Sequence[AnyRecipe],
    population: Population,
    membership: Membership,
    results: Sequence[Sequence[JobResult]],
    settings: AuditSettings,
    store: Store,
) -> list[_Measured]:
    return [
        _measure(recipe, population, membership, rows, settings, fit_runner(store))
        for recipe, rows in zip(recipes, results, strict=True)
    ]


def _formal(results: Sequence[Sequence[JobResult]], settings: AuditSettings) -> list[Guarantee | NoGuarantee]:
    """Of each recipe, where inversion will be measured against it."""
    return [] if settings.inversion is None else [guarantee_of(rows) for rows in results]


def _run(record: AuditRecord, measured: Sequence[_Measured], gallery: Gallery | None) -> Run:
    arrays = {f"{m.recipe.name}/{k}": v for m in measured for k, v in m.arrays.items()}
    return Run(record.with_arrays(arrays), tuple(m.worst for m in measured if m.worst is not None), gallery)


def _unused(recipes: Sequence[AnyRecipe], results: Sequence[Sequence[JobResult]]) -> list[Notice]:
    return [
        notice
        for recipe, rows in zip(recipes, results, strict=True)
        for notice in branch_notices(recipe.name, recipe.defence, [row.facts for row in rows])
    ]


def _design(membership: Membership, measured: Sequence[_Measured], done: Execution) -> Design:
    return Design(
        name=membership.design,
        models=membership.models * len(measured),
        targets=membership.models,
        references_per_target=measured[0].game.references_per_target,
        executor=done.executor,
        reused=done.reused,
        trained=done.trained,
    )


def jobs_for(
    population: Population, recipes: Sequence[AnyRecipe], membership: Membership, settings: AuditSettings
) -> list[list[TrainJob]]:
    """One list of jobs per recipe; model m has the same training set and seed in each."""
    asked, seeds = np.flatnonzero(population.rows_of(membership.in_game)), seeds_of(membership, settings)
    return [
        [
            TrainJob(
                recipe=recipe,
                population=population,
                rows=membership.rows(population, m),
                seed=seeds[m],
                dtype=settings.dtype,
                label=f"{recipe.name} {m + 1}/{membership.models}",
                asked=asked,
            )
            for m in range(membership.models)
        ]
        for recipe in recipes
    ]


def seeds_of(membership: Membership, settings: AuditSettings) -> list[int]:
    """The seed of each model of a recipe; the same for every recipe."""
    return [derive(settings.seed, "model", m) for m in range(membership.models)]


def summary_of(population: Population, membership: Membership) -> DataSummary:
    """Counts only; no value, no id."""
    return DataSummary(
        name=population.name,
        kind=population.kind,
        records=len(population),
        units=population.units,
        unit=population.unit.name,
        classes=population.classes,
        shape=list(population.records.shape),
        fingerprint=population.fingerprint,
        game_units=int(membership.in_game.sum()),
        public_units=int(membership.public.sum()),
        groups=sorted(population.groups),
    )


def guarantee_of(results: Sequence[JobResult]) -> Guarantee | NoGuarantee:
    """The guarantee of one of the recipe's models: read from the histories of them all; one ordinary read is enough."""
    return of_one_training(History.from_plain(list(result.facts["history"])) for result in results)


def _measure(
    recipe: AnyRecipe,
    population: Population,
    membership: Membership,
    results: Sequence[JobResult],
    settings: AuditSettings,
    runner: FitRunner,
) -> _Measured:
    answers = gather(results, population)
    model = recipe.task.model if isinstance(recipe, Recipe) else None
    game = siblings(population, membership, answers, model)
    tried = attack_all(game, settings, runner)
    studied = asked_often(recipe, game, tried, population, settings, runner)
    subject = Subject(
        name=recipe.name,
        artefact=SIBLINGS,
        defence=defence_summary(recipe.defence),
        guarantee=summary(guarantee_of(results), membership, population, fprs=settings.fprs, delta=settings.delta),
        history=results[0].facts["history"],
        recipe=plain(recipe.spec()),
        utility=usefulness(answers, membership.matrix, population, membership, settings, studied.random),
        attacks=tried.results,
        strongest=tried.best,
        not_run=[*tried.refused, *studied.refused],
        random_answers=studied.random,
        query_risk=studied.rows,
        reference_risk=reference_risk(
            recipe, population, game, tried.played.get(tried.best), seeds_of(membership, settings), settings
        ),
        groups=tried.groups(game, group_of_each_unit(population.groups, population.unit_of), settings),
        vulnerability=vulnerability(game, settings.confidence),
        unit_rates=rates_of_units(game, tried.played[tried.best], settings.confidence) if tried.best else None,
        epsilon=_bounds(game, membership, list(tried.played.values()), settings),
        training_seconds=float(sum(r.facts["seconds"] for r in results)),
    )
    worst = worst_units(recipe.name, game, population)
    return _Measured(
        recipe, subject, game, answers, tried.played, tried.arrays, worst, ways_of(row.facts for row in results)
    )


def _bounds(
    game: Game, membership: Membership, played: Sequence[Played], settings: AuditSettings
) -> list[EpsilonFinding]:
    """The one-run theorems hold for independent coins, and for nothing else."""
    if membership.design != COINS or settings.delta is None:
        return []
    return one_run_bounds(game, played, settings, settings.delta)


def _contended(measured: Sequence[_Measured], population: Population) -> list[Contended]:
    """What the curves over strengths are made of."""
    counted, columns = honest(population), group_of_each_unit(population.groups, population.unit_of)
    return [
        Contended(
            m.subject,
            m.game,
            m.played,
            per_model("accuracy", m.answers.logits, m.answers.labels, ~m.game.members[:, m.game.unit_of] & counted),
            columns,
            m.ways,
        )
        for m in measured
    ]


def _comparisons(measured: Sequence[_Measured], population: Population, confidence: float) -> list[Comparison]:
    """Every recipe against the first, over the same targets: accuracy, and each attack's AUC and TPR at 1% FPR."""
    found = []
    for other in measured[1:]:
        found += _pair(measured[0], other, population, confidence)
    return found


def _pair(base: _Measured, other: _Measured, population: Population, confidence: float) -> list[Comparison]:
    subject, baseline = other.recipe.name, base.recipe.name
    found = []
    if not unit_is_class(population):  # else a model has no name for those outside its training set
        outside = ~base.game.members[:, base.game.unit_of] & honest(population)
        accuracies = [per_model("accuracy", m.answers.logits, m.answers.labels, outside) for m in (other, base)]
        gain = paired(accuracies[0], accuracies[1], "accuracy", confidence)
        found = [Comparison(finding="accuracy", subject=subject, baseline=baseline, difference=gain)]
    for attack in base.played:
        if attack in other.played:
            found += [
                Comparison(finding=row.name, at=at, attack=attack, subject=subject, baseline=baseline, difference=row)
                for at, row in _differences(base, other, attack, confidence).items()
            ]
    return found


def _differences(base: _Measured, other: _Measured, attack: str, confidence: float) -> dict[float | None, Finding]:
    """AUC (under None) and TPR at 1% and 10% FPR, by FPR."""
    members, in_game = base.game.members, base.game.in_game
    scores = other.played[attack].scores, base.played[attack].scores
    found: dict[float | None, Finding] = {
        None: difference_of_scores(*scores, members, in_game, aucs, "auc", confidence)
    }
    for fpr in (0.01, 0.1):
        found[fpr] = (
            difference_of_scores(*scores, members, in_game, rates_at(fpr), "tpr_at_fpr", confidence)
            if resolved(members, in_game, fpr)
            else unresolved_difference("tpr_at_fpr", confidence, f"Too few non-members per target for {fpr:g}.")
        )
    return found


def _notices(
    membership: Membership, settings: AuditSettings, subjects: Sequence[Subject], strength: StrengthSummary | None
) -> list[Notice]:
    found = [*strength_notices(strength), *([CHOSEN_AFTERWARDS, *asked_once(subjects)] if settings.attacks else [])]
    if membership.design != COINS:
        found.append(
            Notice(
                severity="negligible",
                text=f"No lower bound on epsilon: the design is {membership.design}, and the one-run bounds need "
                "independent coins.",
                remedy="Use the design `coins`.",
            )
        )
    if settings.models < 16 and settings.attacks:
        found.append(
            Notice(
                severity="theoretical",
                text=f"Only {settings.models} models per recipe: attacks with references are weaker than they can be.",
                remedy="Use 16 models or more; 64 for full strength.",
            )
        )
    return found


def _checked(
    population: Population, public: Population | None, recipes: Sequence[AnyRecipe], settings: AuditSettings
) -> Membership:
    """Who is in which training set, once nothing is left that would fail later."""
    refuse_same_names(recipes)
    refuse_untrainable(recipes, population)
    refuse_weak(population, recipes, settings)
    membership = settings.membership(population)
    check(population, public, recipes, membership, settings)
    return membership
