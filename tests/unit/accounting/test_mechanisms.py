import json
import math

import pytest
from dp_accounting.pld import PLDAccountant
from dp_accounting.rdp import RdpAccountant

from sfumato.accounting.adjacency import Adjacency
from sfumato.accounting.catalogue import mechanism, mechanisms
from sfumato.accounting.coverage import UNCOVERED, refuse_uncovered
from sfumato.accounting.mechanisms.gaussian import Gaussian
from sfumato.accounting.mechanisms.poisson_gaussian import PoissonGaussian
from sfumato.accounting.mechanisms.truncated_poisson_gaussian import TruncatedPoissonGaussian
from sfumato.errors import NotPrivateError, UsageError

ADD, REPLACE, ZERO = Adjacency.ADD_OR_REMOVE_ONE, Adjacency.REPLACE_ONE, Adjacency.REPLACE_SPECIAL
POISSON = PoissonGaussian(sample_rate=0.01, noise_multiplier=1.1, steps=100, adjacency=ADD)
CUT = TruncatedPoissonGaussian(
    sample_rate=0.05, noise_multiplier=1.0, steps=10, units=1000, max_batch_size=60, adjacency=ZERO
)
ALL = [POISSON, CUT, Gaussian(noise_multiplier=2.0, steps=3, adjacency=REPLACE)]


def test_all_are_found_by_name():
    assert list(mechanisms()) == ["gaussian", "poisson-gaussian", "randomised-response", "truncated-poisson-gaussian"]


@pytest.mark.parametrize("one", ALL, ids=lambda m: m.kind)
def test_the_plain_form_comes_back_through_json_with_other_entries_ignored(one):
    plain = json.loads(json.dumps(one.plain() | {"delta": 1e-5, "unit": "example", "audit_only": False}))
    assert mechanism(plain) == one
    assert plain["kind"] == one.kind == type(one).name
    assert type(mechanism(plain).adjacency) is Adjacency


@pytest.mark.parametrize("one", ALL, ids=lambda m: m.kind)
def test_sampler_noise_and_steps_are_said(one):
    for part in (one.sampler, f"{one.noise_multiplier:g}", f"{one.steps} steps"):
        assert part in one.described
    assert one.lasting(7).steps == 7
    assert PLDAccountant(one.adjacency.relation).supports(one.dp_event())


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"sample_rate": 0.0}, "sample_rate"),
        ({"sample_rate": 1.5}, "sample_rate"),
        ({"sample_rate": math.nan}, "sample_rate"),
        ({"sample_rate": True}, "sample_rate"),
        ({"noise_multiplier": -1.0}, "noise_multiplier"),
        ({"noise_multiplier": math.inf}, "noise_multiplier"),
        ({"noise_multiplier": "1"}, "noise_multiplier"),
        ({"steps": -1}, "steps"),
        ({"steps": 1.5}, "steps"),
        ({"steps": True}, "steps"),
        ({"adjacency": "add"}, "adjacency"),
        ({"kind": "laplace"}, "laplace"),
    ],
)
def test_what_is_not_usable_is_refused_by_name(change, named):
    with pytest.raises(UsageError, match=named):
        mechanism(POISSON.plain() | change)


@pytest.mark.parametrize("gone", ["sample_rate", "steps", "adjacency", "noise_multiplier", "kind"])
def test_a_missing_field_is_refused(gone):
    plain = {key: value for key, value in POISSON.plain().items() if key != gone}
    with pytest.raises(UsageError, match="kind"):
        mechanism(plain)


@pytest.mark.parametrize("name", ["units", "max_batch_size"])
def test_truncation_needs_whole_sizes(name):
    with pytest.raises(UsageError, match=name):
        mechanism(CUT.plain() | {name: 0})
    with pytest.raises(UsageError, match=name):
        mechanism(CUT.plain() | {name: 2.5})


def test_truncation_with_a_secret_number_of_units_is_refused():
    with pytest.raises(NotPrivateError, match="number of units"):
        mechanism(CUT.plain() | {"adjacency": "ADD_OR_REMOVE_ONE"})


def test_renyi_events_exist_where_dp_accounting_has_a_bound():
    for relation, one in ((ADD, POISSON), (ZERO, POISSON), (REPLACE, ALL[2])):
        event = mechanism(one.plain() | {"adjacency": relation.value}).renyi_event()
        assert RdpAccountant().supports(event)
    assert mechanism(POISSON.plain() | {"adjacency": "REPLACE_ONE"}).renyi_event() is None
    assert CUT.renyi_event() is None


def test_replacing_moves_a_gaussian_twice_as_far_for_renyi_too():
    assert ALL[2].renyi_event().event.noise_multiplier == 1.0


@pytest.mark.parametrize("sampler", UNCOVERED)
def test_samplers_without_an_accountant_are_refused_with_the_reason(sampler):
    with pytest.raises(NotPrivateError, match=sampler) as caught:
        refuse_uncovered(sampler)
    assert UNCOVERED[sampler] in str(caught.value)


def test_poisson_is_not_refused():
    assert refuse_uncovered("poisson") is None


def test_a_relation_knows_its_name_and_how_often_it_swaps():
    assert [relation.swaps for relation in Adjacency] == [2, 1, 2]
    assert len({relation.words for relation in Adjacency}) == 3
    with pytest.raises(UsageError, match="REPLACE_ONE"):
        Adjacency.named("REPLACE_ON")
