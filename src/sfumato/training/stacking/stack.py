"""A stack of M networks: folded, probed against the single networks, and never used where it would differ."""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import nn

from sfumato.errors import UnsupportedModel
from sfumato.sde.streams import StreamLayer, set_noise
from sfumato.training.draws import Draws
from sfumato.training.stacking.layers import RULES, StackedConv2d

COMPARED = 4
TOLERANCE = {torch.float32: 2e-4, torch.float64: 1e-9}


@dataclass(frozen=True, eq=False)
class ModelStack:
    """M networks that train side by side.

    Args:
        module: takes folded batches [M * batch, *shape]; for M = 1 the network itself.
        models: M.
        kernels: layer name -> kernel chosen for it; stored with every result of the stack.
    """

    module: nn.Module
    models: int
    kernels: Mapping[str, str] = field(default_factory=dict)

    def state(self, model: int) -> dict[str, torch.Tensor]:
        """A copy of the state of one network, under the network's own names."""
        tensors = self.module.state_dict()
        return {k: (v if self.models == 1 else v[model]).detach().clone() for k, v in tensors.items()}

    def load(self, states: Sequence[Mapping[str, torch.Tensor]]) -> None:
        """Put the states of all M networks back."""
        joined = {k: states[0][k] if self.models == 1 else torch.stack([s[k] for s in states]) for k in states[0]}
        self.module.load_state_dict(joined)


def build_stack(
    networks: Sequence[nn.Module], probe: torch.Tensor, draws: Draws, kernels: Mapping[str, str] | None = None
) -> ModelStack:
    """Stack networks of one architecture and show that the stack computes what they compute.

    Args:
        networks: M networks; with M = 1 the network is used as it is.
        probe: float [b, *shape], a batch of records: kernels are timed on all of it, outputs compared on the first few.
        draws: streams of the M models, for dropout during the probe.
        kernels: kernels by layer name, from an earlier choice; measured here where not given.

    Raises:
        UnsupportedModel: if a layer has no stacked form, or the stack's outputs differ from the networks' own (a
            forward pass that mixes records, draws its own random numbers, or shares parameters between layers).
    """
    if len(networks) == 1:
        return ModelStack(networks[0], 1)
    _refuse_shared_parameters(networks[0])
    module = _fold(list(networks), "", {})
    chosen = _set_kernels(module, probe.repeat(len(networks), *[1] * (probe.dim() - 1)), kernels or {}, draws)
    _compare(module, networks, probe[:COMPARED], draws)
    return ModelStack(module, len(networks), chosen)


def _fold(layers: list[nn.Module], path: str, seen: dict[int, nn.Module]) -> nn.Module:
    first = layers[0]
    if id(first) in seen:
        return seen[id(first)]
    if getattr(first, "couples", ""):
        raise UnsupportedModel(
            f"Expected layers that keep the records of a stack apart, got `{path or 'the top'}`: {first.couples}.",
            remedy="These models are trained one by one instead.",
        )
    if type(first) in RULES:
        folded: nn.Module = RULES[type(first)](layers)
    elif isinstance(first, StreamLayer) or not _own_tensors(first):
        folded = copy.copy(first)
        folded._modules = {}
        seen[id(first)] = folded
        for name, child in first._modules.items():  # not `named_children`, which skips a layer's second name
            if child is None:
                folded._modules[name] = None
                continue
            children = [layer.get_submodule(name) for layer in layers]
            folded._modules[name] = _fold(children, f"{path}.{name}".lstrip("."), seen)
    else:
        raise UnsupportedModel(
            f"Expected layers with a stacked form ({', '.join(k.__name__ for k in RULES)}), got "
            f"{type(first).__name__} at `{path or 'the top'}`.",
            remedy="These models are trained one by one instead.",
        )
    seen[id(first)] = folded
    return folded


