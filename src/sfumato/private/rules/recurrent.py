"""LSTM, GRU and plain recurrent layers, unrolled from linear maps: the fused kernels do not show the gates' gradients.

The input projection runs for all steps at once, the hidden one step by step; each step's linear map is one more use of
the same weight. A private pass takes 1.2 to 2.3 times a plain one with the fused kernel (one CPU thread, 50 and 100
steps, 128 and 256 hidden units: LSTM 2.3 and 1.7, GRU 1.6 and 1.2, plain recurrent 1.6).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from sfumato.errors import NotCaptured
from sfumato.private.rules.base import Function, Rule

VF = torch._C._VariableFunctions  # type: ignore[attr-defined] - where torch keeps its recurrent kernels
Step = Callable[[Tensor, "State", "Weights"], "State"]


class Weights(NamedTuple):
    """Of one layer in one direction; biases and projection may be missing."""

    input: Tensor
    hidden: Tensor
    input_bias: Tensor | None = None
    hidden_bias: Tensor | None = None
    projection: Tensor | None = None


class State(NamedTuple):
    """After a step: what the layer gives, and the LSTM's cell."""

    hidden: Tensor
    cell: Tensor | None = None


class Options(NamedTuple):
    """The arguments of a recurrent kernel behind its weights."""

    biases: bool
    layers: int
    dropout: float
    training: bool
    bidirectional: bool
    batch_first: bool


