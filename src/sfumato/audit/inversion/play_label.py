"""The label game: with which random wrong label was a record trained, if it was trained on at all?"""

from __future__ import annotations

import numpy as np

from sfumato.attacks.inversion.base import InversionAttack
from sfumato.attacks.inversion.evidence import LabelEvidence
from sfumato.audit.inversion.guesses import LabelGuesses
from sfumato.audit.inversion.measures import label_measures
from sfumato.audit.inversion.scene import Outcome, Scene, answered, result_of
from sfumato.audit.record import NotRun
from sfumato.data.owners import planted_rows, true_labels
from sfumato.types import Rows

NOTHING_PLANTED = (
    "needs records with planted labels, got none: deal the records to made-up owners (`owners`, `planted`)"
)


def play_label(scene: Scene, attack: InversionAttack[LabelEvidence]) -> Outcome:
    """Ask every target about all records in the game that carry a planted label; those it was not trained on are the
    control."""
    population, rows = scene.population, rows_asked(scene)
    if not len(rows):
        return Outcome(refused=NotRun(attack=attack.method, reasons=[NOTHING_PLANTED]))
    done = answered(scene, attack, label_evidence(scene, attack), f"{len(rows)} records")
    if isinstance(done, NotRun):
        return Outcome(refused=done)
    first, targets = done.records[:, :, 0].reshape(len(scene.targets), -1), (len(scene.targets), 1)
    guesses = LabelGuesses(
        guessed=first.astype(np.int64),
        planted=np.tile(population.label_array[rows], targets),
        members=scene.trained[:, rows],
        units=np.tile(population.unit_of[rows], targets),
        classes=population.classes,
    )
    bounds = scene.bounds("label", 1 / max(1, population.classes - 1), "planted_label")
    return Outcome([result_of(scene, attack, done, label_measures(guesses, scene.settings), bounds=bounds)])


def rows_asked(scene: Scene) -> Rows:
    """int64 [q]: the records in the game with a planted label."""
    planted = planted_rows(scene.population)
    return planted[scene.in_game[planted]]


def label_evidence(scene: Scene, attack: InversionAttack[LabelEvidence]) -> list[LabelEvidence]:
    """For each target what the attack may see; its oracle is only named."""
    rows = rows_asked(scene)
    records, true = scene.population.tensor(rows).numpy(), true_labels(scene.population)[rows]
    return [
        LabelEvidence(
            target.named(attack.threat_model.access, scene.known.box),
            records,
            true,
            scene.seed(attack, t),
            public=scene.public,
        )
        for t, target in enumerate(scene.targets)
    ]
