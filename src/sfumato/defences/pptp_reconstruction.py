"""PPTP, reconstructed from its stated principle."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn

from sfumato.errors import StoreMismatch, UnsupportedModel, UsageError
from sfumato.models.ranking import map_digest, read_ranking
from sfumato.models.regions import compiled, front, put, selected, state_of, train_only
from sfumato.training.defence import Defence, PerExampleLoss, chain
from sfumato.training.loop import Hooks, Step
from sfumato.training.losses import task_loss
from sfumato.training.seen import Objective, Seen
from sfumato.training.task import Task
from sfumato.training.workshop import Workshop
from sfumato.validate import in_range, one_of, positive

SCHEMES = ("rewind", "masked")
SIDES = ("regions", "complement")
COUPLED = (
    "its masked gradients come from two losses, and the private update clips the gradient of one; the scheme "
    '"rewind" can take it'
)


@dataclass(frozen=True, kw_only=True)
class PPTPReconstruction(Defence):
    """Protects some regions of the network and lets the rest learn: inspired by 2602.02296, not a reproduction.

    The regions get the objective and the update of what this defence is wrapped around, the rest cross-entropy (the
    batch is transformed as the chain says for both). Around nothing it is a control, with no privacy objective.
    It runs no attack: which regions are risky is given, by name or by the map of `sfumato probe`.

    Args:
        regions: names of regions by depth or by type, or expressions that whole parameter names match (see
            `models.regions.selected`); beside no map.
        map: path of a saved risk map, from which the riskiest regions are taken (rule: `models.ranking.RULE`).
        share: of all risk in the map that the regions taken from it carry, in (0, 1].
        scheme: "rewind": cross-entropy everywhere, then the regions are put back to their initial values and tuned
            alone; "masked": in each step the regions get the one gradient, the rest the other.
        protect: "regions", or "complement" to protect the rest instead, for a report of both directions.
        tuning: epochs of the tuning over those of the first stage, above 0; for "rewind". A private update inside
            counts its own steps.
        sha256: of the map. Taken from it when left out, so that what is trained is what was named.
    """

    name: ClassVar[str] = "pptp-reconstruction"
    reference: ClassVar[str] = "fang2026decoupling"
    summary: ClassVar[str] = (
        "A privacy objective on risky regions, the ordinary one elsewhere; inspired by 2602.02296, not a reproduction."
    )
    bibtex: ClassVar[str] = """@article{fang2026decoupling,
  author = {Fang, Xingli and Kim, Jung-Eun},
  title = {Decoupling Generalizability and Membership Privacy Risks in Neural Networks},
  journal = {arXiv preprint arXiv:2602.02296},
  year = {2026}
}"""
    reconstruction: ClassVar[str] = (
        "Only the principle is public to us (regions that carry risk are protected, the others learn). How regions are "
        "found, how they are trained, base losses and hyper-parameters are our own choice."
    )
    hosts_update: ClassVar[bool] = True

    regions: tuple[str, ...] = ()
    map: str = ""
    share: float = 0.5
    scheme: str = "rewind"
    protect: str = "regions"
    tuning: float = 0.5
    sha256: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "regions", tuple(self.regions))
        one_of("scheme", self.scheme, SCHEMES)
        one_of("protect", self.protect, SIDES)
        positive("share", self.share)
        in_range("share", self.share, 0, 1)
        positive("tuning", self.tuning)
        for entry in self.regions:
            compiled(entry)
        if self.regions and self.map:
            raise UsageError(
                f"Expected `regions` or a `map` to take them from, got both, {self.regions} and {self.map!r}.",
                remedy="Leave one of them out.",
            )
        if self.map and not self.sha256 and Path(self.map).expanduser().is_file():
            object.__setattr__(self, "sha256", map_digest(Path(self.map)))

    @classmethod
    def example(cls) -> PPTPReconstruction:
        return cls(regions=("head",))

    def spec(self) -> dict[str, Any]:
        """What names this defence: the content of the map and its file's name, never the folder.

        Raises:
            UsageError: if there is no such file.
        """
        named = ("regions", "share", "scheme", "protect", "tuning", "inner")
        own = {"class": f"{type(self).__module__}.{type(self).__qualname__}", **{k: getattr(self, k) for k in named}}
        if not self.map:
            return {**own, "map": "", "sha256": ""}
        return {**own, "map": Path(self.map).name, "sha256": self.sha256 or map_digest(Path(self.map))}

    @property
    def couples(self) -> str:  # type: ignore[override] - a switch decides
        return COUPLED if self.scheme == "masked" else ""

    @property
    def trainings(self) -> float:
        return 1.0 if self.scheme == "masked" else 1.0 + self.tuning

    def check(self, task: Task, whole: Defence, network: Callable[[], nn.Module]) -> None:
        self.protected(network())

    def remark(self, whole: Defence) -> str:
        return bare(self, whole)

    def course(self, workshop: Workshop) -> nn.Module:
        network, initial = workshop.network(), workshop.network().state_dict()
        protected = self.protected(network)
        ordinary = ordinary_objective(task_loss(workshop.task.head))
        if self.scheme == "masked":
            hooks = Hooks(backward=lambda step: masked_gradients(step, protected, workshop.objective, ordinary))
            return workshop.fit("masked", network, hooks=hooks)
        workshop.fit("ordinary", network, objective=ordinary)
        put(network, initial, state_of(network, protected))
        train_only(network, protected)
        epochs = max(1, round(self.tuning * workshop.task.epochs))
        return workshop.fit("protected", network, epochs=epochs, protected=True)

    def protected(self, network: nn.Module) -> tuple[str, ...]:
        """Names of the parameters that get the privacy objective.

        Raises:
            UsageError: if no regions are given, or they are not in the network.
            UnsupportedModel: if the rest of the network is to be protected and there is none.
        """
        chosen = self._from_map(network) if self.map else selected(network, self._given())
        if self.protect == "regions":
            return chosen
        rest = tuple(n for n, _ in network.named_parameters(remove_duplicate=False) if n not in set(chosen))
        if not rest:
            raise UnsupportedModel(
                f"Expected parameters outside the regions {self.regions or self.map}, got none.",
                remedy="Name fewer regions, or protect the regions themselves.",
            )
        return rest

    def _given(self) -> tuple[str, ...]:
        if not self.regions:
            raise UsageError(
                f"Expected `regions` for {self.name}, or the `map` of a probe to take them from, got neither.",
                remedy='For instance regions=("head",), or `sfumato compare --probe 0.3` to probe first.',
            )
        return self.regions

    def _from_map(self, network: nn.Module) -> tuple[str, ...]:
        path = Path(self.map).expanduser()
        if self.sha256 and map_digest(path) != self.sha256:
            raise StoreMismatch(
                f"Expected {path.name} as it was when the run was set up, got other content.",
                remedy="Start the run again.",
            )
        wanted = {name for region in read_ranking(path).riskiest(self.share) for name in region.parameters}
        prefix = front(network)
        names = [name for name, _ in network.named_parameters(remove_duplicate=False)]
        chosen = tuple(name for name in names if name.removeprefix(prefix) in wanted)
        if missing := wanted - {name.removeprefix(prefix) for name in chosen}:
            raise UsageError(
                f"Expected a map of this network, got {path.name}, which names {min(missing)!r}.",
                remedy="Probe the network that is trained: the same recipe, and the same layers.",
            )
        return chosen


def bare(part: Defence, whole: Defence) -> str:
    """What to say of a part that brings no privacy objective, where no other part of the chain does; else ""."""
    others = (other for other in chain(whole) if other is not part)
    if any(type(one).plan is not Defence.plan or _own_objective(type(one)) for one in others):
        return ""
    return (
        f"{part.name} has no privacy objective of its own, and stands in a chain without any: it is a control, not a "
        f"defence. Name one with it, for instance {part.name}+relaxloss."
    )


def _own_objective(kind: type[Defence]) -> bool:
    return kind.objective is not Defence.objective or kind.loss is not Defence.loss


def ordinary_objective(loss: PerExampleLoss) -> Objective:
    """The task's own loss, whatever the chain says."""

    def ordinary(seen: Seen) -> torch.Tensor:
        return loss(seen.outputs, seen.targets)

    return ordinary


def masked_gradients(step: Step, protected: Collection[str], private: Objective, ordinary: Objective) -> torch.Tensor:
    """Leave the gradient of one objective in the protected parameters, and that of another in all others.

    Extra parameters of the chain belong to the private objective.

    Args:
        step: after its forward pass.
        protected: names of parameters.
        private: rows to be averaged, for the protected ones.
        ordinary: rows to be averaged, for the others.

    Returns:
        The private objective, a scalar.
    """
    trained = {name: p for name, p in step.network.named_parameters() if p.requires_grad}
    extra = [p for module in step.seen.extras.values() for p in module.parameters() if p.requires_grad]
    inside = [*(p for name, p in trained.items() if name in protected), *extra]
    outside = [p for name, p in trained.items() if name not in protected]
    loss = private(step.seen).mean()
    _leave(loss, inside)
    _leave(ordinary(step.seen).mean(), outside)
    return loss


def _leave(loss: torch.Tensor, parameters: list[nn.Parameter]) -> None:
    if not parameters:
        return
    for parameter, gradient in zip(
        parameters, torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True), strict=True
    ):
        parameter.grad = gradient
