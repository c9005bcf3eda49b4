"""The prior-aware attack on a session: what it states, and that broken builds are caught. Seeds are fixed."""

from unittest import mock

import pytest
import torch

from sfumato.accounting.adjacency import Adjacency
from sfumato.accounting.reconstruction import rero_gaussian
from sfumato.audit.inversion.prior_aware import ReconstructionAudit, audit_reconstruction
from sfumato.errors import UsageError
from sfumato.private import session as session_module
from sfumato.private.clipping import AdaptiveQuantile, PerLayer
from sfumato.private.plan import Plan
from sfumato.private.session import Session, make

ADD = Adjacency.ADD_OR_REMOVE_ONE


def plan(**changes):
    fields = {
        "sample_rate": 1.0, "steps": 1, "expected_batch_size": 8, "noise_multiplier": 1.0, "delta": 1e-5,
        "adjacency": ADD,
    }  # fmt: skip
    return Plan(**(fields | changes))


def audited(built=None, **changes):
    given = {"trials": 150, "steps": 2, "trials_per_session": 150, "seed": 1, "confidence": 0.999}
    return audit_reconstruction(built or plan(), **(given | changes))


def made(kind):
    def build(model, **given):
        with mock.patch.object(session_module, "Session", kind):
            return make(model, **given)

    return build


class HalfTheNoise(Session):
    @property
    def _std(self):
        return super()._std / 2


class Unclipped(Session):
    def _factors(self, squared):
        return torch.full_like(squared, self._scale)


class NoiseReused(Session):
    def _noisy(self, totals):
        if self.steps_taken == 0:
            self.drawn_once = super()._noisy({name: torch.zeros_like(total) for name, total in totals.items()})
        return {name: total + self.drawn_once[name] for name, total in totals.items()}


def test_an_honest_session_stays_below_the_bound_and_comes_near_it():
    """Error rate 0.001 for the first; the second holds for this seed."""
    found = audited()
    assert not found.broken
    assert found.permitted == pytest.approx(float(rero_gaussian([1 / 256], 1.0, steps=2)[0]), rel=5e-3)
    assert found.high > found.permitted
    assert found.low > 5 * found.prior
    assert "permits" in found.statement
    assert "epsilon" in found.claim


@pytest.mark.parametrize("kind", [HalfTheNoise, Unclipped, NoiseReused])
def test_a_broken_build_is_caught(kind):
    found = audited(make_session=made(kind))
    assert found.broken
    assert "false" in found.statement


@pytest.mark.parametrize(
    "changes",
    [
        {"adjacency": Adjacency.REPLACE_ONE},
        {"clipping": PerLayer(max_grad_norm=2.0)},
        {"clipping": AdaptiveQuantile(initial=2.0, count_noise_multiplier=3.0)},
        {"sample_rate": 0.5},
        {"sample_rate": 0.5, "max_batch_size": 8, "units": 10, "adjacency": Adjacency.REPLACE_SPECIAL},
    ],
)
def test_other_honest_plans_stay_below_the_bound(changes):
    """Error rate 0.001 each, for this seed."""
    found = audited(plan(**changes), trials=60, trials_per_session=60, candidates=32)
    assert not found.broken
    assert found.prior <= found.permitted <= 1


def test_sessions_of_one_trial_each_play_the_same_game():
    found = audited(trials=12, trials_per_session=1, candidates=4, steps=1)
    assert 0 <= found.low <= found.success <= found.high <= 1
    assert found == audited(trials=12, trials_per_session=1, candidates=4, steps=1)


def test_without_a_seed_the_noise_is_that_of_a_release():
    assert "audit" in audited(trials=20, candidates=8).claim
    assert "audit" not in audited(trials=20, candidates=8, seed=None).claim


@pytest.mark.parametrize(
    "changes", [{"trials": 4}, {"candidates": 1}, {"steps": 0}, {"confidence": 1.0}, {"trials_per_session": 0}]
)
def test_arguments_that_cannot_be_are_refused(changes):
    with pytest.raises(UsageError):
        audited(**changes)


def test_an_audit_is_broken_only_where_the_whole_interval_is_above_the_bound():
    given = {
        "success": 0.3, "low": 0.1, "high": 0.5, "permitted": 0.2, "prior": 0.01, "candidates": 100, "trials": 50,
        "steps": 1, "confidence": 0.99, "claim": "",
    }  # fmt: skip
    assert not ReconstructionAudit(**given).broken
    assert ReconstructionAudit(**(given | {"low": 0.21})).broken
