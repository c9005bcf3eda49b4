"""The released model itself, attacked: shadow models of the same recipe and size serve as references."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from sfumato.audit.alarm import alarm_checks, alarms
from sfumato.audit.citations import citations, sources
from sfumato.audit.compare import CHOSEN_AFTERWARDS, Run, jobs_for, summary_of
from sfumato.audit.executing import Asked, carried_out, fit_runner, gather, said
from sfumato.audit.game import Case, Game
from sfumato.audit.guarantees import summary
from sfumato.audit.inversion.foreseeing import foresee
from sfumato.audit.inversion.study import Suspect, Workplace, check, invert
from sfumato.audit.inversion.targets import of_model
from sfumato.audit.provenance import provenance
from sfumato.audit.queries import Studied, asked_once, queries_for
from sfumato.audit.record import AuditRecord, Design, Notice, Subject
from sfumato.audit.reference_data import reference_risk
from sfumato.audit.settings import AuditSettings
from sfumato.audit.subject import Attacked, asked_often, attack_all, defence_summary, group_of_each_unit
from sfumato.audit.untested import untested
from sfumato.audit.utility import usefulness
from sfumato.audit.verdict import verdict
from sfumato.canonical import plain
from sfumato.data.membership import Membership
from sfumato.data.population import Population
from sfumato.errors import UsageError
from sfumato.execution.events import OnEvent, silent
from sfumato.execution.executors.base import Executor
from sfumato.execution.jobs import TrainJob
from sfumato.execution.run import Execution
from sfumato.execution.store import Store
from sfumato.seeding import stream
from sfumato.targets.answers import Answers
from sfumato.targets.asking import ask
from sfumato.targets.queries import QuerySet
from sfumato.training.recipe import AnyRecipe, Recipe
from sfumato.training.trained import Trained
from sfumato.types import Bools

RELEASED = "the released module itself, with shadow models of the same recipe and training-set size as references"


@dataclass(frozen=True, eq=False)
class Release:
    """A model that is to be released, or was.

    Args:
        recipe: how it was trained; its shadow models are trained in the same way.
        trained: the model.
        members: bool [units] of the population, who was in its training set.
        name: for reports.
    """

    recipe: AnyRecipe
    trained: Trained
    members: Bools
    name: str = "released model"


def audit_release(
    population: Population,
    release: Release,
    settings: AuditSettings,
    store: Store,
    *,
    public: Population | None = None,
    executor: str | Executor = "auto",
    on_event: OnEvent | None = None,
    command: str = "",
    title: str = "",
) -> Run:
    """Attack one given model.

    Args:
        population: its training records and others from the same source; those are what the game is played with.
        release: the model and who was in it.
        settings: `models` is the number of references; `design` is not used.
        store: for the references.
        public: records of others that attackers by inversion have.
        executor: "auto", a name, or an executor.
        on_event: receives progress events.
        command: what repeats the run.
        title: of the report.

    Raises:
        UsageError: if there are no members or no non-members to play with.
    """
    start = time.perf_counter()
    _check_members(release.members, population)
    membership, settings = release_design(release.members, settings), _of_one(settings)
    check(population, public, [release.recipe], membership, settings)
    place, suspect = Workplace(store, executor, on_event or silent), _suspect(release, population)
    foresee([suspect], population, public, membership, settings, place)
    jobs = jobs_for(population, [release.recipe], membership, settings)[0]
    _check_seeds(release, jobs)
    asked = Asked(jobs, queries_for(release.recipe, population, settings))
    _, done = carried_out([asked], store, executor, on_event)
    game = _game(population, release, membership, gather(done.results, population), asked.queries)
    tried = attack_all(game, settings, fit_runner(store))
    studied = asked_often(release.recipe, game, tried, population, settings, fit_runner(store))
    inverted = invert(population, public, [suspect], membership, settings, place)
    subject = inverted.filled(_subject(population, release, membership, game, settings, tried, studied, done))
    checks = alarm_checks([subject])
    record = AuditRecord(
        kind="release",
        title=title or f"{release.name}, trained on {population.name}",
        data=summary_of(population, membership),
        design=_design(membership, done),
        subjects=[subject],
        inversion=inverted.design,
        verdict=verdict([subject], checks),
        checks=checks,
        notices=[*alarms([subject]), *said(done), *_notices(release, membership, subject), *inverted.notices],
        not_tested=untested([subject]),
        citations=citations(sources(settings), [release.recipe.defence]),
        provenance=provenance(command, settings.seed, time.perf_counter() - start),
    )
    arrays = {f"{release.name}/{name}": array for name, array in tried.arrays.items()}
    return Run(record.with_arrays(arrays), (), inverted.gallery)


def _of_one(settings: AuditSettings) -> AuditSettings:
    """There is one model to invert."""
    if settings.inversion is None:
        return settings
    return replace(settings, inversion=replace(settings.inversion, targets=1))


def _suspect(release: Release, population: Population) -> Suspect:
    inside = population.rows_of(release.members)
    target = of_model(release.trained, release.recipe, population, np.flatnonzero(inside))
    return Suspect(release.name, release.recipe, (target,), inside[None], release.trained.guarantee)


def _design(membership: Membership, done: Execution) -> Design:
    return Design(
        name=membership.design,
        models=membership.models,
        targets=1,
        references_per_target=membership.models,
        executor=done.executor,
        reused=done.reused,
        trained=done.trained,
    )


def _check_members(members: Bools, population: Population) -> None:
    given = np.asarray(members)
    if given.dtype != np.bool_ or given.shape != (population.units,):
        raise UsageError(
            f"Expected membership as booleans, one for each of {population.units} units ({population.unit.name}), got "
            f"{given.dtype} {given.shape}.",
            remedy="Say of each unit, in the order of `Population.unit_names`, whether it was trained on.",
        )


def _check_seeds(release: Release, jobs: Sequence[TrainJob]) -> None:
    """With few units a reference can have the released model's training set; it must then not be that very model."""
    if release.trained.seed in {job.seed for job in jobs}:
        raise UsageError(
            "Expected references trained with other seeds than the released model, got one with its seed.",
            remedy="Audit with another `seed`.",
        )


