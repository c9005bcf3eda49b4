"""A network's parameters and buffers in ordered, named groups: by depth, by kind of layer, or by expressions."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.instancenorm import _InstanceNorm

from sfumato.errors import UnsupportedModel, UsageError
from sfumato.models.head import head_name
from sfumato.validate import one_of

KINDS = ("depth", "type", "expressions")
CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
NORMS = (_BatchNorm, _InstanceNorm, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)
STEM, HEAD, REST = "stem", "head", "rest"


class Region(NamedTuple):
    """One group. Names are those of `network.state_dict()`, in its order.

    Attributes:
        name: distinct among the regions of a network.
        parameters: names; a tensor with two names stands here with both.
        buffers: names of the buffers of the same layers.
        values: how many numbers they hold, each counted once.
    """

    name: str
    parameters: tuple[str, ...]
    buffers: tuple[str, ...]
    values: int

    @property
    def state(self) -> tuple[str, ...]:
        """Names of all its tensors."""
        return (*self.parameters, *self.buffers)


@dataclass(frozen=True, kw_only=True)
class Regions:
    """How a network is divided. Every parameter and every buffer is in exactly one region.

    Args:
        by: "depth": "stem", then stages of blocks of one width ("stage-1", ...; "block-1", ... where all blocks have
            the same width), then "head"; in a plain chain one region for each layer with weights ("stem", "layer-2",
            ..., "head"). "type": "conv", "attention", "mlp" (hidden linear layers), "linear" (the last one), "norm" and
            "other". "expressions": one region for each of `expressions`, and "rest".
        expressions: regular expressions that whole parameter names match, the first one counts; for that division only.

    Raises:
        UsageError: for an expression that is none, or expressions beside another division.
    """

    by: str = "depth"
    expressions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        one_of("by", self.by, KINDS)
        if (self.by == "expressions") != bool(self.expressions):
            raise UsageError(
                f"Expected `expressions` for the division by expressions and for no other, got {self.expressions} "
                f"for {self.by!r}.",
                remedy='For instance by="expressions", expressions=("0[.].*",).',
            )
        for expression in self.expressions:
            compiled(expression)

    def of(self, network: nn.Module) -> tuple[Region, ...]:
        """The regions of a network, in the order of their first parameters.

        Raises:
            UnsupportedModel: if it has no parameters.
            UsageError: if an expression matches none.
        """
        owners = {"depth": _by_depth, "type": _by_type}.get(self.by)
        if owners is not None:
            return _grouped(network, owners(network))
        return _grouped(network, _by_expressions(network, self.expressions))

    def region(self, network: nn.Module, name: str) -> Region:
        """The region called `name`."""
        found = {region.name: region for region in self.of(network)}
        one_of("region", name, found)
        return found[name]


def compiled(expression: str) -> re.Pattern[str]:
    """The regular expression, or an error that says what is wrong with it."""
    try:
        return re.compile(expression)
    except re.error as error:
        raise UsageError(
            f"Expected a regular expression that names parameters, got {expression!r} ({error}).",
            remedy=r'For instance "0[.].*" or ".*[.]bias".',
        ) from error


def selected(network: nn.Module, entries: Sequence[str]) -> tuple[str, ...]:
    """Names of the parameters that any entry names, in the network's order.

    Args:
        network: whose.
        entries: each the name of a region by depth or by type, the name of a parameter, or a regular expression that
            whole names of parameters match; what scaling of the inputs puts in front of them may be left out.

    Raises:
        UsageError: if an entry names none.
    """
    known = {region.name: region for by in ("type", "depth") for region in Regions(by=by).of(network)}
    names, prefix = [name for name, _ in network.named_parameters(remove_duplicate=False)], front(network)
    found: set[str] = set()
    for entry in entries:
        mine = (
            set(known[entry].parameters) if entry in known else {name for name in names if _names(entry, name, prefix)}
        )
        if not mine:
            raise UsageError(
                f"Expected a region ({', '.join(known)}) or an expression that names parameters, got {entry!r}, which "
                f"matches none of {', '.join(names)}.",
                remedy="Whole names must match; end an expression in `.*`.",
            )
        found |= mine
    return tuple(name for name in names if name in found)


def state_of(network: nn.Module, parameters: Collection[str]) -> tuple[str, ...]:
    """Names of these parameters and of the buffers of their layers, in the order of the network's state."""
    layers = {name.rpartition(".")[0] for name in parameters}
    own = {name for name, _ in network.named_parameters(remove_duplicate=False)}
    return tuple(
        name
        for name in network.state_dict()
        if (name in parameters if name in own else name.rpartition(".")[0] in layers)
    )


