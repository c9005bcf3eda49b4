import itertools

import numpy as np
import pytest
import torch

from sfumato.errors import UsageError
from sfumato.seeding import derive, stream, torch_stream


def test_names_make_streams_and_the_same_names_the_same_stream():
    assert derive(1, "a", 2) == derive(1, "a", 2)
    np.testing.assert_array_equal(stream(1, "a").random(5), stream(1, "a").random(5))
    assert torch.equal(torch.rand(5, generator=torch_stream(1, "a")), torch.rand(5, generator=torch_stream(1, "a")))


def test_known_value_so_that_stored_models_stay_valid():
    assert derive(0, "model", 3) == 6617725805496937947


def test_different_names_differ():
    names = [(), ("a",), ("b",), ("a", "b"), ("ab",), (1,), ("1",), (1, 2), (12,), ("a\x1fstr:b",), ("a\x1f", "b")]
    seeds = [derive(seed, *name) for seed, name in itertools.product((0, 1, -1), names)]
    assert len(set(seeds)) == len(seeds)


def test_seeds_fit_into_63_bits():
    assert all(0 <= derive(0, i) < 2**63 for i in range(200))


def test_numpy_whole_numbers_are_whole_numbers():
    assert derive(np.int64(3), np.int32(4)) == derive(3, 4)


@pytest.mark.parametrize("seed", [1.5, "1", None, True])
def test_a_seed_that_is_no_whole_number_is_refused(seed):
    with pytest.raises(UsageError, match="seed"):
        derive(seed, "a")


@pytest.mark.parametrize("name", [1.5, None, True, ("a",)])
def test_a_name_that_is_neither_text_nor_number_is_refused(name):
    with pytest.raises(UsageError, match="name of a stream"):
        derive(0, name)


def test_streams_leave_the_global_generators_alone():
    np.random.seed(0)
    torch.manual_seed(0)
    before = np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    stream(0, "a").random(3)
    torch.rand(3, generator=torch_stream(0, "a"))
    assert before == (np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())
