"""Putting records to a trained model and keeping what an attack may need of its answers.

A model that answers at random is asked again and again; its noise is named by what is asked, so that the same question
gets the same answer whoever executes it, and the answers of 16 repeats are the first 16 of 256.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import count
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from sfumato.data.population import Population
from sfumato.errors import SfumatoError, UsageError
from sfumato.sde.streams import random_layers, set_noise
from sfumato.seeding import Name
from sfumato.targets.answers import BOUNDARY_DISTANCE, LABEL_QUERIES, hinge, scalar_names
from sfumato.targets.averages import Averages
from sfumato.targets.boundary import Box, boundary_distances
from sfumato.targets.gradients import gradient_norms, input_gradient_norms
from sfumato.targets.guards import behind_guards
from sfumato.targets.queries import BASE, BOUNDARY, GRADIENTS, IMAGES_ONLY, QuerySet, families
from sfumato.targets.surroundings import box_of, directions, starts, view
from sfumato.training.augment import can_be_shifted
from sfumato.training.composition import guards_at_random, labels_pass
from sfumato.training.defence import Defence
from sfumato.training.draws import Draws
from sfumato.training.recipe import ModulePredict
from sfumato.training.trained import Predict
from sfumato.types import Bools, Floats, Ints, Rows

CHUNK = 256  # records a call; fixed, because random numbers are named by the chunk
SILENT = QuerySet(noise="off")
COMMON = 0  # seed of common noise: the same for targets, references and records


@dataclass(frozen=True, eq=False)
class Asked:
    """One model's answers on all n records.

    Args:
        logits: float32 [n, classes], base query, after the guard.
        scalars: query-set key -> statistic -> float32 [n, variants], NaN for records that were not asked; no statistic
            at all where the queries take a network and there is none in reach, or images and the records are none.
    """

    logits: Floats
    scalars: dict[str, dict[str, Floats]]


def ask(
    predict: Predict,
    defence: Defence,
    population: Population,
    queries: Sequence[QuerySet],
    seed: int,
    *,
    asked: Rows | None = None,
    guards: Mapping[str, torch.Tensor] | None = None,
) -> Asked:
    """Query one model with every record of a population.

    Args:
        predict: from records to logits, one column per class; must be in eval mode.
        defence: its guards stand between the model and the attacker.
        population: n records.
        queries: query sets besides the base query.
        seed: of the model; its noise, and guards that answer at random, draw from its streams.
        asked: int64 [k], the records in the game, for query sets of that scope.
        guards: what fitted guards keep (`Trained.guards`).

    Raises:
        UsageError: if such a query set is given without them.
        SfumatoError: if an answer is not finite.
    """
    _assert_eval(predict)
    target = _Target(predict, defence, population, seed, guards or {})
    everyone = np.arange(len(population))
    try:
        scalars: dict[str, dict[str, Floats]] = {}
        for family, members in families(queries).items():
            rows = everyone if family.scope == "all" else _given(asked, family)
            scalars |= _scalars(target, family, members, rows)
        return Asked(target.base, scalars)
    finally:
        target.release()


class _Begun(NamedTuple):
    """What is left to run of a model, and on what."""

    predict: Predict
    x: torch.Tensor


@dataclass(eq=False)
class _Target:
    """A model that is asked."""

    predict: Predict
    defence: Defence
    population: Population
    seed: int
    guards: Mapping[str, torch.Tensor]

    @property
    def network(self) -> nn.Module | None:
        """The network itself, where it is in reach."""
        inner = getattr(self.predict, "module", self.predict)
        return inner if isinstance(inner, nn.Module) else None

    @cached_property
    def base(self) -> Floats:
        """float32 [n, classes]: the answers to the base query."""
        return np.concatenate([self._chunk(start, BASE, 0) for start in range(0, len(self.population), CHUNK)])

    @cached_property
    def box(self) -> Box:
        """The range of the records' values."""
        return box_of(self.population)

    @cached_property
    def known_random(self) -> bool:
        """Whether the network has layers that draw when asked."""
        return self.network is not None and bool(random_layers(self.network))

    @cached_property
    def hidden_random(self) -> bool:
        """Whether it draws where nobody can see or stop it: found by asking some records twice with its noise off."""
        first, second = (self._chunk(0, SILENT, repeat) for repeat in (0, 1))
        return not np.array_equal(first, second)

    def answers(self, queries: QuerySet) -> bool:
        """Whether such queries can be put to it: some take images, some take the network."""
        if queries.augmentation in IMAGES_ONLY and not can_be_shifted(self._shape):
            return False
        return not queries.white_box or (self.network is not None and not self.hidden_random)

    def repeats(self, queries: QuerySet) -> int:
        """How often these queries are really put: again only where the answer may be another one."""
        if queries.noise == "off":
            return 1
        drawn = self.known_random or (
            queries.noise == "fresh" and (guards_at_random(self.defence) or self.hidden_random)
        )
        return queries.repeats if queries.repeats > 1 and drawn else 1

    def begun(self, x: torch.Tensor) -> _Begun:
        """Records [b, *shape] as they reach the first layer that draws: what is before it is run once for all repeats.

        Only in a plain chain of layers, where what comes first can be told, and draws nothing out of sight.
        """
        part, network = self.predict, self.network
        if not isinstance(part, ModulePredict) or type(network) is not nn.Sequential or self.hidden_random:
            return _Begun(part, x)
        first = next((at for at, layer in enumerate(network) if random_layers(layer)), 0)
        dtype = next((p.dtype for p in network.parameters()), x.dtype)
        with torch.no_grad():
            h = network[:first]((x if part.features is None else part.features(x)).to(dtype))
        return _Begun(ModulePredict(network[first:], part.head), h)

    def answer(self, asked: _Begun, queries: QuerySet, variant: int, repeat: int, *at: Name) -> Floats:
        """float32 [b, classes]: one answer to each record of a chunk, behind the guard where the attacker meets it.

        `at` names the chunk.
        """
        named = (queries.augmentation, variant, repeat, *at)
        if self.network is not None:
            set_noise(self.network, self._draws(queries, named), queries.noise)
        with torch.no_grad():
            logits = asked.predict(asked.x)
            only_labels = queries.signal == BOUNDARY and labels_pass(self.defence)
            if not queries.white_box and not only_labels:
                streams = Draws((self.seed,), ("guard",))
                guards = behind_guards(self.defence, self.predict, self._shape, self.guards, streams, named)
                logits = guards(logits)
        return _finite(np.asarray(logits, dtype=np.float32))

    def right(self, x: torch.Tensor, rows: Rows, queries: QuerySet, *at: Name) -> Bools:
        """bool [b]: whether the label that a user gets is the record's own, most times of the repeats; ties are not."""
        votes = np.zeros(len(x), dtype=np.int64)
        for first in range(0, len(x), CHUNK):
            part = slice(first, first + CHUNK)
            for repeat in range(self.repeats(queries)):
                answered = self.answer(_Begun(self.predict, x[part]), queries, 0, repeat, *at, first)
                votes[part] += hinge(answered, self.population.label_array[rows[part]]) > 0
        return 2 * votes > self.repeats(queries)

    def gradient(self, x: torch.Tensor, rows: Rows, signal: str) -> Floats:
        """float64 [b]: the norm of each record's gradient, by the weights or by the record, with noise off."""
        assert self.network is not None
        set_noise(self.network, None, "off")
        predict = self.predict if isinstance(self.predict, ModulePredict) else ModulePredict(self.network)
        labels = torch.from_numpy(self.population.label_array[rows])
        if signal == "gradient-norm":
            return _finite(gradient_norms(predict, x, labels).numpy())
        return _finite(input_gradient_norms(predict, x, labels, self.box.unit).numpy())

    @property
    def _shape(self) -> tuple[int, ...]:
        return self.population.records.shape

    def release(self) -> None:
        """Leave the network without our streams."""
        if self.network is not None:
            set_noise(self.network, None)

    def _chunk(self, start: int, queries: QuerySet, repeat: int) -> Floats:
        x = self.population.tensor(np.arange(start, min(start + CHUNK, len(self.population))))
        return self.answer(_Begun(self.predict, x), queries, 0, repeat, start)

    def _draws(self, queries: QuerySet, named: tuple[Name, ...]) -> Draws:
        if queries.noise == "common":
            return Draws((COMMON,), ("common noise", *named[:3]))
        return Draws((self.seed,), ("noise", *named))


