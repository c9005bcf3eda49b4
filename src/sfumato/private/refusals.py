"""What no private training can treat exactly, and what one pass cannot follow: refused by name, with a way out."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from sfumato.errors import NotCaptured, NotPrivateError

LOOP = "or train with a loop of single examples (`method='loop'`)."
SHARDED = {"FullyShardedDataParallel", "FSDPModule"}
REPLICATED = {"DistributedDataParallel", "DataParallel"}


def refuse_unsupported(module: nn.Module) -> None:
    """Refuse what can be told from a network without running it.

    Raises:
        NotPrivateError: if no way to train it here would be private, or exact.
        NotCaptured: if one pass cannot follow it, but a loop of single examples can.
    """
    for name, part in module.named_modules():
        place = name or "the network itself"
        _refuse_sharded(place, part)
        _refuse_batch_norm(place, part)
        _refuse_coupling(place, part)
    for name, parameter in module.named_parameters():
        _refuse_parameter(name, parameter)
    for name, part in module.named_modules():
        _refuse_unseen(name or "the network itself", part)


def _refuse_sharded(place: str, part: nn.Module) -> None:
    families = {kind.__name__ for kind in type(part).__mro__ if kind.__module__.startswith("torch.")}
    if families & SHARDED:
        raise NotPrivateError(
            f"Expected whole parameters, got {place} wrapped by FSDP, which shards them: no example's gradient is on "
            "one machine.",
            remedy="Give the network before wrapping; data-parallel training is done by the session (`torchrun`).",
        )
    if families & REPLICATED:
        raise NotPrivateError(
            f"Expected the network itself, got {place} wrapped by {type(part).__name__}, which averages gradients over "
            "examples before they are clipped.",
            remedy="Give `network.module`; data-parallel training is done by the session (`torchrun`).",
        )


def _refuse_batch_norm(place: str, part: nn.Module) -> None:
    if isinstance(part, _BatchNorm) and (part.training or part.running_mean is None):
        raise NotPrivateError(
            f"Expected every layer to keep examples apart, got {type(part).__name__} at `{place}`: in training mode it "
            "mixes the examples of a batch, so that no example's influence is bounded.",
            remedy="Replace it by GroupNorm (`sfumato doctor --fix`), or freeze it with `.eval()`.",
        )


def _refuse_coupling(place: str, part: nn.Module) -> None:
    """Layers that say of themselves that they couple examples (an adaptive solver)."""
    reason = getattr(part, "couples", "")
    if isinstance(reason, str) and reason:
        raise NotPrivateError(
            f"Expected every layer to keep examples apart, got {type(part).__name__} at `{place}`: {reason}.",
            remedy="Use a fixed-step integrator.",
        )


def _refuse_parameter(name: str, parameter: nn.Parameter) -> None:
    kind = type(parameter)
    if torch.nn.parameter.is_lazy(parameter):
        raise NotPrivateError(
            f"Expected parameters of known shape, got {name} of a lazy module.",
            remedy="Run the network once on a made-up batch first.",
        )
    if parameter.is_complex() and parameter.requires_grad:
        raise NotPrivateError(
            f"Expected real parameters, got {name} of type {parameter.dtype}: the noise is real.",
            remedy="Hold the real and the imaginary part in two parameters.",
        )
    if "DTensor" in {base.__name__ for base in kind.__mro__} or hasattr(parameter, "placements"):
        raise NotPrivateError(
            f"Expected whole parameters, got {name} as a DTensor, sharded over machines.",
            remedy="Give the network before sharding it.",
        )
    if _dispatches(kind) or parameter.layout is not torch.strided or parameter.device.type == "meta":
        raise NotPrivateError(
            f"Expected ordinary dense tensors as parameters, got {name} as {kind.__name__} "
            f"({parameter.layout}, {parameter.device.type}).",
            remedy="Turn it into a dense tensor, or freeze it.",
        )


def _dispatches(kind: type) -> bool:
    """Whether a tensor class brings its own arithmetic."""
    return any("__torch_dispatch__" in base.__dict__ for base in kind.__mro__ if base is not torch.Tensor)


def _refuse_unseen(place: str, part: nn.Module) -> None:
    if not any(parameter.requires_grad for parameter in part.parameters()):
        return
    if isinstance(part, torch.jit.ScriptModule):
        raise NotCaptured(
            f"Expected Python modules, got TorchScript at `{place}`: its operations cannot be seen.",
            remedy="Train the module that it was made from, and script the trained one, " + LOOP,
        )
    compiled = type(part).__name__ == "OptimizedModule" and type(part).__module__.startswith("torch._dynamo")
    if compiled or getattr(part, "_compiled_call_impl", None) is not None:
        raise NotCaptured(
            f"Expected modules that run eagerly, got a compiled one at `{place}`: its operations cannot be seen.",
            remedy="Train the module before `torch.compile`, and compile the trained one, " + LOOP,
        )


class Untouched:
    """Checks that a forward pass wrote neither to buffers nor to parameters.

    Args:
        module: before the pass.
        values: whether to compare the numbers, too, so that writing through `.data` is seen; costs a copy.
    """

    def __init__(self, module: nn.Module, *, values: bool = False) -> None:
        self.module = module
        self.before = {name: (tensor, tensor._version) for name, tensor in _tensors(module)}
        self.values = {name: tensor.detach().clone() for name, tensor in _tensors(module)} if values else {}

    def refuse_changes(self) -> None:
        """Raises: NotPrivateError, naming the tensor."""
        now = dict(_tensors(self.module))
        buffers = {name for name, _ in self.module.named_buffers(remove_duplicate=False)}
        for name in self.before.keys() | now.keys():
            tensor, version = self.before.get(name, (None, 0))
            same = tensor is not None and now.get(name) is tensor and tensor._version == version
            if same and (name not in self.values or _same(self.values[name], now[name])):
                continue
            kind, fix = (
                ("buffers", "Replace the layer (`sfumato doctor --fix`), or freeze it with `.eval()`.")
                if name in buffers
                else ("parameters", "Do not write to parameters in `forward`.")
            )
            raise NotPrivateError(
                f"Expected the forward pass to leave {kind} alone, got {name} written to: it would carry examples into "
                "the released state without noise.",
                remedy=fix,
            )


def _same(before: torch.Tensor, after: torch.Tensor) -> bool:
    if before.shape != after.shape:
        return False
    return bool(((before == after) | (before.isnan() & after.isnan())).all())


def _tensors(module: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    yield from module.named_parameters(remove_duplicate=False)
    yield from module.named_buffers(remove_duplicate=False)
