"""From stored models to numbers: accuracy, risk by attack and way of asking, and what comes of the claims."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import sfumato
from neural_sde_claims import Claim, Contest, Fixed, Verdict, claims_from, drawn, judged, rates, testable
from results_state import Bench
from sfumato.accounting.guarantee import Guarantee
from sfumato.attacks.membership.base import MembershipAttack
from sfumato.audit.compare import fit_runner, gather, guarantee_of, summary_of
from sfumato.audit.game import Game, Played, play, siblings, why_not
from sfumato.audit.provenance import provenance
from sfumato.audit.queries import players_only, varied, ways
from sfumato.audit.settings import AuditSettings
from sfumato.audit.statistics import Estimate, mean_interval, summarise
from sfumato.data.canaries import GROUP
from sfumato.data.membership import Membership
from sfumato.errors import NotApplicable
from sfumato.execution.jobs import JobResult
from sfumato.seeding import stream
from sfumato.targets.answers import Answers
from sfumato.targets.queries import QuerySet
from sfumato.training.defence import configured
from sfumato.training.preparation import assemble
from sfumato.training.recipe import AnyRecipe, Recipe
from sfumato.types import Bools, Floats, Strings

FPRS = (0.1, 0.01)
DRIFT = QuerySet(noise="off")
QUARTER = 4  # sensitivity is judged on a quarter of the replicates
Say = Callable[[str], None]


class Asked(NamedTuple):
    """One attack in one way of asking, on the units in the game: scores [targets, players]."""

    attack: str
    way: str
    k: int
    scores: Floats


@dataclass(frozen=True, eq=False)
class Contender:
    """One contender with its models' answers and what each attack made of them."""

    recipe: AnyRecipe
    answers: Answers
    random: bool
    results: tuple[JobResult, ...]
    asked: list[Asked]
    refused: dict[str, str]


def measured(bench: Bench, names: Sequence[str], claims: Path, say: Say) -> dict[str, Any]:
    """Everything that the page shows, as plain values.

    Args:
        bench: the contenders that can be shown.
        names: all contenders of the run.
        claims: the file of estimands.
        say: told what is done.
    """
    fixed, membership = claims_from(claims), bench.settings.membership(bench.population)
    contenders = []
    for recipe in bench.recipes:
        start = time.perf_counter()
        contenders.append(contender(bench, recipe, membership))
        say(f"{recipe.name}: attacked in {time.perf_counter() - start:.0f} s")
    kinds = kinds_of(bench, membership)
    members = membership.matrix[:, membership.in_game]
    rows = [row for one in contenders for row in risk_rows(one, members, kinds, bench.settings)]
    say("risks judged")
    return {
        "title": bench.population.name,
        "data": summary_of(bench.population, membership).model_dump(mode="json"),
        "game": {"canaries": {str(kind): int((kinds == kind).sum()) for kind in np.unique(kinds)}},
        "models": bench.settings.models,
        "references_per_target": bench.settings.models - 2,
        "draws": list(bench.settings.draws),
        "seed": bench.settings.seed,
        "contenders": [row_of(bench, one, membership) for one in contenders],
        "risks": rows,
        "not_run": {one.recipe.name: one.refused for one in contenders if one.refused},
        "claims": claim_rows(bench, names, contenders, members, kinds, fixed, say),
        "fixed": {"attack": fixed.attack, "fpr": fixed.fpr, "confidence": fixed.confidence},
        "provenance": provenance("", bench.settings.seed, 0.0).model_dump(mode="json"),
        "sfumato": str(sfumato.__version__),
    }


def contender(bench: Bench, recipe: AnyRecipe, membership: Membership) -> Contender:
    """Play every attack in every way on the stored models of one contender."""
    results = bench.results(recipe)
    answers = gather(results, bench.population)
    model = recipe.task.model if isinstance(recipe, Recipe) else None
    game = siblings(bench.population, membership, answers, model)
    random = recipe.answers_at_random(bench.population)
    asked, refused = played(game, bench, random)
    return Contender(recipe, answers, random, results, asked, refused)


class _Tried(NamedTuple):
    asked: list[Asked]
    refused: dict[str, str]


