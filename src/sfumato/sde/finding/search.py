"""All residual branches of a network in the order in which they run, and everything that is none, with the reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from torch import nn

from sfumato.sde.finding.branches import Branch, branches
from sfumato.sde.finding.observing import Call
from sfumato.sde.finding.tracing import Traced, traced, writes_its_own_forward

AROUND = "it goes around several residual blocks"


class Missed(NamedTuple):
    """A place that was looked at and has no residual block to swap, and why."""

    place: str
    reason: str


@dataclass(frozen=True, eq=False)
class Found:
    """A residual branch.

    Args:
        owner: name of the module whose forward has it ("" for the network itself).
        place: the owner's name, with a number where it has several.
        branch: within the owner's graph.
        finished: when its last layer was over, as a running number.
    """

    owner: str
    place: str
    branch: Branch
    finished: int


@dataclass(frozen=True, eq=False)
class Search:
    """What a network has.

    Args:
        found: in the order in which they run.
        missed: what is none.
        graphs: of the modules that could be traced, by name.
    """

    found: tuple[Found, ...]
    missed: tuple[Missed, ...]
    graphs: Mapping[str, Traced]


def search(model: nn.Module, calls: Mapping[str, Call]) -> Search:
    """Look at every module that writes its own forward.

    Args:
        model: the network.
        calls: of its modules, from `observe`.
    """
    found: list[Found] = []
    missed: list[Missed] = []
    graphs: dict[str, Traced] = {}
    for name, part in model.named_modules():
        if name not in calls or not _may_have_one(part):
            continue
        graph = traced(part, calls[name])
        if isinstance(graph, str):
            missed.append(Missed(shown(name), graph))
            continue
        graphs[name] = graph
        good, reasons = branches(part, graph)
        missed += [Missed(shown(name), reason) for reason in reasons]
        found += [_found(name, branch, number, len(good), calls) for number, branch in enumerate(good)]
    kept, nested = _not_nested(sorted(found, key=lambda each: each.finished))
    return Search(tuple(kept), (*missed, *nested), graphs)


def shown(name: str) -> str:
    """A module's name for a reader."""
    return name or "the network itself"


def _may_have_one(part: nn.Module) -> bool:
    residual = isinstance(part, (nn.TransformerEncoderLayer, nn.TransformerDecoderLayer))
    return residual or (writes_its_own_forward(part) and any(True for _ in part.parameters()))


def _found(name: str, branch: Branch, number: int, of: int, calls: Mapping[str, Call]) -> Found:
    layers = [_inside(name, str(node.target)) for node in branch.inner if node.op == "call_module"]
    finished = max((calls[layer].finished for layer in layers if layer in calls), default=calls[name].finished)
    return Found(name, shown(name) if of == 1 else f"{shown(name)}[{number}]", branch, finished)


def _inside(owner: str, target: str) -> str:
    return f"{owner}.{target}" if owner else target


def _not_nested(found: Sequence[Found]) -> tuple[list[Found], list[Missed]]:
    """A branch inside another one stays part of it; one around several is a part of the network, and no block."""
    missed: list[Missed] = []
    left = list(found)
    for each in found:
        if sum(_contains(each, other) for other in found) > 1:
            left.remove(each)
            missed.append(Missed(each.place, AROUND))
    for each in list(left):
        outer = next((other for other in left if _contains(other, each)), None)
        if outer is not None:
            left.remove(each)
            missed.append(Missed(each.place, f"it is inside the residual block `{outer.place}`"))
    return left, missed


def _contains(outer: Found, inner: Found) -> bool:
    if outer is inner:
        return False
    if outer.owner == inner.owner:
        return inner.branch.sum in outer.branch.inner
    targets = [_inside(outer.owner, str(n.target)) for n in outer.branch.inner if n.op == "call_module"]
    return any(inner.owner == target or inner.owner.startswith(f"{target}.") for target in targets)
