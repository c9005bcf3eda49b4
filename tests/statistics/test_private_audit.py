"""The audit of a private session calls honest builds honest, comes close to their claim, and catches broken ones.

Error rates: an honest build is called broken with probability 1 - confidence at most; the seeds are fixed, so a run
does not draw again. Broken builds are the session with one line changed.
"""

import functools
import math
from unittest import mock

import numpy as np
import pytest
import torch
from torch import nn

from sfumato.accounting.adjacency import Adjacency
from sfumato.accounting.guarantee import guarantee
from sfumato.accounting.history import Event, History
from sfumato.audit import mechanism
from sfumato.audit.canary_game import CanaryGame, canary_game
from sfumato.audit.mechanism import BOUNDS, WHOLE, audit_mechanism
from sfumato.private import session as session_module
from sfumato.private.clipping import AdaptiveQuantile, Automatic, Flat, Global, PerLayer
from sfumato.private.noise.discrete_gaussian import DiscreteGaussian
from sfumato.private.plan import Plan
from sfumato.private.session import Session, make

pytestmark = pytest.mark.statistical
UNITS = 8
ADD, REPLACE, ZERO = Adjacency.ADD_OR_REMOVE_ONE, Adjacency.REPLACE_ONE, Adjacency.REPLACE_SPECIAL


def plan(**changes):
    fields = {
        "sample_rate": 1.0, "steps": 1, "expected_batch_size": UNITS, "noise_multiplier": 2.0, "delta": 1e-5,
        "adjacency": ADD,
    }  # fmt: skip
    return Plan(**(fields | changes))


def audited(plan, **changes):
    given = {"trials": 48, "steps": 4, "trials_per_session": 24, "confidence": 0.999, "seed": 1}
    return audit_mechanism(plan, **(given | changes))


def built(kind):
    """`make` with another class of session."""

    def made(model, **given):
        with mock.patch.object(session_module, "Session", kind):
            return make(model, **given)

    return made


HONEST = {
    "flat": plan(),
    "replace one": plan(adjacency=REPLACE),
    "zero out": plan(adjacency=ZERO),
    "automatic": plan(clipping=Automatic(max_grad_norm=3.0)),
    "per layer": plan(clipping=PerLayer(max_grad_norm=0.5)),
    "global": plan(clipping=Global(max_grad_norm=1.0)),
    "adaptive": plan(clipping=AdaptiveQuantile(initial=1.0, count_noise_multiplier=3.0)),
    "discrete": plan(noise=DiscreteGaussian()),
    "Poisson": plan(sample_rate=0.25, expected_batch_size=2, noise_multiplier=0.4),
    "another divisor": plan(expected_batch_size=100),
}


@pytest.mark.parametrize("name", HONEST)
def test_an_honest_session_is_not_called_broken(name):
    """Error rate 0.001 for each plan."""
    found = audited(HONEST[name], trials_per_session=2 if name == "adaptive" else 24)
    assert not found.broken
    assert found.lower <= found.claimed


def test_a_release_is_not_called_broken():
    """With the operating system's noise: error rate one in a million."""
    assert not audited(plan(noise_multiplier=1.0), seed=None, confidence=1 - 1e-6).broken


def test_at_sample_rate_1_the_audit_is_tight():
    """At least 0.7 of the claim is certified at confidence 0.99."""
    found = audited(plan(noise_multiplier=0.5), trials=400, steps=2, trials_per_session=50, confidence=0.99)
    assert not found.broken
    assert found.tightness >= 0.7


@pytest.mark.parametrize("sample_rate", [1.0, 0.25])
def test_scores_that_are_exactly_as_private_as_claimed_are_seldom_called_broken(sample_rate, monkeypatch):
    """The rate of false alarms among 2000 audits at confidence 0.8, without sessions; 99.9% of such samples pass."""
    steps, noise, audits, trials = 2, 1.0, 2000, 60
    event = plan(sample_rate=sample_rate, noise_multiplier=noise).mechanism(audit_only=True, steps=steps)
    claim = guarantee(History((Event("training", "test", 1, event),)))
    curve_of = mechanism.tpr_bound
    curve = functools.cache(lambda rate: curve_of(claim, [rate]))
    monkeypatch.setattr(mechanism, "tpr_bound", lambda of, rates: curve(rates[0]))
    random, alarms = np.random.default_rng(5), 0
    for _ in range(audits):
        outside = noise * math.sqrt(steps) * random.standard_normal(trials)
        inside = noise * math.sqrt(steps) * random.standard_normal(trials) + random.binomial(steps, sample_rate, trials)
        alarms += mechanism._observed(WHOLE, inside, outside, claim, 0.2).beyond
    assert alarms <= 0.2 * audits + 3.1 * math.sqrt(0.16 * audits)


class NoiseOverBatchTwice(Session):
    @property
    def _std(self):
        return super()._std / self.plan.expected_batch_size


class NoiseWithoutTheClipNorm(Session):
    @property
    def _std(self):
        return self.plan.noise_multiplier / self.plan.expected_batch_size


class HalfTheNoise(Session):
    @property
    def _std(self):
        return super()._std / 2


class LayerUnclipped(Session):
    layer = 0

    def _factors(self, squared):
        found = super()._factors(squared).clone()
        found[:, self.layer] = self._scale
        return found


class TableUnclipped(LayerUnclipped):
    layer = 1


class ClippedAfterAveraging(Session):
    def _factors(self, squared):
        return torch.full_like(squared, self._scale)

    def _release(self, sums):
        norm = torch.cat([total.reshape(-1) for total in sums.values()]).norm()
        bound = self.plan.clipping.sensitivity(self.state, len(sums))
        super()._release({name: total * min(1.0, bound / float(norm)) for name, total in sums.items()})


