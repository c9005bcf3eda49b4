"""The audit of a private session: games, arguments, what it states. Broken builds are among the statistical tests."""

import math
from unittest import mock

import pytest
import torch
from torch import nn

from sfumato.accounting.adjacency import Adjacency
from sfumato.audit.canary_game import CanaryGame, canary_game, canary_of, records
from sfumato.audit.mechanism import WHOLE, MechanismAudit, audit_mechanism
from sfumato.errors import UsageError
from sfumato.private import session as session_module
from sfumato.private.clipping import Global, PerLayer
from sfumato.private.plan import Plan
from sfumato.private.session import Session, make

ADD, REPLACE, ZERO = Adjacency.ADD_OR_REMOVE_ONE, Adjacency.REPLACE_ONE, Adjacency.REPLACE_SPECIAL


def plan(**changes):
    fields = {
        "sample_rate": 1.0, "steps": 1, "expected_batch_size": 8, "noise_multiplier": 3.0, "delta": 1e-5,
        "adjacency": ADD,
    }  # fmt: skip
    return Plan(**(fields | changes))


def audited(**changes):
    given = {"trials": 24, "steps": 2, "trials_per_session": 24, "seed": 1}
    return audit_mechanism(plan(), **(given | changes))


class Quiet(Session):
    @property
    def _std(self):
        return super()._std / 100


def quiet(model, **given):
    with mock.patch.object(session_module, "Session", Quiet):
        return make(model, **given)


def test_an_honest_session_is_not_broken_and_a_quiet_one_is():
    """Error rate 0.01 for the honest one, whose seed is fixed."""
    honest, broken = audited(), audited(make_session=quiet)
    assert not honest.broken
    assert broken.broken
    assert broken.lower > broken.claimed == honest.claimed
    assert broken.tightness == broken.lower / broken.claimed > 1
    assert {seen.name for seen in honest.observations} == {WHOLE, "layer.weight", "table.weight"}
    assert "epsilon" in honest.claim


def test_a_seed_repeats_the_audit():
    assert audited(trials=8) == audited(trials=8)


@pytest.mark.parametrize("changes", [{"trials": 4}, {"steps": 3}, {"trials_per_session": 0}, {"confidence": 1.0}])
def test_arguments_that_cannot_be_are_refused(changes):
    with pytest.raises(UsageError):
        audited(**changes)


@pytest.mark.parametrize("facts", [{"lower": 3.0}, {"without_noise": ("w",)}])
def test_a_bound_above_the_claim_or_a_lack_of_noise_is_broken(facts):
    given = {
        "lower": 1.0, "claimed": 2.0, "delta": 1e-5, "confidence": 0.99, "steps": 2, "trials": 8, "observations": (),
        "without_noise": (), "claim": "",
    }  # fmt: skip
    assert not MechanismAudit(**given).broken
    assert MechanismAudit(**(given | facts)).broken
    assert math.isnan(MechanismAudit(**(given | {"claimed": 0.0})).tightness)


@pytest.mark.parametrize(("adjacency", "count", "last"), [(ADD, 8, -2.0), (REPLACE, 9, -100.0), (ZERO, 9, 0.0)])
def test_a_canary_that_is_out_is_what_the_neighbouring_relation_says(adjacency, count, last):
    inside, outside = (records(canary_game(), 100.0, adjacency, canary_in=here) for here in (True, False))
    assert (len(inside.unit_of), len(outside.unit_of)) == (9, count)
    assert float(inside.tensors[-1][-1]) == 100.0
    assert float(outside.tensors[-1][-1]) == last


@pytest.mark.parametrize("clipping", [None, PerLayer(max_grad_norm=1.0), Global(max_grad_norm=1.0)])
def test_the_canary_fills_the_clip_bound(clipping):
    canary = canary_of(canary_game(), plan() if clipping is None else plan(clipping=clipping))
    norm = math.sqrt(sum(float(part.square().sum()) for part in canary.clipped.values()))
    assert norm == pytest.approx(1.0, rel=2e-3)


def test_a_canary_without_a_gradient_is_refused():
    game = CanaryGame(
        lambda: nn.Linear(2, 1), lambda model, x: model(x)[:, 0] * 0, (torch.ones(2, 2),), (torch.ones(1, 2),)
    )
    with pytest.raises(UsageError, match="canary with a gradient"):
        canary_of(game, plan())