def put(network: nn.Module, state: Mapping[str, torch.Tensor], names: Collection[str]) -> nn.Module:
    """`network` with the named tensors of `state` copied into it, to the bit; all others stay."""
    own = network.state_dict()
    with torch.no_grad():
        for name in names:
            own[name].copy_(state[name])
    return network


def train_only(network: nn.Module, parameters: Collection[str]) -> nn.Module:
    """`network` with `requires_grad` on for the named parameters that had it, and off for all others.

    Raises:
        UnsupportedModel: if none is left.
    """
    named = list(network.named_parameters(remove_duplicate=False))
    kept = {id(p) for name, p in named if name in parameters and p.requires_grad}
    if not kept:
        raise UnsupportedModel(
            f"Expected parameters to train, got none among {', '.join(sorted(parameters)) or 'no names'}.",
            remedy="Choose regions that leave some parameters to be trained.",
        )
    for _, parameter in named:
        parameter.requires_grad_(id(parameter) in kept)
    return network


class _Unit(NamedTuple):
    """A layer or block of the chain: where it is, its module (None for tensors of the network's own), its names."""

    path: str
    module: nn.Module | None


def _by_depth(network: nn.Module) -> Mapping[str, str]:
    """Name of the region of each layer's or block's path."""
    units = _opened(network)
    blocks = [index for index, unit in enumerate(units) if _is_block(unit)]
    named = _blocks_named(units, blocks) if blocks else _chain_named(units)
    return {unit.path: name for unit, name in zip(units, named, strict=True)}


def _opened(network: nn.Module) -> list[_Unit]:
    """The chain of layers; a single wrapper around everything is looked into."""
    units = list(_chain(network, ""))
    while True:
        full = [unit for unit in units if unit.module is not None and any(True for _ in unit.module.parameters())]
        if len(full) != 1 or not _is_block(full[0]) or any(u.module is None for u in units):
            return units
        assert full[0].module is not None
        inside = list(_chain(full[0].module, full[0].path))
        if len(inside) < 2:
            return units
        units = [*(unit for unit in units if unit is not full[0]), *inside]


def _chain(module: nn.Module, path: str) -> Iterator[_Unit]:
    own = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
    if own:
        yield _Unit(path, module if not list(module.children()) else None)
    for name, child in module.named_children():
        inner = f"{path}.{name}".lstrip(".")
        if isinstance(child, CONTAINERS):
            yield from _chain(child, inner)
        elif child.state_dict():
            yield _Unit(inner, child)


def _is_block(unit: _Unit) -> bool:
    return unit.module is not None and any(_has_weights(child) for child in unit.module.children())


def _has_weights(module: nn.Module) -> bool:
    return any(parameter.dim() > 1 for parameter in module.parameters())


def _chain_named(units: Sequence[_Unit]) -> list[str]:
    """One region for each layer with weights; what has none belongs to the layer before it."""
    weighted = [index for index, unit in enumerate(units) if unit.module is not None and _has_weights(unit.module)]
    count = len(weighted)
    names = [HEAD if k == count else STEM if k == 1 else f"layer-{k}" for k in range(1, count + 1)] or [HEAD]
    return [names[max(0, sum(at <= index for at in weighted) - 1)] for index in range(len(units))]


def _blocks_named(units: Sequence[_Unit], blocks: Sequence[int]) -> list[str]:
    """A stem, stages of blocks, a head; layers without weights behind the blocks belong to the last stage."""
    stages = _stages([_width(units[index]) for index in blocks])
    named, name, ended = [], STEM, False
    for index, unit in enumerate(units):
        if index in blocks:
            name = stages[blocks.index(index)]
        elif index > blocks[-1] and not ended and unit.module is not None and _has_weights(unit.module):
            name, ended = HEAD, True
        named.append(name)
    return named


def _stages(widths: Sequence[int]) -> list[str]:
    if len(set(widths)) == 1:
        return [f"block-{index + 1}" for index in range(len(widths))]
    runs = [list(run) for _, run in groupby(widths)]
    return [f"stage-{number}" for number, run in enumerate(runs, 1) for _ in run]


