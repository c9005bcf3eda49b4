"""Solvers in the place of residual branches: the module whose forward had them, made anew around the same weights."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import fx, nn
from torch.utils._pytree import tree_leaves

from sfumato.sde.block import SDEBlock
from sfumato.sde.finding.branches import Branch
from sfumato.sde.finding.drift import branch_drift
from sfumato.sde.finding.observing import Call, at_rest
from sfumato.sde.finding.tracing import Traced
from sfumato.sde.integrate import Grid
from sfumato.sde.integrators.euler import Euler

MakeBlock = Callable[[nn.Module, tuple[int, ...], nn.Module | None], SDEBlock]  # drift, shape of a state, after


class Rebuilt(NamedTuple):
    """A module that takes the old one's place, and its solvers with their names within it ("" if it is one itself)."""

    module: nn.Module
    blocks: dict[str, SDEBlock]


def rebuilt(
    owner: nn.Module, found: Traced, chosen: Sequence[Branch], horizon: float, make: MakeBlock, call: Call
) -> Rebuilt:
    """The owner with some of its branches replaced; the owner itself stays as it is.

    Args:
        owner: whose own forward was traced.
        found: its graph; stays as it is.
        chosen: branches of this graph.
        horizon: T.
        make: gives the solver for a drift.
        call: how the owner was called.
    """
    drifts = [branch_drift(owner, branch, horizon) for branch in chosen]
    whole = len(chosen) == 1 and len(call.args) == 1 and not call.kwargs
    tail = _tail(owner, found.graph, chosen[0]) if whole else None
    if tail is not None:
        block = make(drifts[0], chosen[0].shape, tail.after).train(owner.training)
        return Rebuilt(block, {"": block})
    blocks = {
        _free(owner, number): make(drift, branch.shape, None).train(owner.training)
        for number, (drift, branch) in enumerate(zip(drifts, chosen, strict=True))
    }
    return Rebuilt(_around(owner, found.graph, chosen, blocks), blocks)


def computes_the_same(old: Call, new: Rebuilt) -> bool:
    """Whether one step without noise gives, to the last bit, what the old module gave (at T = 1; else to rounding)."""
    settings = [(block, block.grid, block.integrator, block.noise) for block in new.blocks.values()]
    for block in new.blocks.values():
        block.grid, block.integrator, block.noise = Grid(horizon=block.grid.horizon, steps=1), Euler(), "off"
    try:
        with at_rest(new.module):
            output = new.module(*old.args, **old.kwargs)
    finally:
        for block, grid, integrator, noise in settings:
            block.grid, block.integrator, block.noise = grid, integrator, noise
    exact = all(grid.horizon == 1 for _, grid, _, _ in settings)
    pairs = list(zip(tree_leaves(_plain(old.output)), tree_leaves(_plain(output)), strict=True))
    return all(_same(before, after, exact=exact) for before, after in pairs)


def _same(before: Any, after: Any, *, exact: bool) -> bool:
    if not isinstance(before, torch.Tensor):
        return type(before) is type(after)
    if exact or not before.is_floating_point():
        return torch.equal(before, after)
    return before.shape == after.shape and torch.allclose(before, after, rtol=1e-4, atol=1e-5)


def _plain(output: Any) -> Any:
    """Outputs that are objects with fields (a dataclass, say) as their fields."""
    return vars(output) if hasattr(output, "__dict__") and not isinstance(output, torch.Tensor) else output


class _Tail(NamedTuple):
    after: nn.Module | None


