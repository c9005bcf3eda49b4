"""Sums u + F(u) in a graph: where the state is, and what computes the change."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import fx, nn

from sfumato.sde.finding.tracing import Traced

FUNCTIONS = {operator.add, operator.iadd, torch.add}
METHODS = {"add", "add_"}
LEAVES = ("placeholder", "get_attr", "output")


class Branch(NamedTuple):
    """A sum of a state and what was computed from it.

    Attributes:
        sum: the node that adds.
        state: u.
        change: F(u).
        inner: the nodes of F in the order of the graph, `change` included; parameters that it uses, too.
        shape: of one state.
    """

    sum: fx.Node
    state: fx.Node
    change: fx.Node
    inner: tuple[fx.Node, ...]
    shape: tuple[int, ...]


def branches(module: nn.Module, found: Traced) -> tuple[list[Branch], list[str]]:
    """All residual branches of a module's own forward, and why other sums are none.

    Args:
        module: that was traced.
        found: its graph.
    """
    good: list[Branch] = []
    reasons: list[str] = []
    for node in found.graph.nodes:
        operands = _operands(node, found)
        if operands is None:
            continue
        result = _branch(module, found, node, operands)
        if isinstance(result, Branch):
            good.append(result)
        else:
            reasons.append(result)
    return good, reasons


def _operands(node: fx.Node, found: Traced) -> tuple[fx.Node, fx.Node] | None:
    """The two tensors that a node adds, or None for another operation."""
    adds = (node.op == "call_function" and node.target in FUNCTIONS) or (
        node.op == "call_method" and node.target in METHODS
    )
    tensors = [value for value in node.args if isinstance(value, fx.Node) and value.name in found.shapes]
    computed = [value for value in tensors if value.op != "get_attr"]
    if not adds or len(node.args) != 2 or len(computed) != 2 or node.name not in found.shapes:
        return None
    return computed[0], computed[1]


def _branch(module: nn.Module, found: Traced, node: fx.Node, operands: tuple[fx.Node, fx.Node]) -> Branch | str:
    if node.kwargs:
        return f"`{node.name}` adds with a factor"
    tried = [_with_state(module, found, node, *pair) for pair in (operands, operands[::-1])]
    for result in tried:
        if isinstance(result, Branch):
            return result
    return next((why for why in tried if isinstance(why, str) and why), _apart(found, operands))


def _apart(found: Traced, operands: tuple[fx.Node, fx.Node]) -> str:
    for operand in operands:
        if operand.op == "call_module" and operand.all_input_nodes:
            before = found.shapes.get(operand.all_input_nodes[0].name)
            if before is not None and before != found.shapes[operand.name]:
                return "the shape changes, and the shortcut is a projection"
    return "neither side of the sum is computed from the other (the shortcut computes something, too)"


def _with_state(module: nn.Module, found: Traced, node: fx.Node, state: fx.Node, change: fx.Node) -> Branch | str:
    """The branch in which `state` is u; else a reason, "" where the change is not computed from it at all."""
    start = _through(module, state)
    inner, others = _closure(change, start)
    if start not in {source for inside in inner for source in inside.all_input_nodes} or change is start:
        return ""
    if others:
        return f"the branch also depends on `{others[0].name}`"
    shape = found.shapes[node.name]
    if not shape == found.shapes[start.name] == found.shapes[change.name]:
        return f"the sum broadcasts {found.shapes[start.name]} and {found.shapes[change.name]}"
    if not any(_has_weights(module, inside) for inside in inner):
        return "the branch has no weights"
    computed = {inside for inside in inner if inside.op != "get_attr"}
    if any(user not in computed and user is not node for inside in computed for user in _real_users(module, inside)):
        return "what the branch computes is used elsewhere, too"
    order = {each: position for position, each in enumerate(found.graph.nodes)}
    return Branch(node, start, change, tuple(sorted(inner, key=order.__getitem__)), shape[1:])


def _closure(change: fx.Node, start: fx.Node) -> tuple[set[fx.Node], list[fx.Node]]:
    """Nodes from which `change` is computed, back to `start`; and the graph's inputs that it also depends on."""
    inner: set[fx.Node] = set()
    others: list[fx.Node] = []
    todo = [change]
    while todo:
        node = todo.pop()
        if node is start or node in inner:
            continue
        if node.op == "placeholder":
            others.append(node)
            continue
        inner.add(node)
        todo.extend(node.all_input_nodes)
    return inner, others


def _through(module: nn.Module, node: fx.Node) -> fx.Node:
    """What stands before identities."""
    while node.op == "call_module" and _passes(module.get_submodule(str(node.target))):
        node = node.all_input_nodes[0]
    return node


def _passes(part: nn.Module) -> bool:
    return type(part) is nn.Identity or (type(part) is nn.Sequential and all(_passes(layer) for layer in part))


def _real_users(module: nn.Module, node: fx.Node) -> Sequence[fx.Node]:
    """Who reads a value, through identities."""
    found: list[fx.Node] = []
    for user in node.users:
        same = user.op == "call_module" and _passes(module.get_submodule(str(user.target)))
        found += [user, *(_real_users(module, user))] if same else [user]
    return found


def _has_weights(module: nn.Module, node: fx.Node) -> bool:
    if node.op == "call_module":
        return any(True for _ in module.get_submodule(str(node.target)).parameters())
    return node.op == "get_attr" and str(node.target) in dict(module.named_parameters())
