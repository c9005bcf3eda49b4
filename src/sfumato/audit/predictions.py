"""An audit of a table: of predictions, from which scores are computed, or of finished scores."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from sfumato.attacks.evidence import Evidence, ThreatModel
from sfumato.attacks.membership.base import MembershipAttack
from sfumato.audit.citations import citations
from sfumato.audit.compare import CHOSEN_AFTERWARDS, Run
from sfumato.audit.game import Case, Game, Played
from sfumato.audit.provenance import provenance
from sfumato.audit.record import (
    AuditRecord,
    DataSummary,
    DefenceSummary,
    Design,
    GuaranteeSummary,
    Notice,
    Subject,
)
from sfumato.audit.settings import AuditSettings
from sfumato.audit.statistics import combine
from sfumato.audit.subject import Attacked, attack_all, group_of_each_unit, judged
from sfumato.audit.utility import utility
from sfumato.audit.verdict import verdict
from sfumato.errors import UsageError
from sfumato.targets.answers import Answers
from sfumato.targets.predictions import Predictions
from sfumato.types import Floats, Ints

ARTEFACT = "predictions only: a table that the user gave; neither the model nor its training was seen"
UNKNOWN_DEFENCE = DefenceSummary(name="unknown", family="unknown", reference="", summary="Not stated in the table.")
NO_GUARANTEE = GuaranteeSummary(
    status="none", statement="none, because only predictions were given: how the model was trained was not seen"
)
NOT_TESTED = (
    "attacks with reference models (the strongest known): they need the recipe, or the model",
    "attacks with access to the weights or gradients",
    "model inversion, attribute inference and reconstruction",
    "model stealing",
)

SOURCES = Notice(
    severity="theoretical",
    text="Members and non-members of a given table may differ in more than membership (time, place, selection); an "
    "attack cannot tell such a difference from leakage.",
    remedy="Draw both from one source at random, or audit with the recipe.",
)


class Repeat(NamedTuple):
    """What goes into the provenance: command, title, and when the run started (`time.perf_counter`)."""

    command: str
    title: str
    start: float


def audit_predictions(table: Predictions, settings: AuditSettings, *, command: str = "", title: str = "") -> Run:
    """Attack a table of predictions with every attack that needs nothing else.

    Args:
        table: predictions on members and non-members; non-members must come from the same source as members, or the
            attack measures the difference of the sources.
        settings: attacks and statistics; models, design and public share are not used.
        command: what repeats the run.
        title: of the report.
    """
    if table.labels is None or table.log_probabilities is None:
        raise UsageError("Expected predictions, got scores.", remedy="Use `audit_scores`.")
    start = time.perf_counter()
    game = _game(table, table.labels, table.log_probabilities)
    tried = attack_all(game, settings, lambda fit: fit.run())
    if not tried.results:
        why = "; ".join(f"{one.attack}: {', '.join(one.reasons)}" for one in tried.refused)
        raise UsageError(f"Expected an attack that can run on predictions, got {why}.", remedy="Add the attack `loss`.")
    used = utility(table.log_probabilities[None], table.labels, table.members[None], settings.confidence)
    subject = _subject(table, game, tried, settings).model_copy(update={"utility": used})
    record = _record("predictions", table, subject, settings, Repeat(command, title, start))
    return Run(record.with_arrays(_named(table, tried)), ())


def audit_scores(table: Predictions, settings: AuditSettings, *, command: str = "", title: str = "") -> Run:
    """Statistics of finished membership scores (one per row, higher means more likely a member)."""
    if table.scores is None:
        raise UsageError("Expected scores, got predictions.", remedy="Use `audit_predictions`.")
    start = time.perf_counter()
    n = len(table.members)
    game = _game(table, np.zeros(n, dtype=np.int64), np.zeros((n, 2)))
    attack = GivenScores()
    played = Played(attack, combine(table.scores[None], table.unit_of, attack.unit_rule), 0.0)
    tried = judged(game, [played], {}, settings)
    subject = _subject(table, game, tried, settings)
    record = _record("scores", table, subject, settings, Repeat(command, title, start))
    return Run(record.with_arrays(_named(table, tried)), ())


def _named(table: Predictions, tried: Attacked) -> dict[str, np.ndarray]:
    return {f"{table.name}/{name}": array for name, array in tried.arrays.items()}


@dataclass(frozen=True, kw_only=True)
class GivenScores(MembershipAttack):
    """Scores that somebody else computed, in the place of an attack. Not listed: it tries nothing."""

    name = "given-scores"
    summary = "Scores that were given; how they were computed is not known here."
    threat_model = ThreatModel(access="unknown", knowledge="whatever the given scores were computed from")

    def score(self, evidence: Evidence, fitted: Sequence[dict[str, Floats]] = ()) -> Floats:
        raise UsageError("Expected scores to be given, got a request to compute them.", remedy="Use `audit_scores`.")


def _game(table: Predictions, labels: Ints, logits: Floats) -> Game:
    members = table.unit_members
    case = Case(Answers(labels, logits[None]), members, np.array([], dtype=np.int64))
    nobody = np.zeros(len(members), dtype=bool)
    return Game(labels, table.unit_of, ~nobody, nobody, (case,))


def _subject(table: Predictions, game: Game, tried: Attacked, settings: AuditSettings) -> Subject:
    return Subject(
        name=table.name,
        artefact=ARTEFACT,
        defence=UNKNOWN_DEFENCE,
        guarantee=NO_GUARANTEE,
        attacks=tried.results,
        strongest=tried.best,
        not_run=tried.refused,
        groups=tried.groups(game, group_of_each_unit(table.groups, table.unit_of), settings),
    )


def _record(
    kind: Literal["predictions", "scores"],
    table: Predictions,
    subject: Subject,
    settings: AuditSettings,
    repeat: Repeat,
) -> AuditRecord:
    units = len(table.unit_members)
    classes = 0 if table.log_probabilities is None else table.log_probabilities.shape[1]
    ran = {attack.name for attack in subject.attacks}
    return AuditRecord(
        kind=kind,
        title=repeat.title or f"{table.name}: what {kind} give away",
        data=DataSummary(
            name=table.name,
            kind=kind,
            records=len(table.members),
            units=units,
            unit=table.unit,
            classes=classes,
            shape=[],
            fingerprint=table.fingerprint,
            game_units=units,
            public_units=0,
            groups=sorted(table.groups),
        ),
        design=Design(name="one given target", models=1, targets=1, references_per_target=0),
        subjects=[subject],
        verdict=verdict([subject], ()),
        notices=[SOURCES, CHOSEN_AFTERWARDS] if len(ran) > 1 else [SOURCES],
        not_tested=list(NOT_TESTED),
        citations=citations([a for a in settings.attacks if a.name in ran], []),
        provenance=provenance(repeat.command, settings.seed, time.perf_counter() - repeat.start),
    )
