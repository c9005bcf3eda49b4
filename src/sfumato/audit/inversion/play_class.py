"""The class game: what does a trained model know of a class?"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from sfumato.attacks.inversion.base import InversionAttack
from sfumato.attacks.inversion.evidence import ClassEvidence
from sfumato.audit.inversion.gallery import GalleryRow
from sfumato.audit.inversion.guesses import ClassGuesses
from sfumato.audit.inversion.judge import Judge
from sfumato.audit.inversion.measures import class_measures
from sfumato.audit.inversion.scene import Answered, Outcome, Scene, answered, result_of
from sfumato.audit.record import NotRun
from sfumato.data.population import Population
from sfumato.errors import UsageError
from sfumato.seeding import stream
from sfumato.types import Bools, Floats, Ints

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
    bounds = scene.bounds("class", 1 / scene.population.classes, "evaluator_accuracy_1")
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
    """The best guess of some classes of the first target."""
    records = scene.population.tensor(np.arange(len(scene.population))).numpy()
    labels, inside = scene.population.label_array, scene.trained[0]
    found = []
    for position in np.linspace(0, asked.shape[1] - 1, min(SHOWN, asked.shape[1])).round().astype(int):
        label, guess = int(asked[0, position]), done.guesses[0].records[position, 0]
        own, others = records[inside & (labels == label)], records[~inside & (labels == label)]
        found.append(
            GalleryRow(
                subject=scene.subject,
                attack=attack,
                question=f"class {scene.population.class_names[label]}",
                target=own[0],
                reconstruction=guess,
                nearest=nearest(records[inside], guess),
                control=nearest(others if len(others) else records[~inside], guess),
            )
        )
    return found


def nearest(records: Floats, guess: Floats) -> Floats:
    """float32 [*shape]: the record [n, *shape] at the least Euclidean distance from the guess."""
    return records[int(((records - guess) ** 2).reshape(len(records), -1).sum(axis=1).argmin())]
