"""Which inversions cannot run, told before anything is trained for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

from sfumato.attacks.inversion.base import InversionAttack, why_not
from sfumato.attacks.inversion.generators.catalogue import prior_named
from sfumato.audit.inversion.planning import before_training, evidence_asked
from sfumato.audit.inversion.play_class import class_evidence
from sfumato.audit.inversion.scene import Scene
from sfumato.audit.inversion.study import Suspect, Workplace, scene_of, suspects
from sfumato.audit.settings import AuditSettings
from sfumato.data.membership import Membership
from sfumato.data.population import Population
from sfumato.errors import NotApplicable, UsageError
from sfumato.execution.events import Notice, OnEvent
from sfumato.execution.jobs import TrainJob
from sfumato.execution.store import Store
from sfumato.training.recipe import AnyRecipe, FunctionRecipe


def foresee(
    found: Sequence[Suspect],
    population: Population,
    public: Population | None,
    membership: Membership,
    settings: AuditSettings,
    place: Workplace,
) -> None:
    """Tell what will not run.

    Args:
        found: the subjects.
        population: the records.
        public: records of others, or None.
        membership: who is in which training set.
        settings: of the audit.
        place: where events go.

    Raises:
        UsageError: if no attack at all would run, or a generator of the user's own fails.
    """
    if settings.inversion is None or not found:
        return
    small = replace(settings, inversion=replace(settings.inversion, targets=1, steps=1, records=1))
    short = [replace(one, targets=one.targets[:1], trained=one.trained[:1]) for one in found]
    scenes = [scene_of(one, population, public, membership, small, place) for one in short]
    for attack in settings.inversion.attacks:
        _try_own_generator(scenes[0], attack)
    refused = {
        (scene.subject, attack.method): reasons
        for scene in scenes
        for attack in settings.inversion.attacks
        if (reasons := cannot(scene, attack))
    }
    lines = _lines(refused)
    if len(refused) == len(scenes) * len(settings.inversion.attacks) and not settings.attacks:
        raise UsageError(
            f"Expected an attack that can run, got {'; '.join(lines)}.",
            remedy="See `sfumato list attacks` for what each needs.",
        )
    for line in lines:
        place.on_event(Notice("theoretical", f"Will not run: {line}."))


def foresee_recipes(
    population: Population,
    public: Population | None,
    recipes: Sequence[AnyRecipe],
    jobs: Sequence[Sequence[TrainJob]],
    membership: Membership,
    settings: AuditSettings,
    store: Store,
    on_event: OnEvent,
) -> None:
    """The same of models that are still to be trained. Arguments as for `study.invert_recipes`, errors as above."""
    if settings.inversion is not None:
        said: list[str] = []
        found = suspects(recipes, jobs, population, membership, settings.inversion, store, said.append)
        foresee(found, population, public, membership, settings, Workplace(store, on_event=on_event))


def cannot(scene: Scene, attack: InversionAttack[Any]) -> list[str]:
    """Why none of what the attack would be asked can be answered; empty where some can, or where it is not known."""
    if (
        isinstance(scene.recipe, FunctionRecipe)
        and attack.game != "gradient"
        and attack.threat_model.access != "labels"
    ):
        return []  # what the user's own training gives, a network or a function, shows only when it is done
    reasons: list[str] = []
    for several in evidence_asked(scene, attack, reasons):
        try:
            found = why_not(attack, cast(Any, before_training(scene, scene.targets[0], several[0])))
        except NotApplicable as error:
            found = (str(error),)
        if not found:
            return []
        reasons += found
    return list(dict.fromkeys(reasons))


def _try_own_generator(scene: Scene, attack: InversionAttack[Any]) -> None:
    """Make the user's network once; its faults are found now, not after the training."""
    prior = getattr(attack, "prior", "")
    if attack.game == "class" and ":" in prior:
        prior_named(prior).load({}, class_evidence(scene, attack)[0])


def _lines(refused: dict[tuple[str, str], list[str]]) -> list[str]:
    """Attacks with one and the same reason on several subjects are one line."""
    grouped: dict[tuple[str, str], list[str]] = {}
    for (subject, attack), reasons in refused.items():
        grouped.setdefault((attack, "; ".join(reasons)), []).append(subject)
    return [f"{attack} on {', '.join(subjects)} {why}" for (attack, why), subjects in grouped.items()]
