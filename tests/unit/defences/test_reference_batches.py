"""What all defences with reference data have in common, each on a small population."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from sfumato.accounting.guarantee import NoGuarantee
from sfumato.data.population import Population
from sfumato.data.records import ArrayRecords
from sfumato.defences.advreg import AdvReg
from sfumato.defences.crl import CRL
from sfumato.defences.dmp import DMP
from sfumato.defences.dpsgd import DPSGD
from sfumato.defences.label_smoothing import LabelSmoothing
from sfumato.defences.memguard import MemGuard
from sfumato.defences.mixup_mmd import MixupMMD
from sfumato.defences.past import PAST
from sfumato.defences.reference_batches import position, reference_batch
from sfumato.defences.undefended import Undefended
from sfumato.defences.werm import WERM
from sfumato.errors import NotPrivateError, UsageError
from sfumato.models.mlp import MLP
from sfumato.training.checkpoint import Checkpoint
from sfumato.training.composition import reference_share, update_of
from sfumato.training.draws import Draws
from sfumato.training.preparation import Assignment, LoopOptions, prepare
from sfumato.training.splitting import roles_of
from sfumato.training.task import Optimizer, Task
from sfumato.training.train import train
from sfumato.training.workshop import Workshop

DEFENCES = {
    "advreg": AdvReg(attacker_width=128),
    "advreg-official": AdvReg(attacker_width=128, variant="official", attacker_steps=2, attacker_lr=0.01),
    "mixup-mmd": MixupMMD(least_gap=0.0),
    "dmp": DMP(),
    "werm": WERM(),
    "past": PAST(strength=0.01),
    "past-l2": PAST(strength=0.01, penalty="l2"),
}
TASK = Task(model=MLP(hidden=(6,)), epochs=4, batch_size=8, optimizer=Optimizer(lr=0.05), schedule="constant")
ROWS, SEED = np.arange(3, 38), 5


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(2)
    x = rng.normal(size=(50, 5)).astype(np.float32)
    return Population(ArrayRecords(x), "example", labels=(x[:, 0] > 0).astype(int) + (x[:, 1] > 0))


@pytest.fixture(params=DEFENCES)
def defence(request):
    return DEFENCES[request.param]


def trained(defence, data, rows=ROWS, task=TASK, **options):
    return train(task, defence, data, [Assignment(rows, SEED)], LoopOptions(dtype=torch.float64, **options))[0]


def same(first, second):
    return all(torch.equal(first.state[k], second.state[k]) for k in first.state)


def workshop(defence, data, task=TASK):
    options = LoopOptions(dtype=torch.float64)
    return Workshop(prepare(task, defence, data, [Assignment(ROWS, SEED)], options), options)


def test_it_trains_from_its_streams_alone(defence, data):
    first = trained(defence, data)
    torch.manual_seed(77)
    assert same(first, trained(defence, data))
    assert all(bool(torch.isfinite(v).all()) for v in first.state.values())
    assert not same(first, trained(replace(defence, inner=LabelSmoothing(smoothing=0.3)), data))


def test_it_gives_no_guarantee(defence, data):
    found = trained(defence, data).guarantee
    assert isinstance(found, NoGuarantee)
    assert defence.name in str(found)


@pytest.mark.parametrize("cut", [1, 3, 6])
def test_an_interrupted_training_ends_with_the_same_weights(defence, data, tmp_path: Path, cut):
    whole = trained(defence, data)
    seen = []

    def stop(epoch):
        seen.append(epoch)
        if len(seen) == cut:
            raise KeyboardInterrupt

    kept = Checkpoint(tmp_path / "kept.safetensors", "key", every=0.0)
    try:
        trained(defence, data, checkpoint=kept, on_epoch=stop)
    except KeyboardInterrupt:
        done = len(seen)
        again = trained(defence, data, checkpoint=kept, on_epoch=seen.append)
        assert len(seen) - done < whole.epochs  # something was not done again
        assert same(whole, again)
        assert whole.tallies == again.tallies
    else:
        assert cut > whole.epochs  # the training was shorter than the cut


def test_no_reference_record_is_one_to_fit(defence, data):
    shop = workshop(defence, data)
    fit, reference = set(shop.fit_rows.tolist()), set(shop.reference_rows.tolist())
    assert fit.isdisjoint(reference)
    assert fit | reference == set(ROWS.tolist())
    roles = roles_of(TASK, defence, data, ROWS, SEED)
    assert set(ROWS[roles == "reference"].tolist()) == reference
    assert len(reference) == round(0.3 * len(ROWS))


def test_the_reference_records_shape_the_weights(defence, data):
    reference = workshop(defence, data).reference_rows.numpy()
    other = data.records.array.copy()
    other[reference] = -other[reference]
    changed = Population(ArrayRecords(other), "example", labels=data.labels)
    assert not same(trained(defence, data), trained(defence, changed))


def test_records_outside_the_training_set_change_nothing(defence, data):
    outside = np.setdiff1d(np.arange(len(data)), ROWS)
    other = data.records.array.copy()
    other[outside] = 1e6
    changed = Population(ArrayRecords(other), "example", labels=data.labels)
    assert same(trained(defence, data), trained(defence, changed))


def test_private_training_refuses_it_with_the_reason(defence, data):
    private = replace(defence, inner=DPSGD.example())
    with pytest.raises(NotPrivateError, match=f"{defence.name}, whose course reads the records outside"):
        update_of(private, data)


def test_two_courses_are_refused(defence, data):
    with pytest.raises(UsageError, match="one claim on the update"):
        trained(replace(defence, inner=WERM() if defence.name != "werm" else DMP()), data)


def test_parameters_of_an_inner_defence_are_there_for_both_kinds_of_records(defence, data):
    assert trained(replace(defence, inner=CRL()), data).state is not None


def test_the_share_is_set_aside(data):
    assert len(workshop(WERM(reference_fraction=0.5), data).reference_rows) == round(0.5 * len(ROWS))


def test_a_batch_of_reference_records_repeats_none_too_early(data):
    shop = workshop(WERM(), data)
    rows = reference_batch(shop, 2 * len(shop.reference_rows) + 1, Draws((1,), ("x",)))
    found, counts = rows.unique(return_counts=True)
    assert found.tolist() == sorted(shop.reference_rows.tolist())
    assert sorted(counts.tolist())[-2:] == [2, 3]
    assert min(counts.tolist()) == 2
    assert not torch.equal(rows, reference_batch(shop, len(rows), Draws((2,), ("x",))))


@pytest.mark.parametrize(("batch_size", "epochs"), [(8, 7), (25, 3), (3, 11)])
def test_position_counts_epochs_and_steps(data, batch_size, epochs):
    shop = workshop(WERM(), data, replace(TASK, batch_size=batch_size, epochs=epochs))
    steps = -(-len(shop.fit_rows) // batch_size)
    for epoch in range(epochs):
        for step in range(steps):
            assert position(shop, (epoch + step / steps) / epochs) == (epoch, step)


@pytest.mark.parametrize("fraction", [0.0, 0.95])
def test_the_share_has_a_range(defence, fraction):
    with pytest.raises(UsageError, match="reference_fraction"):
        replace(defence, reference_fraction=fraction)


def test_two_parts_never_share_their_reference_records():
    both = MemGuard(inner=WERM())
    with pytest.raises(UsageError, match="got memguard and werm"):
        reference_share(both)
    assert reference_share(MemGuard(reference_fraction=0.2)) == 0.2
    assert reference_share(Undefended()) == 0.0