def _scalars(
    target: _Target, family: QuerySet, members: Sequence[QuerySet], rows: Rows
) -> dict[str, dict[str, Floats]]:
    """The tables of query sets that share their passes, which come with few repeats first."""
    if not target.answers(family):
        return {queries.key: {} for queries in members}
    shape = (len(target.population), family.variants)
    tables = {q.key: {name: np.full(shape, np.nan, np.float32) for name in scalar_names(q)} for q in members}
    for start in range(0, len(rows), CHUNK):
        here = rows[start : start + CHUNK]
        records = target.population.tensor(here)
        for variant in range(family.variants):
            x = view(family, variant, records, here, target.box) if family.augmentation != "none" else records
            for key, values in _READ[family.signal](target, members, x, here, variant, start).items():
                for name, table in tables[key].items():
                    table[here, variant] = values[name]
    return tables


def _averages(
    target: _Target, members: Sequence[QuerySet], x: torch.Tensor, rows: Rows, variant: int, start: int
) -> dict[str, dict[str, Floats]]:
    found, sums = {}, Averages(target.population.label_array[rows])
    often = target.repeats(members[-1]) > 1
    asked = target.begun(x) if often else _Begun(target.predict, x)
    for queries in members:
        while sums.count < target.repeats(queries):
            sums.add(target.answer(asked, queries, variant, sums.count, start))
        found[queries.key] = sums.table()
    return found