class Recurrent(Rule):
    """`lstm`, `gru`, `rnn_tanh` and `rnn_relu` of padded sequences."""

    name = "recurrent"
    composite = True

    @classmethod
    def functions(cls) -> tuple[Function, ...]:
        return (VF.lstm, VF.gru, VF.rnn_tanh, VF.rnn_relu)

    def expand(self, function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if kwargs or not isinstance(args[3], bool):
            raise NotCaptured(
                f"Expected padded sequences at {function.__name__}, got packed ones: their rows are mixed by length.",
                remedy="Give the padded tensor and read each row at its length, or train with a loop of single "
                "examples (`method='loop'`).",
            )
        x, start, weights, options = args[0], args[1], args[2], Options(*args[3:])
        lstm = function is VF.lstm
        hidden, cell = (start[0], start[1]) if lstm else (start, None)
        output, ends = _layers(x, hidden, cell, _grouped(weights, options, hidden, cell), options, STEPS[function])
        last = torch.stack([end.hidden for end in ends])
        return (
            (output, last, torch.stack([end.cell for end in ends if end.cell is not None])) if lstm else (output, last)
        )


class RecurrentCell(Rule):
    """`lstm_cell`, `gru_cell`, `rnn_tanh_cell` and `rnn_relu_cell`."""

    name = "recurrent-cell"
    composite = True

    @classmethod
    def functions(cls) -> tuple[Function, ...]:
        return (VF.lstm_cell, VF.gru_cell, VF.rnn_tanh_cell, VF.rnn_relu_cell)

    def expand(self, function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        x, start = args[0], args[1]
        weights = Weights(*args[2:], **kwargs)
        state = State(*start) if function is VF.lstm_cell else State(start)
        after = STEPS[function](_projected(x, weights, STEPS[function]), state, weights)
        return tuple(after) if function is VF.lstm_cell else after.hidden


def lstm_step(projected: Tensor, state: State, weights: Weights) -> State:
    """One step of an LSTM (Hochreiter and Schmidhuber, 1997; projection: Sak et al., 2014, arXiv 1402.1128).

    Args:
        projected: of the input, both biases added, [rows, 4 * cell].
        state: before.
        weights: of the layer.
    """
    gates = projected + F.linear(state.hidden, weights.hidden)
    assert state.cell is not None
    with torch._C.DisableTorchFunction():  # no private tensor from here on
        i, f, g, o = gates.chunk(4, dim=-1)
        cell = f.sigmoid() * state.cell + i.sigmoid() * g.tanh()
        hidden = o.sigmoid() * cell.tanh()
    return State(hidden if weights.projection is None else F.linear(hidden, weights.projection), cell)


def gru_step(projected: Tensor, state: State, weights: Weights) -> State:
    """One step of a GRU (Cho et al., 2014, arXiv 1406.1078), the reset gate behind the hidden map as in cuDNN."""
    again = F.linear(state.hidden, weights.hidden, weights.hidden_bias)
    with torch._C.DisableTorchFunction():
        (r, z, n), (hr, hz, hn) = projected.chunk(3, dim=-1), again.chunk(3, dim=-1)
        update = (z + hz).sigmoid()
        new = (n + (r + hr).sigmoid() * hn).tanh()
        return State(new + update * (state.hidden - new))


def tanh_step(projected: Tensor, state: State, weights: Weights) -> State:
    """One step of an Elman network with tanh."""
    return State((projected + F.linear(state.hidden, weights.hidden)).tanh())


def relu_step(projected: Tensor, state: State, weights: Weights) -> State:
    """One step of an Elman network with ReLU."""
    return State((projected + F.linear(state.hidden, weights.hidden)).relu())


STEPS: dict[Function, Step] = {
    VF.lstm: lstm_step,
    VF.lstm_cell: lstm_step,
    VF.gru: gru_step,
    VF.gru_cell: gru_step,
    VF.rnn_tanh: tanh_step,
    VF.rnn_tanh_cell: tanh_step,
    VF.rnn_relu: relu_step,
    VF.rnn_relu_cell: relu_step,
}


def _projected(x: Tensor, weights: Weights, step: Step) -> Tensor:
    """The input's part of the gates, for all steps at once; the GRU adds its hidden bias inside the step."""
    projected = F.linear(x, weights.input, weights.input_bias)
    return projected if weights.hidden_bias is None or step is gru_step else projected + weights.hidden_bias


def _grouped(weights: Sequence[Tensor], options: Options, hidden: Tensor, cell: Tensor | None) -> list[Weights]:
    """By layer and direction, from torch's flat list: input, hidden, [two biases], [projection]."""
    projected = cell is not None and cell.shape[-1] != hidden.shape[-1]
    size = 2 + 2 * options.biases + projected
    found = []
    for start in range(0, len(weights), size):
        part = list(weights[start : start + size])
        biases = part[2:4] if options.biases else [None, None]
        found.append(Weights(part[0], part[1], biases[0], biases[1], part[-1] if projected else None))
    return found


def _layers(
    x: Tensor, hidden: Tensor, cell: Tensor | None, weights: Sequence[Weights], options: Options, step: Step
) -> tuple[Tensor, list[State]]:
    """All layers; time first inside."""
    x = x.transpose(0, 1) if options.batch_first and x.dim() == 3 else x
    directions = 1 + options.bidirectional
    ends: list[State] = []
    for layer in range(options.layers):
        outputs = []
        for index in range(layer * directions, (layer + 1) * directions):
            state = State(hidden[index], None if cell is None else cell[index])
            output, end = _unrolled(x, state, weights[index], step, backwards=index % directions == 1)
            outputs.append(output)
            ends.append(end)
        x = torch.cat(outputs, dim=-1) if directions == 2 else outputs[0]
        if options.dropout and options.training and layer < options.layers - 1:
            x = F.dropout(x, options.dropout, training=True)
    return (x.transpose(0, 1) if options.batch_first and x.dim() == 3 else x), ends


def _unrolled(x: Tensor, state: State, weights: Weights, step: Step, *, backwards: bool) -> tuple[Tensor, State]:
    """One layer in one direction: [time, rows, outputs], and the state at its end."""
    steps = _projected(x, weights, step).unbind(0)
    outputs = []
    for projected in reversed(steps) if backwards else steps:
        state = step(projected, state, weights)
        outputs.append(state.hidden)
    return torch.stack(outputs[::-1] if backwards else outputs), state