def played(game: Game, bench: Bench, random: bool) -> _Tried:
    """Each attack in each way; a contender that does not answer at random is asked once."""
    settings, run_fit = bench.settings, fit_runner(bench.store)
    often = {attack.name for attack in varied(settings)}
    players = players_only(game, settings)
    asked: list[Asked] = []
    refused: dict[str, str] = {}
    for attack in settings.attacks:
        board = players if attack.name in often else game
        for one in ways(attack, settings.draws) if random and attack.name in often else [attack]:
            way = way_of(one, settings.draws)
            try:
                reasons = why_not(board, one)
                if reasons:
                    raise NotApplicable("; ".join(reasons))
                found: Played = play(board, one, settings.seed, run_fit)
            except NotApplicable as error:
                refused[f"{attack.name}, {way}"] = str(error)
                continue
            asked.append(Asked(attack.name, way, one.query_set.repeats, found.scores[:, board.in_game]))
    return _Tried(asked, refused)


def way_of(attack: MembershipAttack, draws: Sequence[int]) -> str:
    """The name of a way of asking, as in the file of claims; other numbers of draws are "k=16", say."""
    queries = attack.query_set
    if queries.signal != "answers":
        return queries.signal
    if queries.noise != "fresh":
        return {"off": "drift", "common": "common"}[queries.noise]
    if queries.average != "statistic":
        return f"mean of {queries.average}"
    if queries.repeats == 1:
        return "one"
    return "many" if queries.repeats == draws[-1] else f"k={queries.repeats}"


def kinds_of(bench: Bench, membership: Membership) -> Strings:
    """The kind of canary of each unit in the game; "all" where the data have no canaries."""
    column = bench.population.groups.get(GROUP)
    if column is None:
        return np.full(int(membership.in_game.sum()), "all")
    first = np.unique(bench.population.unit_of, return_index=True)[1]
    return np.asarray(column).astype(str)[first][membership.in_game]


def risk_rows(one: Contender, members: Bools, kinds: Strings, settings: AuditSettings) -> list[dict[str, Any]]:
    """AUC and TPR with their intervals, for each attack, way and kind."""
    rows = []
    for asked in one.asked:
        for kind in np.unique(kinds):
            only = kinds == kind
            summary = summarise(
                asked.scores[:, only],
                members[:, only],
                fprs=FPRS,
                priors=(),
                confidence=settings.confidence,
                replicates=settings.replicates,
                rng=stream(settings.seed, "statistics", asked.attack, str(kind)),
            )
            rows.append({
                "contender": one.recipe.name, "attack": asked.attack, "way": asked.way, "k": asked.k, "kind": str(kind),
                "auc": ends(summary.auc),
                "tpr": {f"{estimate.at:g}": ends(estimate) for estimate in summary.tpr_at_fpr},
                "negatives": int((~members[:, only]).sum()),
            })  # fmt: skip
    return rows


def ends(estimate: Estimate) -> dict[str, float | None]:
    """Value and interval; None where the data cannot resolve it."""
    return {"value": estimate.value, "low": estimate.low, "high": estimate.high}


def row_of(bench: Bench, one: Contender, membership: Membership) -> dict[str, Any]:
    """What a contender is, what it is good for, and what it can promise."""
    held = guarantee_of(one.results)
    accuracies = accuracy_of(one, bench, membership)
    drift = drift_accuracy(one, bench, membership)
    inside = membership.of_records(bench.population) & ~membership.in_game[bench.population.unit_of]
    hits = one.answers.logits.argmax(axis=2) == one.answers.labels
    return {
        "name": one.recipe.name,
        "random": one.random,
        "parameters": parameters(one.recipe, bench),
        "accuracy": mean_of(accuracies, bench.settings.confidence),
        "accuracy_without_noise": None if drift is None else mean_of(drift, bench.settings.confidence),
        "training_accuracy": mean_of(
            np.array([h[i].mean() for h, i in zip(hits, inside, strict=True)]), bench.settings.confidence
        ),
        "guarantee": held.statement,
        "epsilon": held.epsilon if isinstance(held, Guarantee) else None,
        "seconds_per_model": float(np.median([result.facts["seconds"] for result in one.results])),
        "settings": repr(one.recipe),
    }


def accuracy_of(one: Contender, bench: Bench, membership: Membership) -> Floats:
    """float64 [models]: on the public records, one answer to each."""
    public = membership.public[bench.population.unit_of]
    return (one.answers.logits[:, public].argmax(axis=2) == one.answers.labels[public]).mean(axis=1)


def drift_accuracy(one: Contender, bench: Bench, membership: Membership) -> Floats | None:
    """The same with the network's noise off; None where it does not answer at random."""
    if not one.random or DRIFT.key not in one.answers.scalars:
        return None
    public = membership.public[bench.population.unit_of]
    return (one.answers.statistic("hinge", DRIFT)[:, public, 0] > 0).mean(axis=1)