def _subject(
    population: Population,
    release: Release,
    membership: Membership,
    game: Game,
    settings: AuditSettings,
    tried: Attacked,
    studied: Studied,
    done: Execution,
) -> Subject:
    answers = game.cases[0].target
    return Subject(
        name=release.name,
        artefact=RELEASED,
        defence=defence_summary(release.recipe.defence),
        guarantee=summary(release.trained.guarantee, membership, population, fprs=settings.fprs),
        history=release.trained.history.plain(),
        recipe=plain(release.recipe.spec()),
        utility=usefulness(answers, release.members[None], population, membership, settings, studied.random),
        attacks=tried.results,
        strongest=tried.best,
        not_run=[*tried.refused, *studied.refused],
        random_answers=studied.random,
        query_risk=studied.rows,
        reference_risk=reference_risk(
            release.recipe, population, game, tried.played.get(tried.best), [release.trained.seed], settings
        ),
        groups=tried.groups(game, group_of_each_unit(population.groups, population.unit_of), settings),
        training_seconds=float(sum(r.facts["seconds"] for r in done.results)),
    )


def release_design(members: Bools, settings: AuditSettings) -> Membership:
    """References of exactly the released model's size in units: as many members as non-members play, others stay in.

    Players are drawn at random from members and non-members; each is in half of the references, whichever it is.
    Non-members that do not play are public: no reference is trained on them.

    Args:
        members: bool [units] of the released model.
        settings: number of models, share of public non-members, seed.
    """
    rng = stream(settings.seed, "release design")
    inside, outside = rng.permutation(np.flatnonzero(members)), rng.permutation(np.flatnonzero(~members))
    public = round(settings.public * len(outside))
    players = min(len(inside), len(outside) - public)
    if players < 2:
        raise UsageError(
            f"Expected at least two members and two non-members, got {len(inside)} and {len(outside)} units.",
            remedy="Add records from the same source that the model was not trained on.",
        )
    canaries = np.sort(np.concatenate([inside[:players], outside[:players]]))
    return Membership.canary_pairs(len(members), canaries, settings.models, rng, public=np.sort(outside[players:]))


def _game(
    population: Population, release: Release, membership: Membership, references: Answers, queries: Sequence[QuerySet]
) -> Game:
    predict = release.recipe.predictor(release.trained, population)
    game, seed = np.flatnonzero(population.rows_of(membership.in_game)), release.trained.seed
    guards = release.trained.guards
    asked = ask(predict, release.recipe.defence, population, queries, seed, asked=game, guards=guards)
    scalars = {key: {name: values[None] for name, values in table.items()} for key, table in asked.scalars.items()}
    target = Answers(population.label_array, asked.logits[None], scalars).with_base_statistics()
    return Game(
        labels=population.label_array,
        unit_of=population.unit_of,
        in_game=membership.in_game,
        public=membership.public,
        cases=(Case(target, release.members, np.arange(membership.models)),),
        references=references,
        membership=membership.matrix,
        population=population,
        model=release.recipe.task.model if isinstance(release.recipe, Recipe) else None,
        kind=population.kind,
    )


def _notices(release: Release, membership: Membership, subject: Subject) -> list[Notice]:
    players, members = int(membership.in_game.sum()) // 2, int(release.members.sum())
    found = [CHOSEN_AFTERWARDS, *asked_once([subject])] if subject.attacks or subject.not_run else []
    if players != members:
        found.append(
            Notice(
                severity="theoretical",
                text=f"{players} of the {members} members play the game, because there are too few non-members to play "
                "all; the others were in every reference too.",
                remedy="Add non-members from the same source.",
            )
        )
    return found
