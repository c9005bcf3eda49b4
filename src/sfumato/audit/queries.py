"""Risk against the number of answers: the attacks with one answer, with many, and with the weights of the network.

Querying a random model once measures the noise of the answer, not what it remembers. So models that answer at random,
targets and references alike, are asked again and again, and each attack is played on what stays when the noise is
averaged away. Whoever has the weights can also turn the noise off, or give all records the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from sfumato.attacks.membership.base import MembershipAttack
from sfumato.audit.findings import few, without_small
from sfumato.audit.game import Case, FitRunner, Game, Played, play, why_not
from sfumato.audit.measured import EVERYONE, NOISE_ONLY, Threat
from sfumato.audit.record import Notice, NotRun, QueryRisk, Subject
from sfumato.audit.settings import AuditSettings
from sfumato.data.population import Population
from sfumato.errors import NotApplicable, UsageError
from sfumato.targets.answers import Answers
from sfumato.targets.queries import AVERAGES, QuerySet, families
from sfumato.training.recipe import AnyRecipe
from sfumato.types import Rows, Strings

FPRS = (0.1, 0.01, 0.001)
WEIGHTS = ("weights", "gradients")


class Studied(NamedTuple):
    """What came of asking in several ways, and what could not be tried; nothing where answers are not `random`."""

    rows: list[QueryRisk]
    refused: list[NotRun]
    random: bool = True


ALWAYS_THE_SAME = Studied([], [], random=False)


def queries_for(recipe: AnyRecipe, population: Population, settings: AuditSettings) -> tuple[QuerySet, ...]:
    """What the models of a recipe are asked: what the attacks need, and more where the answers are random."""
    more = queries_of_study(settings) if recipe.answers_at_random(population) else ()
    return tuple(dict.fromkeys([*settings.queries, *more]))


def asked_of_each(recipe: AnyRecipe, population: Population, settings: AuditSettings) -> int:
    """At most so many queries for each record in the game, to each model."""
    found = families(queries_for(recipe, population, settings))
    return 1 + sum(max(one.per_record for one in members) for members in found.values())


def asked_once(subjects: Sequence[Subject]) -> list[Notice]:
    """A notice for subjects that answer at random and were never asked for several answers."""
    names = [
        subject.name
        for subject in subjects
        if subject.random_answers and not any(row.threat == "many queries" for row in subject.query_risk)
    ]
    if not names:
        return []
    return [
        Notice(
            severity="critical",
            text=f"{', '.join(names)}: answers are random, and no attack was tried with several of them. {NOISE_ONLY}",
            remedy="Give `draws` more than one number, and attacks that read one number per answer.",
        )
    ]


def varied(settings: AuditSettings) -> list[MembershipAttack]:
    """The attacks that are tried in several ways."""
    if settings.draws_attacks:
        return [attack for attack in settings.attacks if attack.name in settings.draws_attacks]
    return [attack for attack in settings.attacks if _reads_one_signal(attack)]


def ways(attack: MembershipAttack, draws: Sequence[int]) -> list[MembershipAttack]:
    """The attack in every way of asking: each number of answers, other averages, noise off, common noise.

    A way that the attack cannot be configured for is left out: a spread over answers needs two of them.
    """
    most = draws[-1]
    wanted: list[dict[str, Any]] = [{"queries": k} for k in draws]
    wanted += [{"queries": most, "average": average} for average in AVERAGES[1:] if most > 1]
    wanted += [{"queries": 1, "noise": "off"}, {"queries": most, "noise": "common"}]
    return [made for way in wanted if (made := _configured(attack, way)) is not None]


def queries_of_study(settings: AuditSettings) -> tuple[QuerySet, ...]:
    """What models that answer at random are asked besides `settings.queries`.

    All is asked of the game only, but for the drift alone. One answer and the most answers are asked whatever attacks
    there are, for the accuracy.
    """
    asked = [asked_as(one.query_set) for attack in varied(settings) for one in ways(attack, settings.draws)]
    accuracy = [QuerySet(repeats=k, scope="game") for k in (1, settings.draws[-1])]
    return tuple(dict.fromkeys([*accuracy, QuerySet(noise="off"), *asked]))


def asked_as(queries: QuerySet) -> QuerySet:
    """How the study puts these queries."""
    return queries if queries.noise == "off" else replace(queries, scope="game")


def threat_of(attack: MembershipAttack) -> Threat:
    """Who could mount the attack as it is configured."""
    if attack.threat.access in WEIGHTS:
        return "released weights"
    return "one query" if attack.query_set.per_record == 1 else "many queries"


def study(
    game: Game,
    played: Mapping[str, Played],
    columns: Mapping[str, Strings],
    settings: AuditSettings,
    run_fit: FitRunner,
) -> Studied:
    """Play every way of asking, and judge it on all units and on each group of them.

    Args:
        game: with the answers to `queries_of_study`.
        played: every attack as it is configured; those that are not varied are judged as they were played.
        columns: name -> [units] text, groups that are judged by themselves (kinds of canaries).
        settings: as for the attacks.
        run_fit: for attacks that train.
    """
    chosen, players = varied(settings), players_only(game, settings)
    among = {name: values[game.in_game] for name, values in columns.items()}
    rows: list[QueryRisk] = []
    refused: list[NotRun] = []
    for attack in chosen:
        done = _tried(players, ways(attack, settings.draws), settings, run_fit)
        rows += [row for one in done.played for row in risk(players, one, among, settings)]
        refused += done.refused
    names = {attack.name for attack in chosen}
    for name, one in played.items():
        rows += [] if name in names else risk(game, one, columns, settings)
    return Studied(rows, refused)


class _Tried(NamedTuple):
    played: list[Played]
    refused: list[NotRun]


def _tried(game: Game, attacks: Sequence[MembershipAttack], settings: AuditSettings, run_fit: FitRunner) -> _Tried:
    """One attack in every way; an average that it does not read is no further way."""
    played: list[Played] = []
    reasons: dict[str, str] = {}
    for attack in attacks:
        try:
            one = _play(game, attack, settings, run_fit)
        except NotApplicable as error:
            reasons[row_of(attack).how] = str(error)
            continue
        if not any(_same(one, other) for other in played):
            played.append(one)
    if not reasons:
        return _Tried(played, [])
    why = f"{next(iter(reasons.values()))} (asked in these ways: {'; '.join(reasons)})"
    return _Tried(played, [NotRun(attack=f"{attacks[0].name}, asked in other ways", reasons=[why])])


def risk(game: Game, played: Played, columns: Mapping[str, Strings], settings: AuditSettings) -> list[QueryRisk]:
    """One row for all units in the game, and one for each group that holds a member and a non-member."""
    rows = [row_of(played.attack, few(played, game, settings, FPRS))]
    for column, values in columns.items():
        labels = without_small(values, game.in_game)
        kinds = np.unique(labels[game.in_game])
        for kind in kinds:
            only = labels == kind
            inside = game.members[:, only & game.in_game]
            if inside.any() and not inside.all():
                found = few(played, game, settings, FPRS, only=only, among=len(kinds))
                rows.append(row_of(played.attack, found, f"{column}={kind}"))
    return rows


def row_of(attack: MembershipAttack, findings: Sequence[Any] = (), group: str = EVERYONE) -> QueryRisk:
    """The record's form of one way of asking."""
    queries = attack.query_set
    return QueryRisk(
        attack=attack.name,
        k=queries.per_record,
        noise=queries.noise,
        average=queries.average,
        threat=threat_of(attack),
        group=group,
        findings=list(findings),
    )


