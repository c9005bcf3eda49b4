"""CWRF, reconstructed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import nn
from torch.nn.utils import parametrize

from sfumato.defences.pptp_reconstruction import bare, ordinary_objective
from sfumato.errors import UnsupportedModel
from sfumato.models.regions import put
from sfumato.training.defence import Defence
from sfumato.training.losses import task_loss
from sfumato.training.workshop import CHUNK, Workshop
from sfumato.validate import in_range, positive

Tensors = Mapping[str, torch.Tensor]


@dataclass(frozen=True, kw_only=True)
class CWRFReconstruction(Defence):
    """Rewinds the few most vulnerable weights to their initial values, freezes them, and tunes all others.

    A reconstruction of CWRF (Fang and Kim, 2026): train ordinarily; score each weight; put the top share back; tune the
    rest with the objective and the update of what this defence is wrapped around. The score is our own choice: a second
    network is trained on half of the training set, and a weight w of it scores |w (g_out - g_in)|, where g_in is the
    mean gradient of the cross-entropy on that half and g_out that on the other. To first order it is by how much the
    loss gap between seen and unseen records changes when the weight is taken away; no reference data are needed. The
    places found on that network are those that are rewound in the first, because the paper's finding is that location
    counts, not value.

    Args:
        rewound: share of the weights that is rewound and frozen, in (0, 1).
        tuning: epochs of the tuning over those of the first training, above 0.
    """

    name: ClassVar[str] = "cwrf-reconstruction"
    reference: ClassVar[str] = "fang2026learnability"
    summary: ClassVar[str] = "Rewinds and freezes the most vulnerable weights, and tunes all others."
    bibtex: ClassVar[str] = """@inproceedings{fang2026learnability,
  author = {Fang, Xingli and Kim, Jung-Eun},
  title = {Learnability and Privacy Vulnerability Are Entangled in a Few Critical Weights},
  booktitle = {International Conference on Learning Representations},
  year = {2026}
}"""
    reconstruction: ClassVar[str] = (
        "The exact vulnerability score, the grid of rewinding rates and the role of lambda are not public to us: the "
        "score is our own first-order rule, and there is no lambda."
    )
    hosts_update: ClassVar[bool] = True

    rewound: float = 0.01
    tuning: float = 0.5

    def __post_init__(self) -> None:
        positive("rewound", self.rewound)
        in_range("rewound", self.rewound, 0, 0.9999)
        positive("tuning", self.tuning)

    @property
    def trainings(self) -> float:
        return 1.5 + self.tuning

    def remark(self, whole: Defence) -> str:
        return bare(self, whole)

    def course(self, workshop: Workshop) -> nn.Module:
        ordinary = ordinary_objective(task_loss(workshop.task.head))
        seen, unseen = halves(workshop)
        judge = workshop.fit("half of the records", workshop.network("judge"), rows=seen, objective=ordinary)
        gradients = [mean_gradient(workshop, judge, rows) for rows in (seen, unseen)]
        workshop.note(f"{self.name}: weights scored by gradients on the training set")
        scores = vulnerability(dict(judge.named_parameters()), *gradients)
        network, initial = workshop.network(), workshop.network().state_dict()
        workshop.fit("ordinary", network, objective=ordinary)
        chosen = most_vulnerable(scores, self.rewound)
        holding(network, chosen, initial)
        epochs = max(1, round(self.tuning * workshop.task.epochs))
        workshop.fit("tuned", network, epochs=epochs, protected=True)
        made = workshop.network()  # with its tensors in their usual order
        return put(made, released(network).state_dict(), list(made.state_dict())).eval()


class Held(nn.Module):
    """A parameter some of whose entries are constants.

    Args:
        held: bool, which of them.
        values: what they are.
    """

    held: torch.Tensor
    values: torch.Tensor

    def __init__(self, held: torch.Tensor, values: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("held", held, persistent=False)
        self.register_buffer("values", values.detach().clone(), persistent=False)

    def forward(self, parameter: torch.Tensor) -> torch.Tensor:
        """The parameter with the constants in their places."""
        return torch.where(self.held, self.values, parameter)


class Halves(NamedTuple):
    """Rows of the training set, int64 [k] each: those that a network is trained on, and the others."""

    seen: torch.Tensor
    unseen: torch.Tensor


def halves(workshop: Workshop) -> Halves:
    """The training rows in two halves at random, no unit cut."""
    units = workshop.units(workshop.fit_rows)
    names = units.unique()
    if len(names) < 2:
        raise UnsupportedModel(
            f"Expected two units or more in the training set, got {len(names)}.", remedy="Use more records."
        )
    order = names[workshop.draws.at("halves").permutation("units", len(names))[0]]
    first = torch.isin(units, order[: len(names) // 2])
    return Halves(workshop.fit_rows[first], workshop.fit_rows[~first])


def mean_gradient(workshop: Workshop, network: nn.Module, rows: torch.Tensor) -> dict[str, torch.Tensor]:
    """Gradient of the mean cross-entropy of a network in eval mode on these records, by name of the parameter."""
    network.eval().zero_grad()
    loss = task_loss(workshop.task.head)
    for part in rows.split(CHUNK):
        (loss(network(workshop.x[part]), workshop.targets[part]).sum() / len(rows)).backward()
    found = {name: p.grad.detach().clone() for name, p in network.named_parameters() if p.grad is not None}
    network.zero_grad()
    return found


def vulnerability(parameters: Tensors, seen: Tensors, unseen: Tensors) -> dict[str, torch.Tensor]:
    """|w (g_unseen - g_seen)| of each weight w, by name; of those parameters that have gradients.

    Args:
        parameters: by name.
        seen: mean gradients on records that the network was trained on.
        unseen: the same on records that it was not.
    """
    return {name: (parameters[name].detach() * (unseen[name] - seen[name])).abs() for name in seen}


def most_vulnerable(scores: Tensors, share: float) -> dict[str, torch.Tensor]:
    """bool, by name: the `share` of all weights with the highest scores, at least one; earlier ones first in ties."""
    flat = torch.cat([values.flatten() for values in scores.values()])
    count = max(1, round(share * len(flat)))
    mask = torch.zeros(len(flat), dtype=torch.bool)
    mask[flat.argsort(descending=True, stable=True)[:count]] = True
    parts = mask.split([values.numel() for values in scores.values()])
    return {name: part.view(values.shape) for (name, values), part in zip(scores.items(), parts, strict=True)}


def holding(network: nn.Module, chosen: Tensors, values: Tensors) -> nn.Module:
    """`network` with the chosen entries as constants, whatever steps are taken; see `released`."""
    for name, held in chosen.items():
        if bool(held.any()):
            path, _, attribute = name.rpartition(".")
            parametrize.register_parametrization(network.get_submodule(path), attribute, Held(held, values[name]))
    return network


def released(network: nn.Module) -> nn.Module:
    """Inverse of `holding`: plain parameters under their own names again, with the constants in them."""
    for layer in list(network.modules()):
        if parametrize.is_parametrized(layer):
            for attribute in list(layer.parametrizations):  # type: ignore[arg-type] - a ModuleDict
                parametrize.remove_parametrizations(layer, attribute, leave_parametrized=True)
    return network
