"""What a network learns of real records from guesses alone."""

from __future__ import annotations

import numpy as np
import torch

from sfumato.audit.inversion.estimates import grid
from sfumato.audit.inversion.seen import Seen
from sfumato.audit.inverted import Measure
from sfumato.data.population import Population, Unit
from sfumato.defences.undefended import Undefended
from sfumato.seeding import derive, stream
from sfumato.training.preparation import Assignment, LoopOptions
from sfumato.training.presets.base import default_preset
from sfumato.training.recipe import Recipe
from sfumato.types import Floats

MOST = 200  # real records of a class that the network is tried on


def knowledge_accuracy(seen: Seen) -> Measure:
    """Accuracy, averaged over the classes asked about, on real records of a network trained on the guesses alone.

    The network is the default one for such records. Control: the same, trained on the same guesses under labels that
    were dealt out anew. One training of either for each target.
    """
    name, labels = "knowledge_accuracy", seen.guesses.labels
    if labels.shape[1] == 1:
        found = seen.answers.nothing(name, "One class was asked about; there is nothing to tell apart.")
        return Measure(name=name, level="class", more="higher", attacked=found)
    own = np.stack([_of_target(seen, target, permuted=False) for target in range(len(labels))])
    dealt = np.stack([_of_target(seen, target, permuted=True) for target in range(len(labels))])
    return Measure(
        name=name,
        level="class",
        more="higher",
        attacked=seen.answers.share(name, own),
        control=seen.answers.share(f"{name}_control", dealt, at=1 / labels.shape[1]),
        difference=seen.answers.difference(f"{name}_difference", own, dealt, "shares"),
        control_is="The same, trained on the same guesses under labels that were dealt out anew.",
    )


def _of_target(seen: Seen, target: int, *, permuted: bool) -> Floats:
    """float64 [q]: accuracy on real records of each class; classes are numbered by question, so that all are known."""
    questions, images = seen.guesses.questions, seen.guesses.images
    labels = np.repeat(np.arange(questions), images)
    rng = stream(seen.settings.seed, "knowledge", target)
    if permuted:
        labels = rng.permutation(labels)
    records = seen.guesses.records[target].reshape(-1, *seen.guesses.shape).astype(np.float32)
    population = Population(records, Unit("guess"), labels=labels, name="guesses", kind=seen.judge.population.kind)
    recipe = Recipe(default_preset(population.kind).task(population), Undefended())
    work = Assignment(np.arange(len(labels)), derive(seen.settings.seed, "knowledge", target))
    predict = recipe.predictor(recipe.fit(population, [work], LoopOptions())[0], population)
    real = seen.judge.population

    def of(_: int, question: int) -> float:
        rows = rng.permutation(seen.rows_of(int(seen.guesses.labels[target, question])))[:MOST]
        with torch.no_grad():
            said = predict(real.tensor(rows)).argmax(dim=1).numpy()
        return float((said == question).mean()) if len(rows) else np.nan

    return grid(1, questions, of)[0, :, 0]
