"""One module's own forward as a graph in which its children are single operations."""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import fx, nn
from torch.utils._pytree import tree_leaves

from sfumato.sde.finding.observing import Call, at_rest

UNTRACED = "torch.nn"


class Traced(NamedTuple):
    """A graph, and the shape of each of its values that is a tensor, by node name."""

    graph: fx.Graph
    shapes: dict[str, tuple[int, ...]]


class _OwnForward(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return True


class _Shapes(fx.Interpreter):
    """Runs the graph and keeps the shapes."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.shapes: dict[str, tuple[int, ...]] = {}

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if isinstance(value, torch.Tensor):
            self.shapes[n.name] = tuple(value.shape)
        return value


def writes_its_own_forward(module: nn.Module) -> bool:
    """Whether there is something to trace: torch's own layers and containers are single operations."""
    return not type(module).__module__.startswith(UNTRACED) and type(module).forward is not nn.Module.forward


def traced(module: nn.Module, call: Call) -> Traced | str:
    """The graph of the module's own forward, or why there is none.

    Args:
        module: whose children stay single operations.
        call: how it was called; arguments that are no tensors are taken as constants.
    """
    if isinstance(module, torch.jit.ScriptModule):
        return "it is TorchScript, which torch.fx does not follow"
    try:
        given = _given(module, call)
        fixed = _constants(given)
        found = [_graph(module, fixed, training=training) for training in (False, True)]
        if str(found[0]) != str(found[1]):
            return "its forward is another one in training mode (it reads `self.training`), and a trace would fix one"
        shapes = _Shapes(fx.GraphModule(module, found[0]))
        with at_rest(module):
            shapes.run(*given.values())
    except Exception as error:
        return f"torch.fx does not follow its forward ({type(error).__name__}: {_first_line(error)})"
    return Traced(found[0], shapes.shapes)


def _graph(module: nn.Module, fixed: dict[str, Any], *, training: bool) -> fx.Graph:
    modes = [(part, part.training) for part in module.modules()]
    for part, _ in modes:
        part.training = training
    try:
        graph = _OwnForward().trace(module, concrete_args=fixed or None)
    finally:
        for part, mode in modes:
            part.training = mode
    for node in reversed(graph.nodes):
        if node.target is operator.getitem and not node.users:
            graph.erase_node(node)  # a part of an output that is not used: attention weights, say
    names = list(inspect.signature(module.forward).parameters)
    for node, name in zip((node for node in graph.nodes if node.op == "placeholder"), names, strict=True):
        if not str(node.target).startswith("*"):
            node.target = name  # torch.fx numbers those that are constants, and callers may use keywords
    return graph


def _given(module: nn.Module, call: Call) -> dict[str, Any]:
    """Values by the name of the parameter of `forward`, defaults included; catch-alls must be empty."""
    forward: Callable[..., Any] = module.forward
    signature = inspect.signature(forward)
    bound = signature.bind(*call.args, **call.kwargs)
    bound.apply_defaults()
    rest = [name for name, kind in signature.parameters.items() if kind.kind in (kind.VAR_POSITIONAL, kind.VAR_KEYWORD)]
    if any(bound.arguments[name] for name in rest):
        raise TypeError(f"it is called with more arguments than it names (`{rest[0]}`)")
    return {name: value for name, value in bound.arguments.items() if name not in rest}


def _constants(given: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in given.items() if not any(map(torch.is_tensor, tree_leaves(value)))}


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", maxsplit=1)[0].rstrip(".")
