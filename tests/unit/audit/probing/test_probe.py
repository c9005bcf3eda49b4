from dataclasses import replace

import numpy as np
import pytest
import torch

from sfumato.audit.executing import gather
from sfumato.audit.probe import probe, probe_cost, probe_jobs
from sfumato.audit.probing.measures import between_rates, loss_gaps
from sfumato.audit.probing.settings import OPERATIONS, ProbeSettings
from sfumato.audit.probing.variants import variants_of
from sfumato.defences.dpsgd import DPSGD
from sfumato.defences.dropout import Dropout
from sfumato.defences.pptp_reconstruction import PPTPReconstruction
from sfumato.defences.srcm_reconstruction import SRCMReconstruction
from sfumato.errors import UsageError
from sfumato.execution.store import Store
from sfumato.models.regions import Regions
from sfumato.training.recipe import Recipe


def jobs_of(probed):
    return probe_jobs(probed.population, probed.task, probed.defence, probed.settings, probed.store)


def test_every_region_is_treated_in_every_way_with_an_interval(probed):
    found = probed.map
    assert [region.name for region in found.regions] == ["stem", "head"]
    assert [region.count for region in found.regions] == [6 * 8 + 8, 8 * 3 + 3]
    assert [region.parameters for region in found.regions] == [["1.weight", "1.bias"], ["3.weight", "3.bias"]]
    assert [(e.region, e.operation) for e in found.effects] == [(r, o) for r in ("stem", "head") for o in OPERATIONS]
    for effect in found.effects:
        for one in (effect.accuracy_carried, effect.carried("loss-difference"), effect.carried("auc")):
            assert one is not None
            assert one.low <= one.value <= one.high
        assert [(one.name, one.at) for one in effect.risk_carried] == [
            ("loss-difference", None), ("auc", None), ("tpr_at_fpr", 0.2), ("tpr_at_fpr", 0.01),
        ]  # fmt: skip
        assert effect.carried("tpr_at_fpr", 0.01).value is None, "120 scores of non-members cannot resolve 1%"
        assert effect.carried("tpr_at_fpr", 0.2).value is not None
    assert found.ranking.operation == "rewind-private"
    assert found.defended.defence.name == "label-smoothing"
    assert found.provenance.command == "sfumato probe made-up"


def test_carried_is_the_whole_network_less_the_treated_one(probed):
    own = {(e.region, e.operation): e for e in probed.map.effects}
    for effect in own.values():
        whole = probed.map.ordinary
        assert effect.accuracy_carried.value == pytest.approx(whole.accuracy.value - effect.accuracy.value)
        gap, treated = whole.risk[0], effect.risk[0]
        assert effect.carried("loss-difference").value == pytest.approx(gap.value - treated.value)
        rate = next(one for one in whole.risk if (one.name, one.at) == ("tpr_at_fpr", 0.2))
        less = next(one for one in effect.risk if (one.name, one.at) == ("tpr_at_fpr", 0.2))
        assert effect.carried("tpr_at_fpr", 0.2).value == pytest.approx(rate.value - less.value)


def test_the_numbers_are_those_of_the_stored_models(probed):
    jobs = jobs_of(probed)
    stored = [gather([probed.store.get(job.key) for job in several], probed.population) for several in jobs]
    members = np.stack([np.isin(np.arange(60), job.rows) for job in jobs[0]])
    right = [
        [
            (logits.argmax(1) == probed.population.label_array)[~inside].mean()
            for logits, inside in zip(one.logits, members)
        ]
        for one in stored
    ]
    assert probed.map.ordinary.accuracy.value == pytest.approx(np.mean(right[0]))
    assert probed.map.defended.accuracy.value == pytest.approx(np.mean(right[1]))
    gaps = loss_gaps(stored[2].logits, probed.population.label_array, members, ~members)
    assert probed.map.effects[0].risk[0].value == pytest.approx(gaps.mean())


def test_variants_start_from_the_very_models_that_stand_beside_them(probed):
    jobs = jobs_of(probed)
    ordinary, private, transplant, rewound = (probed.store.weights(several[1].key).state for several in jobs[:4])
    frozen = probed.store.weights(jobs[5][1].key).state
    names = [name for name in ordinary if name.startswith("1.")]
    for name in names:
        stem = name in ("1.1.weight", "1.1.bias")
        assert torch.equal(transplant[name], (private if stem else ordinary)[name])
        assert torch.equal(rewound[name], ordinary[name]) is not stem
    again = Recipe(probed.task, probed.defence).network(probed.store.weights(jobs[1][1].key), probed.population)
    assert not torch.equal(again.state_dict()["1.1.weight"], frozen["1.1.weight"])