def _own_tensors(layer: nn.Module) -> bool:
    own = [*layer.parameters(recurse=False), *layer.buffers(recurse=False)]
    return bool(own)


def _refuse_shared_parameters(network: nn.Module) -> None:
    names: dict[int, str] = {}
    for name, value in network.named_parameters(remove_duplicate=False):
        owner = name.rpartition(".")[0]
        before = names.setdefault(id(value), owner)
        if before != owner and network.get_submodule(before) is not network.get_submodule(owner):
            raise UnsupportedModel(
                f"Expected parameters of one layer each, got one shared by `{before}` and `{owner}`.",
                remedy="These models are trained one by one instead.",
            )


def _set_kernels(module: nn.Module, x: torch.Tensor, given: Mapping[str, str], draws: Draws) -> dict[str, str]:
    layers = {n: layer for n, layer in module.named_modules() if isinstance(layer, StackedConv2d)}
    if not layers:
        return {}
    inputs: dict[str, torch.Tensor] = {}
    hooks = [
        layer.register_forward_hook(lambda _, args, __, name=name: inputs.update({name: args[0].detach()}))
        for name, layer in layers.items()
    ]
    set_noise(module, draws.at("probe"))
    with torch.no_grad():
        module.eval()(x)
    for hook in hooks:
        hook.remove()
    chosen: dict[str, str] = {}
    for name, layer in layers.items():
        known = given.get(name)
        chosen[name] = known if known is not None and known in layer.kernels() else _fastest(layer, inputs[name])
        layer.kernel = chosen[name]
    return chosen


def _fastest(layer: StackedConv2d, x: torch.Tensor) -> str:
    times: dict[str, float] = {}
    for kernel in layer.kernels():
        layer.kernel = kernel
        times[kernel] = min(_forward_backward_seconds(layer, x) for _ in range(2))
    return min(times, key=lambda kernel: times[kernel])


def _forward_backward_seconds(layer: nn.Module, x: torch.Tensor) -> float:
    x = x.clone().requires_grad_(True)
    start = time.perf_counter()
    layer(x).sum().backward()
    seconds = time.perf_counter() - start
    layer.zero_grad(set_to_none=True)
    return seconds


def _compare(module: nn.Module, networks: Sequence[nn.Module], probe: torch.Tensor, draws: Draws) -> None:
    """One pass in eval and one in train mode; buffers written on the way are put back.

    Each model sees other values: with equal ones, a forward pass that mixes the records of all models would go unseen.
    """
    probes = [probe * (1 - m / (2 * len(networks))) for m in range(len(networks))]
    for training in (False, True):
        before = [copy.deepcopy(dict(network.named_buffers())) for network in networks]
        stacked_before = copy.deepcopy(dict(module.named_buffers()))
        with torch.no_grad():
            folded = _run(module, torch.cat(probes), draws, training)
            alone = [
                _run(network, own, Draws((seed,), draws.path), training)
                for network, own, seed in zip(networks, probes, draws.seeds, strict=True)
            ]
            for network, buffers in zip(networks, before, strict=True):
                _restore(network, buffers)
            _restore(module, stacked_before)
        expected = torch.cat(alone)
        scale = expected.abs().max().clamp(min=1.0)
        if folded.shape != expected.shape or not (folded - expected).abs().max() <= TOLERANCE[probe.dtype] * scale:
            raise UnsupportedModel(
                f"Expected the stack to compute what its {len(networks)} networks compute, got different outputs in "
                f"{'train' if training else 'eval'} mode: the forward pass mixes records or draws its own randomness.",
                remedy="These models are trained one by one instead.",
            )


def _run(network: nn.Module, x: torch.Tensor, draws: Draws, training: bool) -> torch.Tensor:
    set_noise(network, draws.at("probe"))
    return network.train(training)(x)


def _restore(network: nn.Module, buffers: Mapping[str, torch.Tensor]) -> None:
    for name, value in network.named_buffers():
        value.copy_(buffers[name])
