import pytest
import torch

from sfumato.errors import UsageError
from sfumato.private.noise import SeededNoise, SystemNoise
from sfumato.sde.noise import TOGETHER, Drawn, SourceDraws, normals_from
from sfumato.sde.streams import StreamLayer, normals, normals_of_steps
from sfumato.training.draws import Draws

DRAWS = Draws((1, 2, 3), ("training", 0))


def layer(draws=DRAWS, noise="fresh"):
    made = StreamLayer()
    made.draws, made.noise = draws, noise
    return made


def path(made, steps, like):
    drawn = Drawn(made, 0, steps)
    return torch.stack([drawn(step, like) for step in range(steps)])


@pytest.mark.parametrize("state", [(64,), (8, 20, 20), (4, 64, 64)])
@pytest.mark.parametrize("noise", ["fresh", "common"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_models_alone_and_batches_cut_short_get_the_same_numbers(state, noise, dtype):
    steps, rows = 7, 4
    whole = path(layer(noise=noise), steps, torch.empty(3 * rows, *state, dtype=dtype))
    assert whole.dtype == dtype
    for m, seed in enumerate(DRAWS.seeds):
        alone = layer(Draws((seed,), DRAWS.path), noise)
        own = path(alone, steps, torch.empty(rows, *state, dtype=dtype))
        assert torch.equal(whole[:, m * rows : (m + 1) * rows], own)
        short = path(alone, steps, torch.empty(rows - 1, *state, dtype=dtype))
        assert torch.equal(own[:, : rows - 1], short)
        assert bool((own[:, 0] == own[:, 1]).all()) == (noise == "common")
    flat = whole.reshape(steps, -1)
    assert len({tuple(row[:4].tolist()) for row in flat}) == steps


def test_normals_are_standard_and_steps_independent():
    drawn = path(layer(Draws((1,))), 100, torch.empty(40, 64))
    assert float(drawn.mean()) == pytest.approx(0, abs=5 / drawn.numel() ** 0.5)
    assert float(drawn.var()) == pytest.approx(1, abs=5 * (2 / drawn.numel()) ** 0.5)
    following = (drawn[1:] * drawn[:-1]).mean()
    assert float(following) == pytest.approx(0, abs=5 / drawn[1:].numel() ** 0.5)


@pytest.mark.parametrize("state", [(64,), (8, 32, 32)])
def test_a_step_that_is_asked_for_again_gets_the_same(state):
    drawn, like = Drawn(layer(), 0, 300), torch.empty(3, *state)
    first = [drawn(step, like).clone() for step in (0, 1, 299)]
    again = [drawn(step, like) for step in (299, 1, 0)]
    assert all(torch.equal(a, b) for a, b in zip(first, reversed(again), strict=True))


def test_small_states_are_drawn_together_and_large_ones_step_by_step():
    calls = []

    class Counting(Draws):
        def at(self, *names):
            return Counting(self.seeds, (*self.path, *names))

        def gaussian(self, name, *shape, dtype=torch.float32):
            calls.append(shape)
            return super().gaussian(name, *shape, dtype=dtype)

    path(layer(Counting((1,))), 100, torch.empty(2, 64))
    assert calls == [(2, 32, 64)] * 3 + [(2, 4, 64)]
    calls.clear()
    path(layer(Counting((1,))), 3, torch.empty(2, TOGETHER))
    assert calls == [(2, TOGETHER)] * 3


def test_rows_that_do_not_divide_and_missing_streams_are_refused():
    with pytest.raises(UsageError, match="divides into 3 models"):
        normals(layer(), 0, 0, torch.empty(4, 2))
    with pytest.raises(UsageError, match="streams"):
        normals_of_steps(layer(None), 0, 0, torch.empty(4, 2), 3)


def test_without_streams_torch_s_own_generator_draws():
    torch.manual_seed(4)
    found = path(layer(None), 2, torch.empty(3, 5))
    torch.manual_seed(4)
    assert torch.equal(found, torch.stack([torch.randn(3, 5) for _ in range(2)]))
    shared = path(layer(None, "common"), 2, torch.empty(3, 5))
    assert torch.equal(shared[:, 0], shared[:, 2])


def test_a_source_gives_streams_of_one_model():
    draws, seeded = SourceDraws(SystemNoise()), SourceDraws(SeededNoise(1))
    assert (draws.models, draws.repeatable, seeded.repeatable) == (1, False, True)
    assert not torch.equal(draws.at(1).gaussian("x", 8), draws.at(1).gaussian("x", 8))
    assert torch.equal(seeded.at(1).gaussian("x", 8), seeded.at(1).gaussian("x", 8))
    assert not torch.equal(seeded.at(1).gaussian("x", 8), seeded.at(2).gaussian("x", 8))
    assert seeded.gaussian("x", 2, 3, dtype=torch.float64).dtype == torch.float64
    kept = seeded.keep("k", 0.25, 50, 100)
    assert (kept.shape, kept.dtype) == ((1, 50, 100), torch.bool)
    assert float(kept.double().mean()) == pytest.approx(0.25, abs=5 * (0.1875 / 5000) ** 0.5)


def test_a_whole_path_from_a_source():
    like = torch.empty(4, 3, 2, dtype=torch.float64)
    found = normals_from(SystemNoise(), 5, like)
    assert (found.shape, found.dtype) == ((5, 4, 3, 2), torch.float64)
    assert not torch.equal(found, normals_from(SystemNoise(), 5, like))
    assert torch.equal(normals_from(SeededNoise(2), 5, like), normals_from(SeededNoise(2), 5, like))
    with pytest.raises(UsageError, match="float32 or float64"):
        normals_from(SystemNoise(), 5, like.half())
    with pytest.raises(UsageError, match="steps"):
        normals_from(SystemNoise(), 0, like)
