from dataclasses import replace

import numpy as np
import pytest

from sfumato.accounting.guarantee import NoGuarantee
from sfumato.accounting.history import Event, History
from sfumato.attacks.membership.loss import LossThreshold
from sfumato.audit.compare import compare, fit_runner, guarantee_of, jobs_for
from sfumato.audit.executing import executed
from sfumato.audit.settings import AuditSettings
from sfumato.errors import SfumatoError, UsageError
from sfumato.execution.events import silent
from sfumato.execution.jobs import JobResult
from sfumato.execution.store import Store


def test_subjects_share_training_sets_and_seeds_so_that_differences_are_paired(population, recipes, settings):
    membership = settings.membership(population)
    first, second = jobs_for(population, recipes, membership, settings)
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a.rows, b.rows)
        assert a.seed == b.seed
        assert a.key != b.key
    assert len({job.seed for job in first}) == settings.models


def test_the_record_says_what_was_done(compared):
    record = compared.run.record
    assert record.kind == "compare"
    assert [s.name for s in record.subjects] == ["undefended", "label-smoothing"]
    assert record.design.models == 16
    assert record.design.targets == 8
    assert record.design.references_per_target == 6
    assert record.data.units == 60
    assert record.data.unit == "person"
    assert {a.name for a in record.subjects[0].attacks} == {"loss", "lira-online", "bavaria"}
    assert record.citations
    assert any("chosen on the scores" in notice.text for notice in record.notices)
    assert any("Only 8 models" in notice.text for notice in record.notices)


def test_memorised_noise_is_seen(compared):
    auc = compared.run.record.subject("undefended").attack("loss").finding("auc")
    assert auc.low > 0.6
    assert auc.n_members + auc.n_nonmembers == 8 * compared.run.record.data.game_units


def test_the_record_never_promises_anything_for_empirical_defences(compared):
    """No formal guarantee anywhere; an epsilon only as a measured lower bound beside its ceiling."""

    def walk(value, path=()):
        if isinstance(value, dict):
            for key, item in value.items():
                yield from walk(item, (*path, key))
        elif isinstance(value, list):
            for item in value:
                yield from walk(item, (*path, "*"))
        else:
            yield path, value

    record = compared.run.record
    leaves = list(walk(record.model_dump()))
    statuses = [value for path, value in leaves if path[-2:] == ("guarantee", "status")]
    assert statuses == ["none", "none"]
    assert not any(value == "formal" for _, value in leaves)
    assert {path[:3] for path, _ in leaves if "epsilon" in path} == {("subjects", "*", "epsilon")}
    named = [path for path, value in leaves if path[-1] == "name" and "epsilon" in str(value).lower()]
    assert named == []
    for subject in record.subjects:
        assert "ordinary training" in subject.guarantee.statement
        assert len(subject.epsilon) == 2
        for bound in subject.epsilon:
            assert 0 <= bound.value <= bound.ceiling
            assert "lower bound" in bound.note
            assert bound.assumption
    words = " ".join(str(value) for _, value in leaves).lower()
    assert [w for w in (" is safe", "anonymous", "compliant") if w in words] == []


def test_epsilon_bounds_only_from_independent_coins(population, recipes, compared, settings, tmp_path):
    halves = replace(settings, design="halves", models=2)
    run = compare(population, recipes[:1], halves, Store(tmp_path), executor="inline")
    assert run.record.kind == "audit"
    assert run.record.subjects[0].epsilon == []
    assert any("No lower bound on epsilon" in notice.text for notice in run.record.notices)
    assert {one.attack for one in run.record.subjects[0].not_run} == {"lira-online", "bavaria"}
    assert run.record.subjects[0].vulnerability is None
    assert run.worst == ()


def test_a_second_run_reuses_every_model_and_finds_the_same(compared):
    events = []
    again = compare(
        compared.population, compared.recipes, compared.settings, compared.store, on_event=events.append
    )  # fmt: skip
    assert again.record.design.trained == 0
    assert again.record.design.reused == 16
    assert events
    for old, new in zip(compared.run.record.subjects, again.record.subjects, strict=True):
        assert [a.findings for a in old.attacks] == [a.findings for a in new.attacks]
        assert old.vulnerability == new.vulnerability
        assert old.epsilon == new.epsilon


def test_comparisons_are_second_minus_first_over_pairs(compared):
    record = compared.run.record
    first, second = record.subjects
    rows = {(c.attack, c.finding, c.at): c for c in record.comparisons}
    gap = rows["loss", "auc", None]
    assert (gap.subject, gap.baseline) == ("label-smoothing", "undefended")
    per = [np.array(s.attack("loss").per_target["auc"]) for s in (second, first)]
    assert gap.difference.value == pytest.approx((per[0] - per[1]).mean())
    accuracy = [next(f.value for f in s.utility if f.name == "accuracy") for s in (second, first)]
    assert rows["", "accuracy", None].difference.value == pytest.approx(accuracy[0] - accuracy[1])
    rare = rows["loss", "tpr_at_fpr", 0.01].difference
    assert not rare.resolvable  # too few units per target: said, not skipped
    assert rare.value is None


def test_names_must_differ(population, recipes, settings, tmp_path):
    for wrong in ((), (recipes[0], recipes[0])):
        with pytest.raises(UsageError, match="distinct names"):
            compare(population, wrong, settings, Store(tmp_path))


def test_one_ordinary_read_among_the_models_ends_the_guarantee():
    private = History((Event("training", "noisy steps", 5, {"mechanism": "gaussian"}),))
    public = private.then(Event("data", "fitted scaler", 5))

    def result(history):
        return JobResult("k", np.zeros((1, 2)), {}, {"history": history.plain()})

    found = guarantee_of([result(public), result(private)])
    assert found == NoGuarantee("none, because of fitted scaler at stage data")
    assert guarantee_of([result(private)]).statement.startswith("none, because of noisy steps")


def test_part_of_the_models_is_an_error(population, recipes, settings, tmp_path, monkeypatch, compared):
    import sfumato.audit.executing as module

    membership = settings.membership(population)
    jobs = jobs_for(population, recipes[:1], membership, settings)[0]
    whole = executed(jobs, settings.queries, compared.store, "inline", silent)
    monkeypatch.setattr(module, "execute", lambda *_, **__: replace(whole, results=whole.results[:3], missing=(3,)))
    with pytest.raises(SfumatoError, match="Expected results of 8 models, got 3"):
        executed(jobs, settings.queries, compared.store, "inline", silent)


def test_fits_are_kept_in_the_store(tmp_path, attack_evidence):
    from sfumato.attacks.membership.quantile import Quantile

    evidence = attack_evidence.synthetic()[0].restricted_to(Quantile().needs())
    fit = Quantile().fits(evidence)[0]
    store = Store(tmp_path)
    first = fit_runner(store)(fit)
    stored = store.get_fit(fit.key)
    assert stored is not None
    for name, array in first.items():
        np.testing.assert_array_equal(stored[name], array)


def test_the_settings_of_a_comparison_are_not_those_of_another(population):
    a = AuditSettings(attacks=(LossThreshold(),), seed=1)
    assert (a.membership(population).matrix != replace(a, seed=2).membership(population).matrix).any()