def mean_of(values: Floats, confidence: float) -> dict[str, float]:
    """Mean over models with a t interval."""
    found = mean_interval(values, confidence)
    return {"value": found.mean, "low": found.low, "high": found.high}


def parameters(recipe: AnyRecipe, bench: Bench) -> int | None:
    """How many values are trained, after the defence has changed the network."""
    if not isinstance(recipe, Recipe):
        return None
    shape, classes = bench.population.records.shape, bench.population.classes
    network = assemble(configured(recipe.defence, recipe.task), recipe.defence, shape, classes, seed=0)
    return sum(p.numel() for p in network.parameters() if p.requires_grad)


def claim_rows(
    bench: Bench,
    names: Sequence[str],
    contenders: Sequence[Contender],
    members: Bools,
    kinds: Strings,
    fixed: Fixed,
    say: Say,
) -> list[dict[str, Any]]:
    """Each claim with its verdict, and what the same rule says of other attacks and kinds."""
    membership = bench.settings.membership(bench.population)
    court = Court(
        contenders, members, kinds, {c.recipe.name: accuracy_of(c, bench, membership) for c in contenders}, fixed
    )
    attacks, rows = [attack.name for attack in varied(bench.settings)], []
    for claim in filter(None, (testable(claim, names) for claim in fixed.claims)):
        start = time.perf_counter()
        primary = court.verdict(claim, fixed.attack, claim.group, fixed.replicates)
        others = court.others(claim, attacks)
        sentences = {name: getattr(claim, name) for name in ("id", "claim", "estimand", "confirms", "refutes")}
        rows.append({**sentences, **plain(primary), "sensitivity": others})
        say(f"{claim.id}: {primary.verdict} ({time.perf_counter() - start:.0f} s)")
    return rows


@dataclass(frozen=True, eq=False)
class Court:
    """Applies the rules of the claims to scores.

    Args:
        contenders: those that are shown.
        members: bool [targets, players].
        kinds: text [players].
        accuracy: name -> float64 [models].
        fixed: what was fixed in advance.
    """

    contenders: Sequence[Contender]
    members: Bools
    kinds: Strings
    accuracy: Mapping[str, Floats]
    fixed: Fixed

    def verdict(self, claim: Claim, attack: str, kind: str, replicates: int) -> Verdict:
        """The rule of a claim on the scores of one attack against one kind of canary."""
        only = self.kinds == kind
        if not only.any():
            return Verdict(verdict="not decided", reasons=(f"There are no {kind} canaries.",))
        draws = drawn(len(self.members), int(only.sum()), replicates, stream(0, "claims", kind))
        risk = {
            (one.recipe.name, asked.way): rates(asked.scores[:, only], self.members[:, only], self.fixed.fpr, draws)
            for one in self.contenders
            if one.recipe.name in {*claim.subjects, claim.baseline}
            for asked in one.asked
            if asked.way == "gradient-norm" or (asked.attack == attack and asked.way in ("one", *claim.ways))
        }
        random = {one.recipe.name: one.random for one in self.contenders}
        return judged(claim, Contest(self.accuracy, risk, random, len(self.members)), self.fixed)

    def others(self, claim: Claim, attacks: Sequence[str]) -> list[dict[str, Any]]:
        """The same rule with the other attacks, kinds and baselines, for how much hangs on the choice."""
        tried = [(attack, str(kind), claim) for attack in attacks for kind in np.unique(self.kinds)]
        tried += [
            (self.fixed.attack, claim.group, replace(claim, baseline=other, also_against=()))
            for other in claim.also_against
        ]
        return [
            {"attack": attack, "kind": kind, "baseline": one.baseline}
            | plain(self.verdict(one, attack, kind, self.fixed.replicates // QUARTER))
            for attack, kind, one in tried
            if (attack, kind, one.baseline) != (self.fixed.attack, claim.group, claim.baseline)
        ]


def plain(found: Verdict) -> dict[str, Any]:
    """A verdict as plain values; ends that are infinite are left out."""
    interval = (None, None, None) if found.estimate is None else found.estimate
    value, low, high = (None if end is None or not np.isfinite(end) else float(end) for end in interval)
    return {
        "verdict": found.verdict,
        "estimate": value,
        "low": low,
        "high": high,
        "subject": found.subject,
        "way": found.way,
        "reasons": list(found.reasons),
        "details": [_finite(row) for row in found.details],
    }


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else None
    return bool(value) if isinstance(value, np.bool_) else value
