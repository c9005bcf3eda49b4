"""The first linear layer gives its input away: the weight's gradient over the bias's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from torch import nn

from sfumato.attacks.inversion.base import GradientInversion, Reconstructions
from sfumato.attacks.inversion.evidence import GradientEvidence
from sfumato.attacks.inversion.matching import Copy, Guess, copy_of, labels_of, reconstructions, why_no_labels
from sfumato.errors import NotApplicable
from sfumato.sde.streams import set_noise
from sfumato.seeding import torch_stream
from sfumato.targets.boundary import Box
from sfumato.types import Floats, Ints
from sfumato.validate import in_range


class Entry(NamedTuple):
    """The first layer that sees a record.

    Attributes:
        name: of the linear layer.
        offset: float64 [features], what it is given for the record 0.
        slope: float64 [features], by how much each feature grows with its entry of the record.
    """

    name: str
    offset: torch.Tensor
    slope: torch.Tensor


@dataclass(frozen=True, kw_only=True)
class AnalyticLinear(GradientInversion):
    """Divides each row of the first linear layer's weight gradient by its bias gradient: x = dL/dW_row / dL/db_row.

    Exact for one record, whatever the network behind the layer (dL/dW_row = dL/db_row x). For a batch each row gives a
    mixture of its records; a row of which one record alone made use gives that record. The rows with the largest bias
    gradients are looked at, and near copies left out. Nothing is optimised. Between record and layer only scaling by
    constants may stand.

    Args:
        alike: candidates count as one where their root mean square difference, in units of the box, is no larger.
    """

    name: ClassVar[str] = "analytic-linear"
    reference: ClassVar[str] = "geiping2020inverting"
    summary: ClassVar[str] = "Reads records off the gradient of the first linear layer: exactly, for a single one."
    bibtex: ClassVar[str] = """@inproceedings{geiping2020inverting,
  author = {Geiping, Jonas and Bauermeister, Hartmut and Dr{\\"o}ge, Hannah and Moeller, Michael},
  title = {Inverting Gradients - How Easy Is It to Break Privacy in Federated Learning?},
  booktitle = {Advances in Neural Information Processing Systems},
  year = {2020}
}"""

    alike: float = 0.02

    def __post_init__(self) -> None:
        in_range("alike", self.alike, 0, 1)

    def refuses(self, evidence: GradientEvidence) -> tuple[str, ...]:
        try:
            entry = entry_of(copy_of(evidence, torch.float64), evidence.shape)
        except NotApplicable as error:
            return (error.message,)
        missing = [part for part in ("weight", "bias") if _at(entry.name, part) not in evidence.updates[0]]
        return (f"needs the gradient of the first layer, got none of its {missing[0]}",) if missing else ()

    def reconstruct(self, evidence: GradientEvidence, fitted: Sequence[dict[str, Floats]] = ()) -> Reconstructions:
        entry = entry_of(copy_of(evidence, torch.float64), evidence.shape)
        return reconstructions(evidence, [self._batch(evidence, entry, q) for q in range(len(evidence.updates))])

    def _batch(self, evidence: GradientEvidence, entry: Entry, step: int) -> Guess:
        size, update = int(evidence.sizes[step]), evidence.updates[step]
        weight, bias = (update[_at(entry.name, part)].double() for part in ("weight", "bias"))
        order = bias.abs().argsort(descending=True, stable=True)
        order = order[bias[order] != 0]
        candidates = ((weight[order] / bias[order, None] - entry.offset) / entry.slope).reshape(-1, *evidence.shape)
        kept = distinct(candidates, evidence.box, self.alike, size)
        records, shown = _filled(candidates[kept], evidence.box, size), bias[order][kept].abs().numpy()
        confidence = np.concatenate([shown, np.zeros(size - len(kept))])
        labels = None if why_no_labels(evidence) else labels_of(evidence, step).labels  # in no order of the candidates
        return Guess(records, labels, confidence, 0.0, 0)


def entry_of(network: Copy, shape: tuple[int, ...]) -> Entry:
    """Where a record enters the network.

    Args:
        network: the attacker's copy.
        shape: of one record.

    Raises:
        NotApplicable: if the first layer with weights is no linear one with a bias, or what stands before it does more
            than to scale each entry by constants.
    """
    points = torch.rand(4, *shape, generator=torch_stream(0, "entry"), dtype=network.dtype)
    points[0], points[1] = 0.0, 1.0
    name, given = _first_layer(network.network, points)
    layer = network.network.get_submodule(name)
    if not isinstance(layer, nn.Linear) or layer.bias is None:
        kind = "a linear layer without a bias" if isinstance(layer, nn.Linear) else type(layer).__name__
        raise NotApplicable(f"needs a first layer that is linear with a bias, got {kind} at `{name or 'the top'}`")
    offset, slope, flat = given[0], given[1] - given[0], points.flatten(1)
    scaled = given.shape == flat.shape and bool((slope != 0).all())
    if not scaled or not torch.allclose(given, offset + slope * flat, rtol=1e-9, atol=1e-9):
        raise NotApplicable("needs a record that reaches the first linear layer but for scaling, got one that is mixed")
    return Entry(name, offset, slope)


def distinct(candidates: torch.Tensor, box: Box, alike: float, most: int) -> Ints:
    """int64 [k]: positions of the first candidates [n, *shape] that are apart from each other, `most` of them at most.

    Candidates are first moved into the box, so that none counts twice for how far outside it lies.
    """
    units = candidates.clamp(box.low.double(), box.high.double()) / box.unit.double()
    kept: list[int] = []
    for place in range(len(units)):
        if len(kept) == most:
            break
        gaps = (units[kept] - units[place]).flatten(1).square().mean(dim=1).sqrt()
        if bool((gaps > alike).all()):
            kept.append(place)
    return np.array(kept, dtype=np.int64)


def _first_layer(network: nn.Module, points: torch.Tensor) -> tuple[str, torch.Tensor]:
    """The name of the first module with parameters of its own to run, and what it is given [b, ...]."""
    met: list[tuple[str, torch.Tensor]] = []
    names = {module: name for name, module in network.named_modules() if [*module.parameters(recurse=False)]}

    def note(module: nn.Module, given: tuple[torch.Tensor, ...]) -> None:
        met.append((names[module], given[0].detach()))

    handles = [module.register_forward_pre_hook(note) for module in names]
    try:
        set_noise(network, None, "off")
        with torch.no_grad():
            network(points)
    finally:
        for handle in handles:
            handle.remove()
    if not met:
        raise NotApplicable("needs a network with layers that run as modules, got none with weights")
    return met[0]


def _filled(records: torch.Tensor, box: Box, size: int) -> torch.Tensor:
    """[size, *shape]: with the middle of the box where there are fewer candidates than records."""
    middle = ((box.low + box.high) / 2).to(records).expand(size - len(records), *box.low.shape)
    return torch.cat([records, middle])


def _at(name: str, part: str) -> str:
    return f"{name}.{part}".lstrip(".")