def _gradients(
    target: _Target, members: Sequence[QuerySet], x: torch.Tensor, rows: Rows, variant: int, start: int
) -> dict[str, dict[str, Floats]]:
    norms = target.gradient(x, rows, members[0].signal)
    return {queries.key: dict.fromkeys(scalar_names(queries), norms) for queries in members}


def _boundaries(
    target: _Target, members: Sequence[QuerySet], x: torch.Tensor, rows: Rows, variant: int, start: int
) -> dict[str, dict[str, Floats]]:
    """One walk for each record; the labels are asked by and by, so that only their number names what is random."""
    found, begun, box = {}, starts(target.population, rows, target.box), target.box
    for queries in members:
        numbers = count()

        def right(points: torch.Tensor, owners: Ints, queries: QuerySet = queries, numbers: count = numbers) -> Bools:
            return target.right(points, rows[owners], queries, BOUNDARY, variant, start, next(numbers))

        ways = directions(rows, variant, x[0].numel())
        walked = boundary_distances(right, x, begun, queries.budget, ways, box)
        asked = walked.queries.astype(np.float64) * target.repeats(queries)
        found[queries.key] = {BOUNDARY_DISTANCE: walked.distances, LABEL_QUERIES: asked}
    return found


_READ = {"answers": _averages, BOUNDARY: _boundaries} | dict.fromkeys(GRADIENTS, _gradients)


def _given(asked: Rows | None, queries: QuerySet) -> Rows:
    if asked is None:
        raise UsageError(
            f"Expected the records in the game for the queries {queries.key}, got none.",
            remedy="Give `asked`, the positions of the records in the game.",
        )
    return np.asarray(asked, dtype=np.int64)


def _finite(values: Floats) -> Floats:
    if not np.isfinite(values).all():
        raise SfumatoError(
            "Expected finite logits from the trained model, got NaN or infinity.",
            remedy="The training diverged; lower the learning rate or standardise the inputs.",
        )
    return values


def _assert_eval(predict: Predict) -> None:
    module = getattr(predict, "module", predict)
    if isinstance(module, torch.nn.Module) and any(part.training for part in module.modules()):
        raise SfumatoError(
            "Expected the model in eval mode when its answers are read, got train mode: batch statistics would mix "
            "records.",
            remedy="Call `.eval()` on the module.",
        )
