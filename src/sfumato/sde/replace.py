"""Drop-in replacement: residual blocks of a network become solvers of a neural ODE or SDE with the same weights.

A block h + F(h) is one Euler step of length T of dh = F(h) / T dt. Nothing here gives a guarantee: weights that were
trained on private records keep what they leaked, whatever is put around them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from sfumato.errors import UnsupportedModel, UsageError
from sfumato.private.fingerprint import fingerprint_of
from sfumato.private.replacing import Replaced, repair
from sfumato.sde.block import Schedule, SDEBlock
from sfumato.sde.diffusions.base import DiffusionField
from sfumato.sde.diffusions.choice import diffusion_named
from sfumato.sde.finding.drift import OpaqueDrift
from sfumato.sde.finding.observing import Call, made_up, observe
from sfumato.sde.finding.opaque import OpaqueBlock
from sfumato.sde.finding.search import Found, Missed, Search, search
from sfumato.sde.finding.surgery import Rebuilt, computes_the_same, rebuilt
from sfumato.sde.integrate import Grid
from sfumato.sde.integrators.base import Integrator
from sfumato.sde.integrators.choice import integrator_named

__all__ = ["Missed", "Replacement", "Swapped", "replace"]

PLACES = ("last-block", "last-stage", "all")
FROZEN_NORM = "batch normalisation in eval mode stays: its statistics are fixed, and must come from public data"


@dataclass(frozen=True)
class Swapped:
    """A block that is a solver now.

    Args:
        place: name of the module whose forward had the sum; with a number in brackets where it had several.
        block: name of the solver in the network as it is now.
        shape: of one state.
        opaque: whether the module was taken as it is, because it was named and has no sum that can be seen.
    """

    place: str
    block: str
    shape: tuple[int, ...]
    opaque: bool = False


@dataclass(frozen=True, eq=False)
class Replacement:
    """A network with solvers, what was swapped and what was not.

    Args:
        model: the network; its other modules and all weights are those of the given one.
        swapped: in the order in which they run.
        missed: what was looked at and left, with the reason.
        norms: normalisation layers that were converted.
        notes: what a reader must know beside.
    """

    model: nn.Module
    swapped: tuple[Swapped, ...]
    missed: tuple[Missed, ...]
    norms: tuple[Replaced, ...] = ()
    notes: tuple[str, ...] = field(default=())

    def blocks(self) -> list[SDEBlock]:
        """The solvers, in the order in which they run."""
        found = [self.model.get_submodule(each.block) for each in self.swapped]
        return [block for block in found if isinstance(block, SDEBlock)]

    def rows(self) -> list[tuple[str, str, str]]:
        """A table of place, what happened, and details."""
        lines = [(s.place, "swapped", f"state {s.shape}{', taken as it is' * s.opaque}") for s in self.swapped]
        lines += [(norm.place, "converted", f"{norm.before} is {norm.after}") for norm in self.norms]
        lines += [(missed.place, "left", missed.reason) for missed in self.missed]
        return lines + [("", "note", note) for note in self.notes]

    def __str__(self) -> str:
        table = [("place", "what", "details"), *self.rows()]
        widths = [max(len(row[column]) for row in table) for column in range(2)]
        return "\n".join(f"{a:{widths[0]}}  {b:{widths[1]}}  {c}".rstrip() for a, b, c in table)


def replace(
    model: nn.Module,
    where: str | Sequence[str] = "last-block",
    *,
    example: Any = None,
    steps: int = 6,
    horizon: float = 1.0,
    integrator: str | Integrator | None = None,
    diffusion: str | DiffusionField | None = None,
    sigma: float = 0.1,
    schedule: Schedule | None = None,
    convert_norm: bool = True,
    noise_at_test: bool = True,
    checkpointed: bool = False,
) -> Replacement:
    """Swap residual blocks h + F(h), or act(h + F(h)), for solvers with drift F(h) / T and the same weights.

    With one step of Euler's method, T = 1 and no noise the network computes exactly what it did, before normalisation
    is converted. What stands in a drift keeps its own names behind `<block>.drift.`; an activation after the sum is
    `<block>.after`. Names and structure depend on the network and the arguments alone, so weights load again.

    Args:
        model: any network. Its tree is changed, and its weights stay the same tensors.
        where: "last-block", "last-stage" (the last run of blocks whose states have one shape), "all", or names of
            modules. A named module without a visible sum is taken as it is: drift (B(h) - h) / T.
        example: a batch of two or more rows as the network takes it; made up by default.
        steps: N of the grid.
        horizon: T.
        integrator: by default "euler", and "euler-maruyama" with noise.
        diffusion: None for an ordinary differential equation; a name, or a field with its own strength.
        sigma: strength of a diffusion given by name.
        schedule: of steps and noise while training.
        convert_norm: whether batch normalisation becomes group normalisation afterwards, as `sfumato doctor --fix`
            does it. Layers in eval mode stay.
        noise_at_test: whether the noise is on in eval mode.
        checkpointed: see `SDEBlock`.

    Raises:
        UnsupportedModel: if there is nothing to swap; the message says what was looked at.
        UsageError: for a name that the network does not have, or an example on which it does not run.
    """
    field_ = diffusion_named(diffusion, sigma) if isinstance(diffusion, str) else diffusion
    make = _maker(Grid(horizon=horizon, steps=steps), _integrator(integrator, field_), field_, {
        "schedule": schedule, "noise_at_test": noise_at_test, "checkpointed": checkpointed,
    })  # fmt: skip
    calls = observe(model, made_up(model) if example is None else example)
    found = search(model, calls)
    chosen, opaque = _chosen(model, found, calls, where)
    done = _Swap(model, found, calls, make, horizon)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int.from_bytes(fingerprint_of(dict(model.named_parameters()))[:7], "big"))
        done.branches(chosen)
        done.opaque(opaque)
    if not done.swapped:
        raise _nothing(model, where, (*done.missed, *found.missed))
    left = [Missed(each.place, "not asked for") for each in found.found if each not in chosen]
    untraced = [each for each in found.missed if each.place not in opaque]
    return _with_norms(done, (*done.missed, *left, *untraced), convert_norm=convert_norm)


class _Swap:
    """The replacement under way."""

    def __init__(
        self,
        model: nn.Module,
        found: Search,
        calls: Mapping[str, Call],
        make: Callable[..., SDEBlock],
        horizon: float,
    ) -> None:
        self.model, self.found, self.calls, self.make, self.horizon = model, found, calls, make, horizon
        self.swapped: list[tuple[int, Swapped]] = []
        self.missed: list[Missed] = []

    def branches(self, chosen: Sequence[Found]) -> None:
        """Rebuild every module that owns some of them."""
        for name in dict.fromkeys(each.owner for each in chosen):
            own = [each for each in chosen if each.owner == name]
            part, call = self.model.get_submodule(name), self.calls[name]
            branches = [each.branch for each in own]
            new = rebuilt(part, self.found.graphs[name], branches, self.horizon, self.make, call)
            if not computes_the_same(call, new):
                reason = "one step without noise does not give what it gave (it writes to its input, or hides a state)"
                self.missed += [Missed(each.place, reason) for each in own]
                continue
            self._put(part, new.module)
            for each, inner in zip(own, new.blocks, strict=True):
                block = ".".join(filter(None, (name, inner)))
                self.swapped.append((each.finished, Swapped(each.place, block, each.branch.shape)))

    def opaque(self, names: Sequence[str]) -> None:
        """Take modules as they are."""
        for name in names:
            part, call = self.model.get_submodule(name), self.calls[name]
            state = call.args[0] if len(call.args) == 1 and not call.kwargs else None
            shapes = [getattr(value, "shape", None) for value in (state, call.output)]
            if shapes[0] is None or shapes[0] != shapes[1]:
                reason = "it is not called with one tensor that comes out in the same shape"
                self.missed.append(Missed(name, reason))
                continue
            shape = tuple(call.output.shape[1:])
            block = self.make(OpaqueDrift(part, self.horizon), shape, None, kind=OpaqueBlock).train(part.training)
            if not computes_the_same(call, Rebuilt(block, {"": block})):
                self.missed.append(Missed(name, "it does not give the same output twice"))
                continue
            self._put(part, block)
            self.swapped.append((call.finished, Swapped(name, name, shape, opaque=True)))

    def _put(self, old: nn.Module, new: nn.Module) -> None:
        """In every place that the old module has."""
        for name, part in list(self.model.named_modules(remove_duplicate=False)):
            if part is old and name:
                parent, _, last = name.rpartition(".")
                self.model.get_submodule(parent)._modules[last] = new
        self.model = new if self.model is old else self.model


def _integrator(given: str | Integrator | None, diffusion: DiffusionField | None) -> Integrator:
    found = integrator_named(given) if isinstance(given, str) else given
    found = found or integrator_named("euler" if diffusion is None else "euler-maruyama")
    if diffusion is not None and not found.stochastic:
        raise UsageError(
            f"Expected an integrator for equations with noise, got {found.name!r}.",
            remedy='Use "euler-maruyama", "milstein" or "stochastic-heun".',
        )
    return found


def _maker(
    grid: Grid, integrator: Integrator, diffusion: DiffusionField | None, more: Mapping[str, Any]
) -> Callable[..., SDEBlock]:
    def make(
        drift: nn.Module, shape: tuple[int, ...], after: nn.Module | None, kind: type[SDEBlock] = SDEBlock
    ) -> SDEBlock:
        block = kind(drift, grid, integrator, diffusion, shape=shape, after=after, **more)
        like = next(drift.parameters(), None)
        if block.scale is not None and like is not None:
            block.scale.to(like)  # type and device of the network
        return block

    return make


def _chosen(
    model: nn.Module, found: Search, calls: Mapping[str, Call], where: str | Sequence[str]
) -> tuple[list[Found], list[str]]:
    """Branches to swap, and names of modules to take as they are."""
    blocks = list(found.found)
    if where == "all":
        return blocks, []
    if where == "last-block":
        return blocks[-1:], []
    if where == "last-stage":
        first = len(blocks)
        while first and blocks[first - 1].branch.shape == blocks[-1].branch.shape:
            first -= 1
        return blocks[first:], []
    names = [name.strip() for name in where.split(",")] if isinstance(where, str) else list(where)
    chosen = [each for each in blocks if each.owner in names or each.place in names]
    opaque = [name for name in names if not any(name in (each.owner, each.place) for each in chosen)]
    unknown = [name for name in opaque if name not in calls]
    if unknown:
        known = [each.place for each in blocks] + [name for name, _ in model.named_modules() if name in calls and name]
        raise UsageError(
            f"Expected {', '.join(PLACES)} or names of modules that run, got {unknown[0]!r}.",
            remedy=f"Known names: {', '.join(dict.fromkeys(known))}.",
        )
    return chosen, opaque


def _nothing(model: nn.Module, where: str | Sequence[str], missed: Sequence[Missed]) -> UnsupportedModel:
    kinds = ", ".join(dict.fromkeys(type(part).__name__ for part in model.modules()))
    looked = "; ".join(f"`{each.place}`: {each.reason}" for each in missed[:6])
    looked = looked or f"none of its modules adds a branch to its input: {kinds}"
    return UnsupportedModel(
        f"Expected residual blocks h + F(h) that keep their shape for where={where!r}, got none ({looked}).",
        remedy="Use a residual network (`--recipe residual-net`), or name a module that keeps its input's shape in "
        "`where`.",
    )


def _with_norms(done: _Swap, missed: Sequence[Missed], *, convert_norm: bool) -> Replacement:
    model, norms = repair(done.model) if convert_norm else (done.model, [])
    frozen = any(isinstance(part, _BatchNorm) and not part.training for part in model.modules())
    swapped = [each for _, each in sorted(done.swapped, key=lambda pair: pair[0])]
    return Replacement(model, tuple(swapped), tuple(missed), tuple(norms), (FROZEN_NORM,) if frozen else ())
