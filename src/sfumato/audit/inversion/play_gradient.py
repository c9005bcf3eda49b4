"""The gradient game on the models of one subject: updates of the first step of each training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from sfumato.attacks.inversion.base import InversionAttack
from sfumato.attacks.inversion.evidence import GradientEvidence
from sfumato.audit.inversion.gallery import GalleryRow
from sfumato.audit.inversion.gradient_game import GradientRounds, gradient_rounds
from sfumato.audit.inversion.guesses import GradientGuesses
from sfumato.audit.inversion.measures import gradient_measures
from sfumato.audit.inversion.play_class import nearest
from sfumato.audit.inversion.scene import Answered, Outcome, Scene, answered, result_of
from sfumato.audit.inverted import InversionResult
from sfumato.audit.record import NotRun
from sfumato.errors import NotApplicable, UsageError
from sfumato.seeding import derive

FIRST_STEP = (
    "The update of the first step of a training, from fresh weights, which give the most away; later steps were not "
    "inverted."
)
Reasons = dict[str, list[str]]  # why something cannot be inverted -> the batches that this is true of
SHOWN = 4  # records of each subject, attack and batch size in the gallery


class Batches(NamedTuple):
    """What a batch is made of.

    Attributes:
        variant: in words.
        level: "record" or "unit".
        size: records or units.
    """

    variant: str
    level: str
    size: int


class RoundsAsked(NamedTuple):
    """Batches of one kind.

    Attributes:
        batches: of which kind.
        rounds: for each target.
    """

    batches: Batches
    rounds: list[GradientRounds]

    @property
    def evidence(self) -> list[GradientEvidence]:
        """For each target."""
        return [one.evidence for one in self.rounds]


def play_gradient(scene: Scene, attack: InversionAttack[GradientEvidence]) -> Outcome:
    """Invert updates of each kind of batch; a kind that this recipe takes no steps on is left out, unless it is all."""
    results: list[InversionResult] = []
    rows: list[GalleryRow] = []
    reasons: Reasons = {}
    for one in rounds_asked(scene, reasons):
        done = answered(scene, attack, one.evidence, one.batches.variant)
        if isinstance(done, NotRun):
            for reason in done.reasons:
                reasons.setdefault(reason, []).append(one.batches.variant)
            continue
        results.append(_result(scene, attack, one, done))
        if scene.inversion.gallery and len(scene.population.records.shape) == 3:
            rows += _rows(scene, attack.method, one, done)
    told = [f"{reason.rstrip('.')} ({', '.join(variants)})" for reason, variants in reasons.items()]
    refused = NotRun(attack=attack.method, reasons=told) if told else None
    return Outcome(results, refused, rows)


def kinds_of_batches(scene: Scene) -> list[Batches]:
    """Batches of each size; and all records of one unit, where units have several."""
    found = [Batches(f"batch of {size}", "record", size) for size in scene.inversion.batches]
    if len(scene.population) > scene.population.units:
        found.append(Batches(f"all records of one {scene.population.unit.name}", "unit", 1))
    return found


def rounds_asked(scene: Scene, reasons: Reasons) -> Iterator[RoundsAsked]:
    """Updates of each kind of batch, for each target; `reasons` gets those why a kind is left out."""
    for kind in kinds_of_batches(scene):
        try:
            yield RoundsAsked(kind, [_rounds(scene, kind, t) for t in range(len(scene.targets))])
        except (NotApplicable, UsageError) as error:
            reasons.setdefault(str(error), []).append(kind.variant)


def guesses_of(rounds: Sequence[GradientRounds], done: Answered) -> GradientGuesses:
    """All steps of all targets, one after the other."""
    recovered = [one.labels for one in done.guesses if one.labels is not None]
    records = _joined([one.records for one in done.guesses], np.nan)
    return GradientGuesses(
        records=records,
        truth=_joined([one.truth for one in rounds], np.nan, records.shape[1]),
        others=_joined([one.others for one in rounds], np.nan),
        labels=_joined(recovered, -1, records.shape[1]) if len(recovered) == len(done.guesses) else None,
        true_labels=_joined([one.true_labels for one in rounds], -1, records.shape[1]),
        other_labels=_joined([one.other_labels for one in rounds], -1),
    )


def _rounds(scene: Scene, kind: Batches, target: int) -> GradientRounds:
    return gradient_rounds(
        scene.recipe,
        None,
        scene.population,
        scene.targets[target].rows,
        [kind.size],
        scene.inversion.steps,
        derive(scene.settings.seed, "inversion", "steps", target, kind.level, kind.size),
        level=kind.level,
        box=scene.known.box,
        public=scene.public,
    )


def _result(
    scene: Scene, attack: InversionAttack[GradientEvidence], one: RoundsAsked, done: Answered
) -> InversionResult:
    guesses = guesses_of(one.rounds, done)
    measures = gradient_measures(guesses, scene.settings)
    blind = next((m.attacked.at for m in measures if m.name == "identified"), None)
    prior = None if blind is None else min(1.0, blind * guesses.truth.shape[1])  # the best of b guesses is assigned
    bounds = scene.bounds("gradient", prior, "identified", one.batches.level)
    return result_of(scene, attack, done, measures, variant=one.batches.variant, bounds=bounds, note=FIRST_STEP)


def _rows(scene: Scene, attack: str, one: RoundsAsked, done: Answered) -> list[GalleryRow]:
    """The first record of some steps of the first target, with the guess that is nearest to it."""
    rounds, guessed = one.rounds[0], done.guesses[0].records
    found = []
    for step in range(min(SHOWN, len(guessed))):
        true, batch = rounds.truth[step, 0], _there(rounds.truth[step])
        guess = nearest(_there(guessed[step]), true)
        found.append(
            GalleryRow(
                subject=scene.subject,
                attack=f"{attack}, {one.batches.variant}",
                question=f"step {step + 1}",
                target=true,
                reconstruction=guess,
                nearest=nearest(batch, guess),
                control=nearest(_there(rounds.others[step])[: len(batch)], guess),
            )
        )
    return found


def _there(records: np.ndarray) -> np.ndarray:
    """Those of records [b, *shape] that are within the size of the batch."""
    return records[~np.isnan(records.reshape(len(records), -1)).any(axis=1)]


def _joined(parts: Sequence[np.ndarray], fill: float, width: int = 0) -> np.ndarray:
    """Arrays [q, b, ...] one after the other, each filled up to the largest b (or `width`)."""
    width = max(width, *(part.shape[1] for part in parts), 0)
    made = []
    for part in parts:
        whole = np.full((len(part), width, *part.shape[2:]), fill, dtype=part.dtype)
        whole[:, : part.shape[1]] = part
        made.append(whole)
    return np.concatenate(made)
