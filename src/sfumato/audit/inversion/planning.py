"""What inversion will cost, before anything is trained: reconstructions to be made, and what is fitted for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from sfumato.attacks.inversion.base import InversionAttack, why_not
from sfumato.attacks.inversion.evidence import ClassEvidence, GradientEvidence
from sfumato.audit.inversion.caching import AnyEvidence, Reconstruction, Timed, restricted
from sfumato.audit.inversion.play_attribute import TABLES_ONLY, columns_asked
from sfumato.audit.inversion.play_class import class_evidence
from sfumato.audit.inversion.play_gradient import rounds_asked
from sfumato.audit.inversion.play_label import NOTHING_PLANTED, label_evidence, rows_asked
from sfumato.audit.inversion.scene import Scene
from sfumato.audit.inversion.study import Workplace, scene_of, suspects
from sfumato.audit.inversion.targets import Target
from sfumato.audit.settings import AuditSettings
from sfumato.data.membership import Membership
from sfumato.data.population import Population
from sfumato.errors import NotApplicable, StoreMismatch
from sfumato.execution.jobs import TrainJob
from sfumato.execution.store import Fit, Store
from sfumato.training.recipe import AnyRecipe


@dataclass(frozen=True)
class PlannedInversion:
    """What is not in the store yet.

    Attributes:
        questions: attack -> classes, steps or records that it will be asked about, over all recipes and models; 0
            where everything is stored, or the attack cannot run.
        fits: models that attacks train first; what several share counts once.
    """

    questions: dict[str, int]
    fits: int


def planned_inversion(
    population: Population,
    public: Population | None,
    recipes: Sequence[AnyRecipe],
    jobs: Sequence[Sequence[TrainJob]],
    membership: Membership,
    settings: AuditSettings,
    store: Store,
) -> PlannedInversion:
    """Count. A model that only gives scores is assumed of training functions of the user's own.

    Arguments as for `study.invert_recipes`.
    """
    if settings.inversion is None:
        return PlannedInversion({}, 0)
    found = suspects(recipes, jobs, population, membership, settings.inversion, store, _silent)
    scenes = [scene_of(one, population, public, membership, settings, Workplace(store)) for one in found]
    questions, fits = {}, set[str]()
    for attack in settings.inversion.attacks:
        questions[attack.method] = sum(_count(scene, attack, store, fits) for scene in scenes)
    return PlannedInversion(questions, len(fits))


def _count(scene: Scene, attack: InversionAttack[Any], store: Store, fits: set[str]) -> int:
    """Questions of one attack on one subject; keys of what it must train are added to `fits`."""
    asked = 0
    for several in evidence_asked(scene, attack, []):
        for target, one in zip(scene.targets, several, strict=True):
            if stored(store, Reconstruction(attack, one, None, scene.run_fit)):
                continue
            try:
                seen = before_training(scene, target, one)
                if why_not(attack, cast(Any, seen)):
                    continue
                needed = [Timed(fit) for fit in attack.fits(restricted(attack, seen))]
            except NotApplicable:
                continue
            asked += _questions(one)
            fits |= {fit.key for fit in needed if not stored(store, fit)}
    return asked


def before_training(scene: Scene, target: Target, one: AnyEvidence) -> AnyEvidence:
    """Evidence whose oracle is a model of the target's kind that has not been trained yet."""
    if isinstance(one, GradientEvidence):
        return one
    return replace(cast(ClassEvidence, one), oracle=target.untrained(scene.known.box))


def evidence_asked(scene: Scene, attack: InversionAttack[Any], reasons: list[str]) -> list[list[AnyEvidence]]:
    """What the attack will be asked, for each variant and target; `reasons` gets those why it will not be asked."""
    left_out: dict[str, list[str]] = {}
    try:
        if attack.game == "class":
            return [list(class_evidence(scene, attack))]
        if attack.game == "label":
            _need(len(rows_asked(scene)) > 0, NOTHING_PLANTED)
            return [list(label_evidence(scene, attack))]
        if attack.game == "attribute":
            shape = scene.population.records.shape
            _need(len(shape) == 1, TABLES_ONLY.format(shape))
            return [list(one.evidence) for one in columns_asked(scene, attack, reasons)]
        return [list(one.evidence) for one in rounds_asked(scene, left_out)]
    except NotApplicable as error:
        reasons.append(str(error))
        return []
    finally:
        reasons += left_out


def _need(there: bool, reason: str) -> None:
    if not there:
        raise NotApplicable(reason)


def stored(store: Store, fit: Fit) -> bool:
    """Whether the result is in the store; a damaged one will be made again."""
    try:
        return store.get_fit(fit.key) is not None
    except StoreMismatch:
        return False


def _questions(evidence: AnyEvidence) -> int:
    if isinstance(evidence, ClassEvidence):
        return len(evidence.labels)
    return len(evidence.updates) if isinstance(evidence, GradientEvidence) else len(evidence.records)


def _silent(_: str) -> None:
    """Nothing is trained to plan."""