def players_only(game: Game, settings: AuditSettings) -> Game:
    """The game without the records that are not in it: these were not asked. What was asked of the rest stands under
    the queries of the attacks."""
    units = np.flatnonzero(game.in_game)
    rows = np.flatnonzero(game.in_game[game.unit_of])
    names = {
        one.query_set.key: asked_as(one.query_set).key
        for attack in varied(settings)
        for one in ways(attack, settings.draws)
    }
    return replace(
        game,
        labels=game.labels[rows],
        unit_of=np.searchsorted(units, game.unit_of[rows]),
        in_game=np.ones(len(units), dtype=bool),
        public=np.zeros(len(units), dtype=bool),
        cases=tuple(Case(_part(c.target, rows, names), c.members[units], c.references) for c in game.cases),
        references=None if game.references is None else _part(game.references, rows, names),
        membership=None if game.membership is None else game.membership[:, units],
        population=None if game.population is None else game.population.take(rows),
    )


def _part(answers: Answers, rows: Rows, names: Mapping[str, str]) -> Answers:
    """Some records' answers; `names` key that is read -> key that was asked."""
    scalars = {
        read: {name: values[:, rows] for name, values in answers.scalars[asked].items()}
        for read, asked in names.items()
        if asked in answers.scalars
    }
    return Answers(answers.labels[rows], answers.logits[:, rows], scalars)


def _play(game: Game, attack: MembershipAttack, settings: AuditSettings, run_fit: FitRunner) -> Played:
    reasons = why_not(game, attack)
    if reasons:
        raise NotApplicable("; ".join(reasons))
    return play(game, attack, settings.seed, run_fit)


def _same(one: Played, other: Played) -> bool:
    """Whether only the average differs, and the attack does not read it."""
    return one.attack.query_set == other.attack.query_set and np.array_equal(one.scores, other.scores)


def _reads_one_signal(attack: MembershipAttack) -> bool:
    """Whether it is about what a model answers, however often asked, and trains nothing for it."""
    needs, queries = attack.needs(), attack.query_set
    plain = (queries.noise, queries.average, queries.signal) == ("fresh", "statistic", "answers")
    return plain and needs.queries == queries and not needs.fits_per_target


def _configured(attack: MembershipAttack, way: Mapping[str, Any]) -> MembershipAttack | None:
    try:
        return replace(attack, **{"noise": "fresh", "average": "statistic", **way})
    except UsageError:
        return None
