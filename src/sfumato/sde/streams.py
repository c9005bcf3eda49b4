"""Layers that draw random numbers: from named streams per model, so that every executor gives a model the same ones.

A model that answers at random is asked in one of three ways (`NOISE`): "fresh" noise for each record and query,
"common" noise that all records of a query share (whoever has the weights can do this), or "off", the drift alone.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import nn
from torch._C._functorch import is_batchedtensor

from sfumato.errors import UsageError
from sfumato.seeding import Name
from sfumato.validate import in_range, one_of

NOISE = ("fresh", "common", "off")


class NoiseDraws(Protocol):
    """Named streams of M models, as `sfumato.training.draws.Draws` has them."""

    @property
    def models(self) -> int:
        """M, the number of models in the stack."""
        ...

    def at(self, *names: Name) -> NoiseDraws:
        """The streams one level further down."""
        ...

    def gaussian(self, name: Name, *shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        """[M, *shape], standard normal; the first rows do not depend on how many rows are drawn."""
        ...

    def keep(self, name: Name, rate: float, *shape: int) -> torch.Tensor:
        """bool [M, *shape], True with probability `rate`."""
        ...


class StreamLayer(nn.Module):
    """Base of layers that draw: they are given streams before each pass, and count their calls within it.

    Attributes:
        draws: the layer's own streams; None draws from torch's global generator, outside of any training or audit.
        calls: of `forward` since the streams were given.
        noise: one of `NOISE`.
        progress: share of the training that lies behind, in [0, 1]; 1 once it is over.
    """

    answers_at_random: bool = False  # whether it draws in eval mode, too
    draws: NoiseDraws | None

    def __init__(self) -> None:
        super().__init__()
        self.draws, self.calls, self.noise, self.progress = None, 0, "fresh", 1.0

    def next_call(self) -> int:
        """The number of this call within the pass."""
        call, self.calls = self.calls, self.calls + 1
        return call


def stream_layers(model: nn.Module) -> list[StreamLayer]:
    """All layers that draw, each once, in the order of registration."""
    return [layer for layer in model.modules() if isinstance(layer, StreamLayer)]


def random_layers(model: nn.Module) -> list[StreamLayer]:
    """Those that draw in eval mode, too: with any of them, the same record gets another answer each time."""
    return [layer for layer in stream_layers(model) if layer.answers_at_random]


def set_noise(model: nn.Module, draws: NoiseDraws | None, noise: str = "fresh") -> None:
    """Give every layer that draws its own streams for one pass, and count its calls from 0 again.

    A layer's stream is named by its position among such layers, and by the number of the call within the pass.

    Args:
        model: a network, or a stack of them.
        draws: of the pass; None for torch's global generator.
        noise: one of `NOISE`; dropout layers mind it as little as they mind eval mode's queries.
    """
    one_of("noise", noise, NOISE)
    for position, layer in enumerate(stream_layers(model)):
        layer.draws = None if draws is None else draws.at("layer", position)
        layer.calls, layer.noise = 0, noise


def set_progress(model: nn.Module, done: float) -> None:
    """Tell layers whose noise or steps change while training how much of it lies behind, in [0, 1]."""
    in_range("done", done, 0, 1)
    for layer in stream_layers(model):
        layer.progress = done


def normals(layer: StreamLayer, call: int, name: int, like: torch.Tensor) -> torch.Tensor:
    """Standard normals of the shape, type and device of `like` [M * batch, ...], from the layer's streams.

    Inside `torch.func.vmap` a draw raises, as all random operations do there; noise is given as a tensor instead.

    Args:
        layer: whose; with `noise` "common", all rows of the batch get the same.
        call: number of the call within the pass.
        name: within the call, e.g. the step.
        like: float tensor, rows of M models one after the other.

    Raises:
        UsageError: if the rows do not divide into M models.
    """
    if layer.draws is None:
        rows = like[:1] if layer.noise == "common" else like
        return torch.randn_like(rows).expand_as(like)
    return _drawn(layer, layer.draws.at(call), name, like).reshape(like.shape).to(like.device)


def normals_of_steps(layer: StreamLayer, call: int, name: Name, like: torch.Tensor, steps: int) -> torch.Tensor:
    """The same for several steps at once, [steps, M * batch, ...]; needs streams.

    As with one step, the first rows of a batch do not depend on how many rows there are.
    """
    if layer.draws is None:
        raise UsageError("Expected a layer with streams, got one without.", remedy="Call `set_noise` with draws.")
    drawn = _drawn(layer, layer.draws.at(call), name, like, steps)  # [M, batch, steps, ...]
    return drawn.movedim(2, 0).reshape(steps, *like.shape).to(like.device)


def _drawn(layer: StreamLayer, draws: NoiseDraws, name: Name, like: torch.Tensor, *leading: int) -> torch.Tensor:
    """[M, batch, *leading, *like.shape[1:]]."""
    models, common = draws.models, layer.noise == "common"
    if is_batchedtensor(like):  # torch sees its own generators there, but not ours
        raise UsageError(
            "Expected no random numbers inside `torch.func.vmap`, got a layer that draws: all records would share "
            "them.",
            remedy="Give the noise as a tensor, or turn it off (`set_noise`).",
        )
    if like.shape[0] % models:
        raise UsageError(
            f"Expected a batch that divides into {models} models, got {like.shape[0]} rows.",
            remedy="Fold the batch as [models * batch, ...].",
        )
    rows, shape = like.shape[0] // models, (*leading, *like.shape[1:])
    drawn = draws.gaussian(name, 1 if common else rows, *shape, dtype=like.dtype)
    return drawn.expand(models, rows, *shape)
