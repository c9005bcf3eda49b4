"""Where the rows of a batch are, at each place of a network where a private tensor is used.

Sizes alone cannot tell a batch axis from one that happens to be as long, and a wrong guess would give one person's
gradient to another. So the network is run on two and on three rows: the axis that grows is the batch axis. Where rows
are folded into an axis, replacing one row shows in which order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import torch

from sfumato.errors import NotCaptured
from sfumato.private.rules.base import Layout

Site = tuple[str, str, int]  # function, private tensors, how many times before in this pass


class SiteLayout(NamedTuple):
    """Layouts of the output and of all tensors among the arguments, in order; None where no axis grows."""

    output: Layout | None
    arguments: tuple[Layout | None, ...] = ()


class UnknownSite(NotCaptured):
    """A pass came by a site that the runs on two and three rows never saw: it takes another course now."""

    def __init__(self, site: Site) -> None:
        super().__init__(
            f"Expected the network to take the course that it was learned on, got {site[0]} with {site[1]} once more.",
            remedy="Let the engine learn it again, on some rows of the batch.",
        )
        self.site = site


@dataclass
class Trace:
    """Values seen in one run, by site: the output's first, then those of the tensors among the arguments.

    `derived` are the sites where the output was made of parameters alone. `replaced` says that the second of two rows
    is another one: where rows are made of parameters alone, the second is moved then, so that its parts can be told.
    """

    values: dict[Site, tuple[torch.Tensor, ...]] = field(default_factory=dict)
    derived: set[Site] = field(default_factory=set)
    replaced: bool = False


def compare(two: Trace, three: Trace, changed: Trace) -> dict[Site, SiteLayout]:
    """Layouts of the sites that all runs came by; a site with two candidate axes or none that fits is left out.

    Args:
        two: a run on two rows.
        three: on three rows.
        changed: on two rows, of which the second is another one.
    """
    found: dict[Site, SiteLayout] = {}
    for site, values in two.values.items():
        others, again = three.values.get(site), changed.values.get(site)
        if others is None or again is None or not len(others) == len(values) == len(again):
            continue
        layouts = [_grown(a, b, c) for a, b, c in zip(values, others, again, strict=True)]
        if all(layout is None or isinstance(layout, Layout) for layout in layouts):
            found[site] = SiteLayout(layouts[0], tuple(layouts[1:]))  # type: ignore[arg-type] - checked above
    return found


def _grown(two: torch.Tensor, three: torch.Tensor, changed: torch.Tensor) -> Layout | str | None:
    if two.shape == three.shape:
        return None
    if two.dim() != three.dim() or two.shape != changed.shape:
        return "another number of axes"
    axes = [i for i, (a, b) in enumerate(zip(two.shape, three.shape, strict=True)) if a != b]
    if len(axes) != 1 or 3 * two.shape[axes[0]] != 2 * three.shape[axes[0]]:
        return "several axes grow, or not in step"
    fold = two.shape[axes[0]] // 2
    return Layout(axes[0]) if fold == 1 else _folded(axes[0], fold, two, changed)


def _folded(axis: int, fold: int, two: torch.Tensor, changed: torch.Tensor) -> Layout | str:
    """Which positions belong to the second row: those that moved when it was replaced."""
    moved = (two != changed).movedim(axis, 0).flatten(1).any(dim=1) if two.dim() > 1 else two != changed
    first_half, even = moved[:fold].any(), moved[::2].any()
    if bool(first_half) == bool(even):
        return "the rows' parts cannot be told apart"
    return Layout(axis, fold, interleaved=bool(first_half))


def second_moved(output: torch.Tensor, layout: Layout) -> torch.Tensor:
    """An output of two rows with other numbers in the second."""
    parts = torch.arange(output.shape[layout.axis], device=output.device)
    second = parts % 2 == 1 if layout.interleaved else parts >= layout.fold
    shape = [-1 if axis == layout.axis else 1 for axis in range(output.dim())]
    return output + second.view(shape) * (0.5 * output + 0.7)


def layout_at(
    known: Mapping[Site, SiteLayout], site: Site, output: torch.Tensor, arguments: list[torch.Tensor], rows: int
) -> SiteLayout | None:
    """What the runs on two and three rows found; at a site that they never came by, the only axis as long as the batch.

    Returns:
        None where several axes, or none of the output, could be the batch.
    """
    if site in known:
        return known[site]
    guesses = [_only_axis(tensor, rows) for tensor in (output, *arguments)]
    if isinstance(guesses[0], Layout) and "several" not in guesses:
        return SiteLayout(guesses[0], tuple(g if isinstance(g, Layout) else None for g in guesses[1:]))
    return None


def _only_axis(tensor: torch.Tensor, rows: int) -> Layout | str | None:
    axes = [i for i, size in enumerate(tensor.shape) if size == rows]
    if len(axes) > 1 or (not axes and any(size % rows == 0 for size in tensor.shape)):
        return "several"
    return Layout(axes[0]) if axes else None
