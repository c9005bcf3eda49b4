"""The branch of a residual block as a drift: F(h) / T."""

from __future__ import annotations

import torch
from torch import fx, nn

from sfumato.errors import UnsupportedModel
from sfumato.sde.finding.branches import Branch


def branch_drift(owner: nn.Module, branch: Branch, horizon: float) -> nn.Module:
    """A module of time and state that computes F(h) / T with the owner's own layers, under their names.

    Args:
        owner: whose forward the branch is from.
        branch: of its graph.
        horizon: T.
    """
    graph = fx.Graph()
    graph.placeholder("t")
    state = graph.placeholder("h")
    copies: dict[fx.Node, fx.Node] = {branch.state: state}
    for node in branch.inner:
        copies[node] = graph.node_copy(node, copies.__getitem__)
    graph.output(graph.call_function(per_time, (copies[branch.change], state, horizon)))
    return fx.GraphModule(owner, graph, class_name=f"{type(owner).__name__}Drift")


def per_time(change: torch.Tensor, state: torch.Tensor, horizon: float) -> torch.Tensor:
    """What a residual branch adds, divided by the horizon.

    Args:
        change: F(h), of the state's shape.
        state: h.
        horizon: T.

    Raises:
        UnsupportedModel: if the branch does not keep the shape of this state.
    """
    if change.shape != state.shape:
        raise UnsupportedModel(
            f"Expected a residual branch that keeps the state's shape {tuple(state.shape)}, got {tuple(change.shape)}.",
            remedy="Leave this block out of `where`.",
        )
    return change if horizon == 1 else change / horizon


class OpaqueDrift(nn.Module):
    """(B(h) - h) / T for a block B that is taken as it is.

    Args:
        block: module from a state to one of the same shape.
        horizon: T.
    """

    def __init__(self, block: nn.Module, horizon: float) -> None:
        super().__init__()
        self.block, self.horizon = block, horizon

    def forward(self, t: float, h: torch.Tensor) -> torch.Tensor:
        """Time and state to the change per time."""
        return per_time(self.block(h) - h, h, self.horizon)
