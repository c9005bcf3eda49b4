"""The same network with the layers replaced that private training refuses."""

from __future__ import annotations

import copy
from typing import NamedTuple

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

from sfumato.errors import UnsupportedModel

MOST_GROUPS = 16


class Replaced(NamedTuple):
    """One change: where, what stood there, and what stands there now."""

    place: str
    before: str
    after: str


def fixed(model: nn.Module) -> nn.Module:
    """A copy without batch normalisation and running statistics; the given one stays as it is.

    Batch normalisation in training mode becomes group normalisation with the same scale and shift (Wu and He, arXiv
    1803.08494): up to 16 groups, a number that divides the channels and leaves at least two in each. It is another
    network, with another optimum, to be trained from the start or fine-tuned. Activations in place are left alone: they
    do no harm here.

    Raises:
        UnsupportedModel: for batch normalisation whose number of channels is not known yet.
    """
    return fixed_with_changes(model)[0]


def fixed_with_changes(model: nn.Module) -> tuple[nn.Module, list[Replaced]]:
    """As `fixed`, and what was changed."""
    _refuse_lazy(model)
    return repair(copy.deepcopy(model))


def repair(model: nn.Module) -> tuple[nn.Module, list[Replaced]]:
    """As `fixed`, in the network itself: scale and shift stay the same tensors. Also tells what was changed."""
    _refuse_lazy(model)
    changes: list[Replaced] = []
    made: dict[int, nn.Module] = {}
    for name, part in list(model.named_modules(remove_duplicate=False)):
        new = made.get(id(part)) or _in_place_of(part)
        if new is None:
            continue
        if id(part) not in made:
            changes.append(Replaced(name or "the network itself", _called(part), _called(new)))
        made[id(part)] = new
        if not name:
            model = new
        else:
            parent, _, last = name.rpartition(".")
            setattr(model.get_submodule(parent), last, new)
    return model, changes


def groups_for(channels: int) -> int:
    """The largest number of groups up to 16 that divides the channels and leaves at least two in each."""
    return max((g for g in range(1, MOST_GROUPS + 1) if channels % g == 0 and channels // g >= 2), default=1)


def _in_place_of(part: nn.Module) -> nn.Module | None:
    if isinstance(part, _BatchNorm) and (part.training or part.running_mean is None):
        return _group_norm(part)
    if isinstance(part, _InstanceNorm) and part.training and part.track_running_stats:
        return _without_statistics(part)
    return None


def _refuse_lazy(model: nn.Module) -> None:
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if torch.nn.parameter.is_lazy(tensor):
            raise UnsupportedModel(
                f"Expected tensors of known shape, got {name} of a lazy module.",
                remedy="Run the network once on a made-up batch first.",
            )


def _group_norm(part: _BatchNorm) -> nn.GroupNorm:
    new = nn.GroupNorm(groups_for(part.num_features), part.num_features, eps=part.eps, affine=part.affine)
    if part.affine:
        new.weight, new.bias = part.weight, part.bias
    return new.train(part.training)


def _without_statistics(part: _InstanceNorm) -> nn.Module:
    new = copy.copy(part)
    new._buffers = dict.fromkeys(part._buffers)
    new.track_running_stats = False
    return new


def _called(part: nn.Module) -> str:
    return str(part).split("\n", maxsplit=1)[0]
