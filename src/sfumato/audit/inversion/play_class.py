"""The class game: what does a trained model know of a class?"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from sfumato.attacks.inversion.base import InversionAttack
from sfumato.attacks.inversion.evidence import ClassEvidence
from sfumato.audit.inversion.gallery import GalleryRow
from sfumato.audit.inversion.guesses import ClassGuesses
from sfumato.audit.inversion.judge import Judge
from sfumato.audit.inversion.measures import class_measures
from sfumato.audit.inversion.scene import Answered, Outcome, Scene, answered, result_of
from sfumato.audit.record import NotRun
from sfumato.audit.utility import honest
from sfumato.data.population import Population
from sfumato.errors import UsageError
from sfumato.seeding import stream
from sfumato.types import Bools, Floats, Ints, Rows

SHOWN = 8  # classes of each subject and attack in the gallery


def play_class(scene: Scene, attack: InversionAttack[ClassEvidence], judge: Callable[[], Judge]) -> Outcome:
    """Ask every target about its classes, and measure what was guessed.

    Args:
        scene: the subject.
        attack: of this game.
        judge: gives who judges guesses; asked for only when there are some.
    """
    evidence = class_evidence(scene, attack)
    asked = np.stack([one.labels for one in evidence])
    done = answered(scene, attack, evidence, f"{asked.shape[1]} classes")
    if isinstance(done, NotRun):
        return Outcome(refused=done)
    guesses = ClassGuesses(done.records, asked, scene.trained)
    measures = class_measures(guesses, scene.population, judge(), scene.settings)
    rows = _rows(scene, attack.method, done, asked) if scene.inversion.gallery else []
    bounds = scene.bounds("class", 1 / scene.population.classes, "looks_accuracy")
    return Outcome([result_of(scene, attack, done, measures, bounds=bounds)], rows=rows)


def class_evidence(scene: Scene, attack: InversionAttack[ClassEvidence]) -> list[ClassEvidence]:
    """For each target what the attack may see; its oracle is only named."""
    asked = classes_asked(scene.population, scene.trained, scene.inversion.classes, scene.settings.seed)
    return [
        ClassEvidence(
            target.named(attack.threat_model.access, scene.known.box), asked[t], scene.public, scene.seed(attack, t)
        )
        for t, target in enumerate(scene.targets)
    ]


def classes_asked(population: Population, trained: Bools, count: int, seed: int) -> Ints:
    """int64 [targets, q]: the classes that each target is asked about, rising; all of them have training records.

    The order in which classes are drawn is the same for all targets. Where one of them was trained on fewer classes,
    all are asked about as many.

    Args:
        population: with labels.
        trained: bool [targets, n].
        count: most classes; 0 for all.
        seed: of the draw.

    Raises:
        UsageError: if a target has no training record with a label.
    """
    order = stream(seed, "inversion", "classes").permutation(population.classes)
    present = [order[np.isin(order, population.label_array[rows])] for rows in trained]
    most = min(len(classes) for classes in present)
    if not most:
        raise UsageError("Expected labelled training records to invert, got none.", remedy="Use more records.")
    return np.stack([np.sort(classes[: min(most, count or most)]) for classes in present]).astype(np.int64)


def _rows(scene: Scene, attack: str, done: Answered, asked: Ints) -> list[GalleryRow]:
    """The best guess of some classes of the first target; classes that have training records as they came."""
    records = scene.population.tensor(np.arange(len(scene.population))).numpy()
    found = []
    for position in np.linspace(0, asked.shape[1] - 1, min(SHOWN, asked.shape[1])).round().astype(int):
        label, guess = int(asked[0, position]), done.guesses[0].records[position, 0]
        beside = compared(scene.population, scene.trained[0], label, scene.settings.seed)
        if not len(beside.inside):
            continue
        found.append(
            GalleryRow(
                subject=scene.subject,
                attack=attack,
                question=f"class {scene.population.class_names[label]}",
                target=records[beside.inside[0]],
                reconstruction=guess,
                nearest=nearest(records[beside.inside], guess),
                control=nearest(records[beside.outside], guess) if len(beside.outside) else np.full_like(guess, np.nan),
            )
        )
    return found


class Compared(NamedTuple):
    """int64 positions of records that a model was trained on, and of as many that it never saw."""

    inside: Rows
    outside: Rows


def compared(population: Population, trained: Bools, label: int, seed: int) -> Compared:
    """Equally many records of a class on both sides, drawn at random, because the nearest of many is nearer.

    Where the model never saw a record of the class, or was trained on all, the others are of other classes.

    Args:
        population: records with a planted label are no picture of their class, and are left out.
        trained: bool [n].
        label: the class.
        seed: of the draw.
    """
    own, plain = population.label_array == label, honest(population)
    order = stream(seed, "inversion", "gallery", label).permutation(len(population))
    inside, outside = (order[(side & plain & own)[order]] for side in (trained, ~trained))
    if not len(outside):
        outside = order[(~trained & plain)[order]]
    count = min(len(inside), len(outside)) or len(inside)
    return Compared(inside[:count], outside[:count])


def nearest(records: Floats, guess: Floats) -> Floats:
    """float32 [*shape]: the record [n, *shape] at the least Euclidean distance from the guess."""
    return records[int(((records - guess) ** 2).reshape(len(records), -1).sum(axis=1).argmin())]