def _tail(owner: nn.Module, graph: fx.Graph, branch: Branch) -> _Tail | None:
    """What stands behind the sum, if the whole forward is: input, branch, sum, something without weights, output."""
    nodes = [n for n in graph.nodes if n.op != "placeholder" and n not in branch.inner and n is not branch.sum]
    output = next(n for n in nodes if n.op == "output")
    behind = [n for n in nodes if n is not output and not _is_check(n) and not _leads_in(n, branch)]
    if branch.state.op != "placeholder" or not isinstance(output.args[0], fx.Node):
        return None
    if not behind:
        return _Tail(None) if output.args[0] is branch.sum else None
    own = {branch.sum, *behind}
    if any(source not in own for node in behind for source in node.all_input_nodes) or output.args[0] not in own:
        return None
    parts = [owner.get_submodule(str(n.target)) for n in behind if n.op == "call_module"]
    if any(n.op == "get_attr" for n in behind) or any(True for part in parts for _ in part.parameters()):
        return None
    if len(behind) == len(parts) == 1:
        return _Tail(parts[0])
    return _Tail(_behind(owner, branch, behind, output.args[0]))


def _behind(owner: nn.Module, branch: Branch, behind: Sequence[fx.Node], last: fx.Node) -> nn.Module:
    graph = fx.Graph()
    copies = {branch.sum: graph.placeholder("h")}
    for node in behind:
        copies[node] = graph.node_copy(node, copies.__getitem__)
    graph.output(copies[last])
    return fx.GraphModule(owner, graph, class_name=f"After{type(owner).__name__}")


def _is_check(node: fx.Node) -> bool:
    """What torch.fx writes for arguments that were taken as constants."""
    return not node.users and all(source.op == "placeholder" for source in node.all_input_nodes)


def _leads_in(node: fx.Node, branch: Branch) -> bool:
    """An identity between the state and the sum."""
    return node.all_input_nodes == [branch.state] and all(user is branch.sum for user in node.users)


def _around(owner: nn.Module, graph: fx.Graph, chosen: Sequence[Branch], blocks: dict[str, SDEBlock]) -> nn.Module:
    """A twin of the owner, with all of its attributes, whose forward calls the solvers."""
    twin = copy.copy(owner)
    for kind in ("_modules", "_parameters", "_buffers"):
        twin.__dict__[kind] = dict(getattr(owner, kind))
    copies: dict[fx.Node, fx.Node] = {}
    new = fx.Graph()
    output = new.graph_copy(graph, copies)
    new.output(output)
    for (name, block), branch in zip(blocks.items(), chosen, strict=True):
        twin.add_module(name, block)
        old = copies[branch.sum]
        with new.inserting_before(old):
            call = new.call_module(name, (copies[branch.state],))
        old.replace_all_uses_with(call)
        copies[branch.sum] = call
        for node in (old, *(copies[inside] for inside in reversed(branch.inner))):
            if not node.users:
                new.erase_node(node)
    _drop_idle(owner, twin, new, chosen)
    forward = type(fx.GraphModule(twin, new)).forward
    twin.__class__ = type(type(owner).__name__, (type(owner),), {"forward": forward, "__module__": __name__})
    return twin


def _drop_idle(owner: nn.Module, twin: nn.Module, graph: fx.Graph, chosen: Sequence[Branch]) -> None:
    """Layers and parameters that moved into a drift have one name only, so that a state holds them once."""
    used = {str(node.target) for node in graph.nodes if node.op in ("call_module", "get_attr")}
    moved = {str(n.target) for branch in chosen for n in branch.inner if n.op in ("call_module", "get_attr")}
    for target in moved - used:
        path, _, last = target.rpartition(".")
        if not path:
            for kind in ("_modules", "_parameters", "_buffers"):
                twin.__dict__[kind].pop(last, None)
        else:
            _without(twin, path, last)


def _without(twin: nn.Module, path: str, last: str) -> None:
    """Take `last` out of a container inside the twin; the owner's own container is left alone."""
    here = twin
    for part in path.split("."):
        inner = copy.copy(here.get_submodule(part))
        for kind in ("_modules", "_parameters", "_buffers"):
            inner.__dict__[kind] = dict(getattr(inner, kind))
        here._modules[part] = inner
        here = inner
    for kind in ("_modules", "_parameters", "_buffers"):
        here.__dict__[kind].pop(last, None)


def _free(owner: nn.Module, number: int) -> str:
    name = f"sde{number}"
    while hasattr(owner, name):
        name += "_"
    return name