class NoiseReused(Session):
    def _noisy(self, totals):
        if self.steps_taken == 0:
            self.drawn_once = super()._noisy({name: torch.zeros_like(total) for name, total in totals.items()})
        return {name: total + self.drawn_once[name] for name, total in totals.items()}


class ActualDivisor(Session):
    def _step(self, drawn):
        self.actual = len(drawn)
        return super()._step(drawn)

    def _noisy(self, totals):
        share = self.plan.expected_batch_size / self.actual
        return {name: noisy * share for name, noisy in super()._noisy(totals).items()}


class Shuffled(Session):
    """Each unit once in an epoch, in batches of one size, with the accounting of Poisson sampling."""

    def draw(self):
        batches = round(1 / self.plan.sample_rate)
        epoch, batch = divmod(self.steps_taken, batches)
        words = self.source.at("shuffle", epoch).words(len(self.rows_of_unit.sizes))
        return np.argsort(words)[batch::batches]


class NoNoiseWhereUnused(Session):
    def _release(self, sums):
        super()._release(sums)
        for name, parameter in self.engine.parameters.items():
            if name not in sums:
                parameter.grad = None


class ZerosWhereUnused(NoNoiseWhereUnused):
    def _release(self, sums):
        Session._release(self, sums)
        for name, parameter in self.engine.parameters.items():
            if name not in sums:
                parameter.grad = torch.zeros_like(parameter)


class LayerWithoutNoise(Session):
    def _noisy(self, totals):
        bare = totals["layer.weight"].clone()
        return super()._noisy(totals) | {"layer.weight": bare}


class CountWithoutNoise(AdaptiveQuantile):
    def count_std(self, expected_batch_size):
        return 1e6  # as the division of the budget sees it

    def updated(self, state, squared_norms, mask, source, expected_batch_size):
        class Silent:
            def fill(self, out):
                return out.zero_()

        return super().updated(state, squared_norms, mask, Silent(), expected_batch_size)


def line_game():
    """All units use one layer and nothing else, the canary against the others."""
    others, canary = (torch.ones(UNITS, 4),), (torch.ones(1, 4),)
    return CanaryGame(lambda: nn.Linear(4, 1, bias=False), lambda model, x: model(x)[:, 0], others, canary)


BROKEN = {
    "noise over the batch twice": (NoiseOverBatchTwice, plan(), {}),
    "noise without the clip norm": (NoiseWithoutTheClipNorm, plan(clipping=Flat(max_grad_norm=5.0)), {}),
    "half the noise": (HalfTheNoise, plan(noise_multiplier=1.0), {"trials": 120}),
    "first layer unclipped": (LayerUnclipped, plan(), {}),
    "table unclipped": (TableUnclipped, plan(), {}),
    "one layer unclipped, per layer": (TableUnclipped, plan(clipping=PerLayer(max_grad_norm=1.0)), {}),
    "clipped after averaging": (ClippedAfterAveraging, plan(), {}),
    "noise reused": (NoiseReused, plan(), {}),
    "actual divisor": (ActualDivisor, plan(noise_multiplier=1.0), {"trials": 120, "game": line_game()}),
    "shuffled": (Shuffled, plan(sample_rate=0.25, expected_batch_size=2, noise_multiplier=0.1), {"trials": 120}),
    "count without noise": (
        Session,
        plan(clipping=CountWithoutNoise(initial=1.0), noise_multiplier=4.0),
        {"trials": 32, "trials_per_session": 1},
    ),
    "a layer without noise": (LayerWithoutNoise, plan(), {}),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_build_is_caught(name):
    kind, broken, changes = BROKEN[name]
    found = audited(broken, make_session=built(kind), **changes)
    assert any(seen.beyond for seen in found.observations)
    assert found.broken


class Branching(nn.Module):
    """A whole branch that only rows with a mark use, so that a step without them leaves it out of the graph."""

    def __init__(self):
        super().__init__()
        self.trunk, self.branch = nn.Linear(4, 1), nn.Linear(4, 1)

    def forward(self, x, marked):
        out = self.trunk(x)[:, 0]
        return out + marked * self.branch(x)[:, 0] if bool(marked.any()) else out


def branch_game():
    return CanaryGame(
        Branching,
        lambda model, x, marked: model(x, marked),
        (torch.ones(UNITS, 4), torch.zeros(UNITS)),
        (torch.ones(1, 4), torch.ones(1)),
    )


@pytest.mark.parametrize("kind", [NoNoiseWhereUnused, ZerosWhereUnused])
def test_a_branch_that_only_the_canary_uses_must_have_noise(kind):
    found = audited(plan(), game=branch_game(), make_session=built(kind), trials=16)
    assert found.without_noise == ("branch.bias", "branch.weight")
    assert found.broken


def test_an_honest_branch_has_noise():
    assert not audited(plan(), game=branch_game()).broken


def crowded_game(records):
    own = canary_game()
    return CanaryGame(
        own.model, own.loss, own.others, tuple(tensor.repeat_interleave(records, dim=0) for tensor in own.canary)
    )


def test_a_unit_with_more_records_than_its_cap_counts_as_one():
    assert not audited(plan(max_records_per_unit=2), game=crowded_game(6)).broken


def test_records_of_one_unit_that_are_clipped_one_by_one_are_caught():
    def made(model, **given):
        return make(model, **(given | {"unit_of": None}))

    assert audited(plan(max_records_per_unit=2), game=crowded_game(6), make_session=made).broken


def test_the_adaptive_bounds_are_looked_at():
    found = audited(HONEST["adaptive"], trials=16)
    assert BOUNDS in {seen.name for seen in found.observations}
