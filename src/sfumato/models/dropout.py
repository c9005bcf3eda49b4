"""Dropout whose masks come from named streams, so that every executor gives a model the same masks."""

from __future__ import annotations

import torch
from torch import nn

from sfumato.errors import UnsupportedModel, UsageError
from sfumato.models.head import replace_layer
from sfumato.sde.streams import NoiseDraws, StreamLayer
from sfumato.validate import in_range

CHANNEL_WISE = (nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)


class StreamDropout(StreamLayer):
    """Dropout (Srivastava et al., 2014) on a folded batch [M * batch, ...] of M models.

    While training, each value (or each whole channel) is zero with probability `p` and divided by 1 - p otherwise.
    In eval mode it is the identity. `set_noise` must give it streams before each training step.

    Args:
        p: probability of a zero, in [0, 0.99].
        channel_wise: drop whole channels of [rows, channels, ...].
    """

    def __init__(self, p: float, *, channel_wise: bool = False) -> None:
        super().__init__()
        in_range("p", p, 0, 0.99)
        self.p, self.channel_wise = p, channel_wise

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[M * batch, ...] to the same shape.

        Raises:
            UsageError: while training without draws, or with rows that do not divide into M models.
            UnsupportedModel: channel-wise on an input without a channel axis and another one behind it.
        """
        if not self.training or self.p == 0:
            return x
        keep = self._mask(x)
        return x * keep.to(device=x.device, dtype=x.dtype) / (1 - self.p)

    def _mask(self, x: torch.Tensor) -> torch.Tensor:
        draws = _drawn(self.draws, x.shape[0])
        shape = self._mask_shape(x)
        mask = draws.keep(self.next_call(), 1 - self.p, x.shape[0] // draws.models, *shape)
        return mask.reshape(x.shape[0], *shape)

    def _mask_shape(self, x: torch.Tensor) -> tuple[int, ...]:
        if not self.channel_wise:
            return tuple(x.shape[1:])
        if x.dim() < 3:
            raise UnsupportedModel(
                f"Expected [rows, channels, ...] for channel-wise dropout, got shape {tuple(x.shape)}.",
                remedy="Use `nn.Dropout` there.",
            )
        return (x.shape[1], *(1 for _ in x.shape[2:]))

    def extra_repr(self) -> str:
        """The rate, for `print(model)`."""
        return f"p={self.p}, channel_wise={self.channel_wise}"


def replace_dropout(model: nn.Module) -> nn.Module:
    """The network with every `nn.Dropout`, `nn.Dropout1d`, `2d` and `3d` replaced by `StreamDropout`, in place.

    A layer that is used in several places stays one layer. Returns the model, which is another object only if the
    model itself was a dropout layer.

    Raises:
        UnsupportedModel: if a layer draws random numbers in a way that cannot be replaced.
    """
    swapped: dict[int, StreamDropout] = {}
    for name, layer in list(model.named_modules(remove_duplicate=False)):
        _refuse_hidden_randomness(name, layer)
        if isinstance(layer, (nn.Dropout, *CHANNEL_WISE)):
            stream = swapped.setdefault(id(layer), _twin(layer))
            model = replace_layer(model, name, stream)
    return model


def _twin(layer: nn.Module) -> StreamDropout:
    rate = float(getattr(layer, "p"))  # noqa: B009 - common to all dropout layers, but not to `nn.Module`
    stream = StreamDropout(rate, channel_wise=isinstance(layer, CHANNEL_WISE))
    return stream.train(layer.training)


def _drawn(draws: NoiseDraws | None, rows: int) -> NoiseDraws:
    if draws is None:
        raise UsageError(
            "Expected random streams for dropout in training mode, got none.",
            remedy="Call `set_noise(model, draws)` before each training step, or `model.eval()` to query the model.",
        )
    if rows % draws.models:
        raise UsageError(
            f"Expected a batch that divides into {draws.models} models, got {rows} rows.",
            remedy="Fold the batch as [models * batch, ...].",
        )
    return draws


def _refuse_hidden_randomness(name: str, layer: nn.Module) -> None:
    attention = isinstance(layer, (nn.MultiheadAttention, nn.RNNBase)) and layer.dropout > 0
    unknown = isinstance(layer, (nn.AlphaDropout, nn.FeatureAlphaDropout, nn.RReLU, nn.FractionalMaxPool2d))
    if attention or unknown:
        raise UnsupportedModel(
            f"Expected random layers of the kinds nn.Dropout, 1d, 2d or 3d, got {type(layer).__name__} at "
            f"`{name or 'the model itself'}`, which draws its own random numbers.",
            remedy="Replace it, or set its dropout to 0 and put an `nn.Dropout` behind it.",
        )