def test_a_second_run_trains_nothing_and_finds_the_same(probed):
    trained = []
    again = probe(
        probed.population, probed.task, probed.defence, probed.settings, probed.store, executor="inline",
        on_event=lambda event: trained.append(getattr(event, "how", "")),
    )  # fmt: skip
    assert "trained" not in trained
    assert again.effects == probed.map.effects
    cost = probe_cost(probed.population, probed.task, probed.defence, probed.settings, probed.store)
    assert (cost.models_to_train, cost.models_ready) == (0, 4 * (2 + 2 * 4))


def test_models_whose_weights_were_dropped_are_made_again(probed, tmp_path):
    settings, store = replace(probed.settings, operations=("transplant",)), Store(tmp_path, limit_bytes=0)
    found = probe(probed.population, probed.task, probed.defence, settings, store, executor="inline")
    same = [effect for effect in probed.map.effects if effect.operation == "transplant"]
    assert [e.accuracy_carried.value for e in found.effects] == [e.accuracy_carried.value for e in same]
    assert [e.carried("auc").value for e in found.effects] == pytest.approx([e.carried("auc").value for e in same])


def test_more_models_begin_with_the_same_ones(probed):
    more = replace(probed.settings, models=6)
    longer = probe_jobs(probed.population, probed.task, probed.defence, more, probed.store)
    assert [[job.key for job in several[:4]] for several in longer] == [[job.key for job in s] for s in jobs_of(probed)]


def reasons(probed, defence, regions=None) -> dict[str, str]:
    settings = replace(probed.settings, regions=regions or Regions())
    found = variants_of(probed.task, defence, probed.population, settings, probed.store)
    assert {one.operation for one in found.variants} | {one.attack for one in found.refused} == set(OPERATIONS)
    return {one.attack: one.reasons[0] for one in found.refused}


def test_what_cannot_be_done_is_refused_with_its_reason(probed):
    assert reasons(probed, probed.defence) == {}
    assert set(reasons(probed, SRCMReconstruction())) == {"transplant", "rewind-private"}
    assert "changes the layers" in reasons(probed, Dropout())["transplant"]
    assert set(reasons(probed, PPTPReconstruction(regions=("head",)))) == {"rewind-private"}
    assert set(reasons(probed, DPSGD.example())) == set()
    whole = Regions(by="expressions", expressions=(".*",))
    assert set(reasons(probed, probed.defence, whole)) == {"freeze"}


@pytest.mark.slow
def test_a_private_defence_is_probed_behind_its_own_scaling(probed, tmp_path):
    settings = replace(probed.settings, operations=("transplant", "rewind-private"))
    store = Store(tmp_path)
    found = probe(probed.population, probed.task, DPSGD.example(), settings, store, executor="inline")
    jobs = probe_jobs(probed.population, probed.task, DPSGD.example(), settings, store)
    assert len(found.effects) == 4
    for several in jobs[2:]:
        assert store.weights(several[0].key).guarantee_statement.startswith("none")
    assert store.weights(jobs[1][0].key).guarantee_statement.startswith("epsilon")


def test_settings_are_checked():
    with pytest.raises(UsageError, match="operations"):
        ProbeSettings(operations=())
    with pytest.raises(UsageError, match="operations"):
        ProbeSettings(operations=("rewind", "rewind"))
    with pytest.raises(UsageError, match="prune"):
        ProbeSettings(operations=("prune",))
    with pytest.raises(UsageError, match="even"):
        ProbeSettings(models=5)
    with pytest.raises(UsageError, match="models"):
        ProbeSettings(models=2)


def test_two_rates_of_zero_still_differ_by_what_their_counts_leave_open():
    ends = between_rates(0.0, 0.0, 100, 0.95)
    exact = 1 - 0.025 ** (1 / 100)
    assert ends == pytest.approx((-exact, exact))
    assert between_rates(0.4, 0.1, 50, 0.95).low < 0.3 < between_rates(0.4, 0.1, 50, 0.95).high
    assert between_rates(1.0, 0.0, 5, 0.95).high == 1.0
