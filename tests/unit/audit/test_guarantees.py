from dataclasses import replace

import numpy as np
import pytest

from sfumato.accounting.adjacency import Adjacency
from sfumato.accounting.guarantee import Guarantee, NoGuarantee, guarantee
from sfumato.accounting.history import Event, History
from sfumato.accounting.mechanisms.gaussian import Gaussian
from sfumato.accounting.mechanisms.poisson_gaussian import PoissonGaussian
from sfumato.accounting.tradeoff import tpr_bound
from sfumato.audit.guarantees import group_size, of_one_training, permitted, summary
from sfumato.data.membership import Membership
from sfumato.data.population import Population, Unit


def history(steps=50, noise=1.0, adjacency="ADD_OR_REMOVE_ONE", **facts):
    ran = PoissonGaussian(sample_rate=0.1, noise_multiplier=noise, steps=steps, adjacency=adjacency)
    facts = {"delta": 1e-5, "unit": "example", "audit_only": True} | facts
    return History((Event("training", f"DP-SGD, {steps} steps", 30, ran.plain() | facts),))


@pytest.fixture
def singles():
    return Population(np.zeros((40, 2), dtype=np.float32), "example", labels=np.arange(40) % 2)


@pytest.fixture
def patients():
    owners = np.repeat(np.arange(20), 2)
    return Population(np.zeros((40, 2), dtype=np.float32), Unit("patient", owners), labels=np.arange(40) % 2)


def games(units=40):
    rng = np.random.default_rng(0)
    return {
        "halves": Membership.half_pairs(units, 4, rng),
        "canaries": Membership.canary_pairs(units, np.arange(10), 4, rng),
        "coins": Membership.coin_pairs(units, 4, rng),
    }


@pytest.mark.parametrize("game", ["halves", "canaries", "coins"])
@pytest.mark.parametrize("adjacency", list(Adjacency))
def test_a_game_of_fixed_size_exchanges_a_unit_and_one_of_coins_adds_or_removes_it(game, adjacency):
    found = guarantee(history(adjacency=adjacency))
    exchanged = game != "coins" and adjacency is not Adjacency.REPLACE_ONE
    assert group_size(found, games()[game]) == (2 if exchanged else 1)


def test_the_membership_designs_are_what_the_group_sizes_assume():
    """Fixed size: every set has as many units. Coins: two sets that differ by one unit both occur."""
    for game, membership in games().items():
        sizes = membership.matrix.sum(axis=1)
        assert (len(set(sizes)) == 1) == (game != "coins")


def test_a_perfect_attack_on_one_gaussian_release_lies_on_the_curve_of_its_game():
    """Sum with sensitivity 1 and noise sigma: removal shifts by 1, exchange of opposite units by 2 (normal shifts)."""
    from scipy.stats import norm

    sigma = 1.3
    ran = Gaussian(noise_multiplier=sigma, steps=1, adjacency="ADD_OR_REMOVE_ONE")
    found = Guarantee(1.0, 1e-5, Adjacency.ADD_OR_REMOVE_ONE, "example", "pld", (ran,), True)
    fprs = np.array([1e-3, 0.01, 0.1, 0.5])
    best = {changes: norm.sf(norm.isf(fprs) - changes / sigma) for changes in (1, 2)}
    for changes in (1, 2):
        curve = permitted(found, changes, tuple(fprs))
        bound = np.array([curve.at(fpr) for fpr in fprs])
        assert (bound >= best[changes] - 1e-9).all()
        np.testing.assert_allclose(bound, best[changes], rtol=0.02)
    lone = permitted(found, 1, tuple(fprs))
    assert all(lone.at(fpr) < other for fpr, other in zip(fprs, best[2], strict=True))  # 1 would be wrong for halves


def test_the_summary_has_the_numbers_and_the_curve(singles):
    found = guarantee(history())
    kept = summary(found, games()["halves"], singles, fprs=(0.1, 0.013), delta=3e-4)
    assert (kept.status, kept.statement) == ("formal", found.statement)
    numbers = kept.numbers
    assert (numbers.epsilon, numbers.delta, numbers.audit_only) == (found.epsilon, 1e-5, True)
    assert "audit run" in kept.statement
    epsilons = {point.delta: point.epsilon for point in numbers.profile}
    assert epsilons[1e-5] == pytest.approx(found.epsilon)
    assert 3e-4 in epsilons
    falling = [epsilons[delta] for delta in sorted(epsilons)]
    assert falling == sorted(falling, reverse=True)
    assert numbers.permitted.group_size == 2
    assert numbers.permitted.at(0.013) == pytest.approx(float(tpr_bound(found, [0.013], 2)[0]))
    assert numbers.permitted.at(0.0131) is None
    assert numbers.mechanisms[0]["kind"] == "poisson-gaussian"


def test_none_has_a_sentence_and_no_number(singles):
    kept = summary(NoGuarantee("none, because of x at stage y"), games()["halves"], singles)
    assert (kept.status, kept.numbers) == ("none", None)


def test_no_curve_where_single_records_are_protected_and_whole_patients_play(patients):
    membership = games(20)["halves"]
    kept = summary(guarantee(history()), membership, patients).numbers
    assert kept.permitted is None
    assert "one example" in kept.note
    assert "one patient" in kept.note
    whole = guarantee(history(unit="patient, at most 2 records each"))
    assert summary(whole, membership, patients).numbers.permitted is not None


def test_of_several_trainings_the_weakest_counts():
    weak, strong = history(noise=0.8), history(noise=2.0)
    assert of_one_training([strong, weak, strong]) == guarantee(weak)
    read = weak.then(Event("data", "fitted scaler", 30))
    assert of_one_training([strong, read]) == NoGuarantee("none, because of fitted scaler at stage data")
    assert "2 different guarantees" in of_one_training([strong, history(delta=1e-6)]).statement
    assert isinstance(of_one_training([]), NoGuarantee)


def test_equal_trainings_are_accounted_for_once(monkeypatch):
    import sfumato.audit.guarantees as module

    calls = []
    monkeypatch.setattr(module, "guarantee", lambda found: calls.append(found) or guarantee(found))
    sizes = [History((replace(event, records=n),)) for n in (28, 30, 33) for event in history().events]
    assert isinstance(of_one_training(sizes), Guarantee)
    assert len(calls) == 1