def _width(unit: _Unit) -> int:
    """Channels that leave a block: those of its last weights in the order of registration."""
    assert unit.module is not None
    return [parameter.shape[0] for parameter in unit.module.parameters() if parameter.dim() > 1][-1]


def _by_type(network: nn.Module) -> Mapping[str, str]:
    modules = dict(network.named_modules(remove_duplicate=False))
    attention = {path for path, module in modules.items() if path and _is_attention(module)}
    linear = any(isinstance(module, nn.Linear) for module in modules.values())
    last = modules[head_name(network)] if linear else None
    return {path: _kind(module, path, attention, last) for path, module in modules.items()}


def _kind(module: nn.Module, path: str, attention: Collection[str], last: nn.Module | None) -> str:
    if any(path == one or path.startswith(f"{one}.") for one in attention):
        return "attention"
    if isinstance(module, nn.Linear):
        return "linear" if module is last else "mlp"
    if isinstance(module, NORMS):
        return "norm"
    return "conv" if isinstance(module, _ConvNd) else "other"


def _is_attention(module: nn.Module) -> bool:
    return isinstance(module, nn.MultiheadAttention) or "attention" in type(module).__name__.lower()


def _by_expressions(network: nn.Module, expressions: Sequence[str]) -> Mapping[str, str]:
    """Regions of whole names, and of the layers that a first parameter stands for."""
    named: dict[str, str] = {}
    prefix = front(network)
    for name, _ in network.named_parameters(remove_duplicate=False):
        named[name] = next((one for one in expressions if _names(one, name, prefix)), REST)
        named.setdefault(name.rpartition(".")[0], named[name])
    for expression in expressions:
        if expression not in named.values():
            raise UsageError(
                f"Expected expressions that name parameters, got {expression!r}, for which the others left none of "
                f"{', '.join(name for name, _ in network.named_parameters())}.",
                remedy="Whole names must match; end it in `.*`, or put it first.",
            )
    return named


def front(network: nn.Module) -> str:
    """What scaling of the inputs, in front of a network, puts before its names: "1.", say, or ""."""
    if not isinstance(network, nn.Sequential) or len(network) < 2 or not any(True for _ in network[-1].children()):
        return ""
    inside = {id(parameter) for parameter in network[-1].parameters()}
    everything = {id(parameter) for parameter in network.parameters()}
    return f"{len(network) - 1}." if inside and inside == everything else ""


def _names(expression: str, name: str, prefix: str) -> bool:
    """Whether it matches the whole name, or the name without what stands in front of the network."""
    pattern = compiled(expression)
    return bool(pattern.fullmatch(name) or pattern.fullmatch(name.removeprefix(prefix)))


def _grouped(network: nn.Module, owners: Mapping[str, str]) -> tuple[Region, ...]:
    """Tensors of the state by the region of the nearest owner: of the name itself, of its layer, of what holds it."""
    parameters = dict(network.named_parameters(remove_duplicate=False))
    first: dict[int, str] = {}
    regions: dict[str, list[str]] = {}
    for name in network.state_dict():
        region = _owner(name, owners)
        if name in parameters:  # a tensor with two names belongs where its first one is
            region = first.setdefault(id(parameters[name]), region)
        regions.setdefault(region, []).append(name)
    made = [_region(name, names, parameters) for name, names in regions.items()]
    place = {name: index for index, name in enumerate(parameters)}
    full = sorted((region for region in made if region.parameters), key=lambda region: place[region.parameters[0]])
    if not full:
        raise UnsupportedModel("Expected a network with parameters, got none.", remedy="Give it layers with weights.")
    loose = tuple(name for region in made if not region.parameters for name in region.buffers)
    return (full[0]._replace(buffers=(*loose, *full[0].buffers)), *full[1:])


def _owner(name: str, owners: Mapping[str, str]) -> str:
    while name not in owners and name:
        name = name.rpartition(".")[0]
    return owners.get(name, REST)


def _region(name: str, names: Sequence[str], parameters: Mapping[str, nn.Parameter]) -> Region:
    inside: Callable[[str], bool] = parameters.__contains__
    own = tuple(filter(inside, names))
    count = sum(value.numel() for value in {id(parameters[one]): parameters[one] for one in own}.values())
    return Region(name, own, tuple(one for one in names if not inside(one)), count)
