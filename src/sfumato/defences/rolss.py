"""RoLSS: no skip connections, or weaker ones, where a network has its last stage."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import fx, nn

from sfumato.errors import UnsupportedModel
from sfumato.models.head import replace_layer
from sfumato.sde.finding.branches import FUNCTIONS, METHODS
from sfumato.sde.finding.observing import Call, at_rest, made_up, observe
from sfumato.sde.finding.tracing import Traced, traced, writes_its_own_forward
from sfumato.training.defence import Defence
from sfumato.validate import in_range, one_of

PLACES = ("last-stage", "last-block", "all")


@dataclass(frozen=True, kw_only=True)
class RoLSS(Defence):
    """Removes the skip connections of the last stage, or multiplies them by a number below 1 (Koh et al., 2024).

    A skip connection is what a block adds to what its layers compute: its input, or a projection of it by one layer at
    most. Blocks are found by following each module's own forward pass. The layers of the main branch and their names
    stay; a projection that is removed takes its weights along. It changes the network alone, so it stands under any
    update.

    What was found, by the abstract: skip connections help inversion, those of the last stage most; a network that
    trains with them and drops them afterwards (RepVGG) is no better off.

    Args:
        factor: of the skip connections, in [0, 1]; 0 removes them ("RoLSS"), others scale them ("SSF"), 1 keeps the
            network as it is.
        where: "last-stage" (the last run of blocks that give one shape: a network of a single stage loses all of its
            skip connections), "last-block" or "all".
    """

    name: ClassVar[str] = "rolss"
    reference: ClassVar[str] = "koh2024vulnerability"
    summary: ClassVar[str] = "Removes or weakens the skip connections of the last stage."
    bibtex: ClassVar[str] = """@inproceedings{koh2024vulnerability,
  author = {Koh, Jun Hao and Ho, Sy-Tuyen and Nguyen, Ngoc-Bao and Cheung, Ngai-Man},
  title = {On the Vulnerability of Skip Connections to Model Inversion Attacks},
  booktitle = {European Conference on Computer Vision},
  year = {2024}
}"""
    reconstruction: ClassVar[str] = (
        "What is known to us is the abstract: which connections go and that they may be scaled. The factor, the rule "
        "for what a stage is, and what becomes of projections are our own choice. Two-stage training is not covered, "
        "nor are networks that join by concatenation."
    )

    factor: float = 0.0
    where: str = "last-stage"

    def __post_init__(self) -> None:
        in_range("factor", self.factor, 0, 1)
        one_of("where", self.where, PLACES)

    def prepare(self, model: nn.Module) -> nn.Module:
        return self._without(model, made_up(model))

    def prepare_for(self, model: nn.Module, shape: tuple[int, ...]) -> nn.Module:
        return self._without(model, made_up(model, shape))

    def _without(self, model: nn.Module, example: torch.Tensor) -> nn.Module:
        calls = observe(model, example)
        skips, reasons = found_in(model, calls)
        chosen = chosen_of(skips, self.where)
        if not chosen:
            raise UnsupportedModel(
                f"Expected a network with skip connections for {self.name}, got none in {type(model).__name__} "
                f"({'; '.join(reasons[:4]) or 'none of its modules adds up two of its values'}).",
                remedy="Use a residual network (`resnet-8`, `resnet-20`, `resnet-18`, `residual-net`, `wide-resnet`).",
            )
        for owner in dict.fromkeys(skip.owner for skip in chosen):
            part, own = model.get_submodule(owner), [skip for skip in chosen if skip.owner == owner]
            refuse_untraceable(part, own, calls[owner])
            model = put(model, part, scaled(part, own, self.factor))
        return model


@dataclass(frozen=True, eq=False)
class Skip:
    """A sum in a module's own forward pass.

    Args:
        owner: name of the module.
        graph: of its forward pass.
        sum: the node that adds.
        skip: its operand with fewer layers.
        main: its other operand.
        shape: of the sum, without rows.
        finished: when the owner was over, as a running number.
    """

    owner: str
    graph: fx.Graph
    sum: fx.Node
    skip: fx.Node
    main: fx.Node
    shape: tuple[int, ...]
    finished: int


class Searched(NamedTuple):
    """Skip connections in the order in which they run, and why other modules have none."""

    skips: list[Skip]
    reasons: list[str]


def found_in(model: nn.Module, calls: dict[str, Call]) -> Searched:
    """Look at every module that writes its own forward pass.

    Args:
        model: any network.
        calls: of its modules, from `observe`.
    """
    skips: list[Skip] = []
    reasons: list[str] = []
    for name, part in model.named_modules():
        if name not in calls or not writes_its_own_forward(part) or not any(True for _ in part.parameters()):
            continue
        seen = traced(part, calls[name])
        if isinstance(seen, str):
            reasons.append(f"`{name or 'the network itself'}`: {seen}")
            continue
        skips += [skip for node in seen.graph.nodes if (skip := as_skip(name, part, seen, node, calls[name]))]
    return Searched(sorted(skips, key=lambda skip: skip.finished), reasons)


def as_skip(owner: str, part: nn.Module, seen: Traced, node: fx.Node, call: Call) -> Skip | None:
    """A node as a skip connection; None if it is no sum, or no side has at most one layer where the other has more.

    Args:
        owner: name of the module.
        part: the module.
        seen: its graph.
        node: of the graph.
        call: of the module.
    """
    adds = (node.op == "call_function" and node.target in FUNCTIONS) or (
        node.op == "call_method" and node.target in METHODS
    )
    operands = [value for value in node.args if isinstance(value, fx.Node) and value.name in seen.shapes]
    if not adds or node.kwargs or len(operands) != 2 or len(node.args) != 2 or node.name not in seen.shapes:
        return None
    shapes = {seen.shapes[each.name] for each in (node, *operands)}
    first, second = (behind(operand) for operand in operands)
    layers = [layers_in(part, own - other) for own, other in ((first, second), (second, first))]
    if len(shapes) != 1 or min(layers) > 1 or layers[0] == layers[1] or not first & second:
        return None
    skip, main = operands if layers[0] < layers[1] else operands[::-1]
    return Skip(owner, seen.graph, node, skip, main, seen.shapes[node.name][1:], call.finished)


def behind(node: fx.Node) -> set[fx.Node]:
    """The node and everything that it is computed from."""
    found: set[fx.Node] = set()
    todo = [node]
    while todo:
        here = todo.pop()
        if here not in found:
            found.add(here)
            todo.extend(here.all_input_nodes)
    return found


def layers_in(part: nn.Module, nodes: set[fx.Node]) -> int:
    """How many weights of two axes or more these nodes hold: of linear layers, convolutions and the like."""
    modules = [part.get_submodule(str(node.target)) for node in nodes if node.op == "call_module"]
    own = dict(part.named_parameters())
    weights = [own[str(node.target)] for node in nodes if node.op == "get_attr" and str(node.target) in own]
    weights += [weight for module in modules for weight in module.parameters()]
    return sum(weight.dim() > 1 for weight in weights)


def chosen_of(skips: Sequence[Skip], where: str) -> list[Skip]:
    """Those of `where`, one of `PLACES`."""
    if where != "last-stage":
        return list(skips if where == "all" else skips[-1:])
    first = len(skips)
    while first and skips[first - 1].shape == skips[-1].shape:
        first -= 1
    return list(skips[first:])


def scaled(part: nn.Module, skips: Sequence[Skip], factor: float) -> nn.Module:
    """A module with the layers of `part`, whose forward pass has these skip connections times `factor`; 0 removes them.

    Args:
        part: stays as it is.
        skips: of its graph.
        factor: in [0, 1].
    """
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    graph.output(graph.graph_copy(skips[0].graph, copies))
    for each in skips:
        total, skip, main = (copies[node] for node in (each.sum, each.skip, each.main))
        if factor == 0:
            total.replace_all_uses_with(main)
            continue
        with graph.inserting_before(total):
            weaker = graph.call_function(operator.mul, (skip, factor))
        total.replace_input_with(skip, weaker)
    made = fx.GraphModule(part, graph, class_name=f"Skipless{type(part).__name__}")
    made.graph.eliminate_dead_code()
    made.delete_all_unused_submodules()
    made.recompile()
    made.training = part.training
    return made


def refuse_untraceable(part: nn.Module, skips: Sequence[Skip], call: Call) -> None:
    """Refuse a module of whose forward pass the graph computes something else.

    Args:
        part: the module.
        skips: of its graph.
        call: how it was called, and what it gave.
    """
    twin = scaled(part, skips, 1.0)
    with at_rest(twin):
        output = twin(*call.args, **call.kwargs)
    if not (isinstance(output, torch.Tensor) and torch.equal(output, call.output)):
        raise UnsupportedModel(
            f"Expected {type(part).__name__} to compute what its graph says, got something else: it hides a state, or "
            "writes to its input.",
            remedy="Write its forward pass without either.",
        )


def put(model: nn.Module, old: nn.Module, new: nn.Module) -> nn.Module:
    """`model` with `new` in every place of `old`, changed in place."""
    for name, part in list(model.named_modules(remove_duplicate=False)):
        if part is old:
            model = replace_layer(model, name, new)
    return model
