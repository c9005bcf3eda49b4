"""Streams: what is the same, what is different, what is refused, and what never leaves memory."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import pickle
import threading

import numpy as np
import pytest
import torch
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from sfumato.errors import NotPrivateError, UsageError
from sfumato.private.noise import ContinuousGaussian, SeededNoise, SystemNoise
from sfumato.private.noise.box_muller import BLOCK, FLOAT32, FLOAT64, PAIRS, Workspace, normals
from sfumato.private.noise.key_stream import KEY_BYTES, Domain, KeyStream
from sfumato.seeding import derive

DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
SOURCES = pytest.mark.parametrize("make", [SystemNoise, lambda: SeededNoise(1, "a")], ids=["system", "seeded"])


def drawn(source, n, dtype=torch.float32):
    return source.fill(torch.empty(n, dtype=dtype))


@DTYPES
def test_the_normals_are_those_of_a_naive_box_muller_over_aes(dtype):
    key = hashlib.sha256(repr([derive(5, "noise", part, "w", 3) for part in range(5)]).encode()).digest()
    bits, domain = (32, 1) if dtype == torch.float32 else (64, 2)
    counter = domain.to_bytes(4, "big") + (0).to_bytes(12, "big")
    stream = Cipher(algorithms.AES(key), modes.CTR(counter)).encryptor().update(bytes(2 * BLOCK * bits // 8))
    words = np.frombuffer(stream, dtype=f"<i{bits // 8}").reshape(2, 2, PAIRS)
    expected = np.empty((2, 2, PAIRS))
    for block in range(2):
        for pair in range(PAIRS):
            k, a = (int(word) for word in words[block, :, pair])
            radius = np.sqrt(-2 * np.log(((k & (2 ** (bits - 1) - 1)) + 0.5) / 2 ** (bits - 1)))
            angle = 2 * np.pi * a / 2**bits
            expected[block, :, pair] = radius * np.cos(angle), radius * np.sin(angle)
    got = drawn(SeededNoise(5).at("w", 3), 2 * BLOCK, dtype)
    assert np.allclose(got.numpy(), expected.ravel(), atol=4e-4 if bits == 32 else 1e-7, rtol=1e-5)


@DTYPES
def test_a_stream_does_not_depend_on_how_it_is_cut(dtype):
    whole = drawn(SeededNoise(1).at(2, "w"), 70_000, dtype)
    for cuts in ([1, 2, 1023, 1024, 1025, 0, 66_925], [35_000, 35_000], [70_000]):
        source = SeededNoise(1).at(2, "w")
        assert torch.equal(torch.cat([drawn(source, cut, dtype) for cut in cuts]), whole)


def test_the_count_of_draws_is_exact():
    source, twin = SeededNoise(4), SeededNoise(4)
    for shape in ((3, 5), (), (0, 7), (100, 11)):
        source.fill(torch.empty(shape))
    assert torch.equal(drawn(twin, 15 + 1 + 0 + 1100 + 9)[-9:], drawn(source, 9))


def test_a_stream_does_not_depend_on_what_was_drawn_before():
    busy = SeededNoise(1)
    drawn(busy, 999)
    busy.uniform(7)
    assert torch.equal(drawn(busy.at(7, "w"), 100), drawn(SeededNoise(1).at(7, "w"), 100))
    assert np.array_equal(busy.at("draw", 3).uniform(50), SeededNoise(1).at("draw", 3).uniform(50))
    assert torch.equal(drawn(busy.at(7).at("w"), 100), drawn(SeededNoise(1, 7, "w"), 100))


def test_addresses_and_seeds_give_different_streams():
    roots = [
        SeededNoise(seed, *names) for seed in (0, 1) for names in ((), ("a",), ("b",), (1,), ("1",), (1, 1), (11,))
    ]
    first = {drawn(root, 4, torch.float64).numpy().tobytes() for root in roots}
    assert len(first) == len(roots)


def test_a_stream_does_not_depend_on_torch_threads():
    found = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        found.append(drawn(SeededNoise(3), 200_001))
    torch.set_num_threads(1)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


@DTYPES
def test_adding_is_filling_times_the_scale(dtype):
    base = torch.arange(3000, dtype=dtype).reshape(30, 100)
    noisy = SeededNoise(2).add_(base.clone(), 0.75)
    assert torch.equal(noisy, base + 0.75 * drawn(SeededNoise(2), 3000, dtype).reshape(30, 100))
    kind = ContinuousGaussian()
    assert torch.equal(kind.add(base.clone(), 0.75, SeededNoise(2)), noisy)
    assert kind.sensitivity_slack(10, 1.0) == 0


def test_a_parameter_that_requires_grad_is_filled_in_place():
    parameter = torch.nn.Parameter(torch.zeros(4, 4))
    assert SystemNoise().fill(parameter) is parameter
    assert bool((parameter != 0).all())


@pytest.mark.parametrize("kind", [FLOAT32, FLOAT64], ids=["float32", "float64"])
@pytest.mark.parametrize("word", [0, -1, 1, "largest", "smallest"])
def test_no_word_gives_an_infinite_normal_or_a_zero_radius(kind, word):
    limits = np.iinfo(kind.word)
    work = Workspace.of(kind)
    work.words[:1, 0] = {"largest": limits.max, "smallest": limits.min}.get(word, word)
    work.words[:1, 1] = 0
    normals(work, 1, work.normals[:1])
    radius = np.hypot(work.normals[0, 0], work.normals[0, 1])
    assert np.isfinite(radius).all()
    assert (radius > 0).all()
    assert radius.max() <= np.sqrt(2 * kind.bits * np.log(2)) * (1 + 1e-6)


@SOURCES
@pytest.mark.parametrize(
    ("out", "words"),
    [
        (torch.zeros(4, dtype=torch.bfloat16), "float32 or float64"),
        (torch.zeros(4, dtype=torch.float16), "float32 or float64"),
        (torch.zeros(4, dtype=torch.int64), "float32 or float64"),
        (torch.zeros(4, 4).t()[:, :3], "contiguous"),
    ],
    ids=["bfloat16", "float16", "int64", "strided"],
)
def test_tensors_that_cannot_take_noise_are_refused(make, out, words):
    for draw in (make().fill, lambda t: make().add_(t, 1.0)):
        with pytest.raises(UsageError, match=words):
            draw(out)
    assert bool((out == 0).all())


@pytest.mark.parametrize("std", [-1.0, float("nan"), float("inf")])
def test_a_scale_that_is_no_scale_is_refused(std):
    with pytest.raises(UsageError, match="standard deviation"):
        SystemNoise().add_(torch.zeros(3), std)


def test_uniforms_are_multiples_of_two_to_the_minus_53_below_one():
    uniform = SeededNoise(1).uniform(10_000)
    assert uniform.dtype == np.float64
    assert uniform.min() >= 0
    assert uniform.max() < 1
    assert np.array_equal(uniform * 2.0**53, np.floor(uniform * 2.0**53))
    assert np.any(uniform * 2.0**52 % 1)


@pytest.mark.parametrize("high", [1, 2, 3, 1000, 2**62 + 1, 2**63])
def test_integers_stay_in_range(high):
    found = SeededNoise(1).integers(high, 2000)
    assert found.dtype == np.int64
    assert found.min() >= 0
    assert int(found.max()) < high
    assert int(found.max()) > 0.9 * (high - 1) - 1


def test_integers_reject_what_would_bias_them():
    high = 2**62 + 2**61  # of 2^64 words, two thirds fall in two full rounds; the rest would favour the lower part
    found = SeededNoise(1).integers(high, 20_000)
    assert abs((found < high // 2).mean() - 0.5) < 5 * 0.5 / np.sqrt(20_000)
    with pytest.raises(UsageError, match="high"):
        SeededNoise(1).integers(0, 3)


@SOURCES
def test_a_key_is_never_written(make):
    source = make()
    key = getattr(source._desk.keys, "_KeyStream__key")  # noqa: B009 - the one place where it is
    assert len(key) == KEY_BYTES
    shown = repr(source) + str(source) + repr(source._desk) + repr(source._desk.keys) + json.dumps(source.describe())
    assert key.hex() not in shown
    assert repr(key) not in shown
    for holder in (source, source._desk.keys):
        for write in (pickle.dumps, copy.copy, copy.deepcopy):
            with pytest.raises(NotPrivateError, match="guarantee"):
                write(holder)
    with pytest.raises(NotPrivateError):
        copy.deepcopy({"source": source})
    assert not hasattr(source._desk.keys, "__dict__")


def test_a_short_key_is_refused():
    with pytest.raises(NotPrivateError, match="32 bytes"):
        KeyStream(b"short")


def test_the_system_never_repeats_itself():
    one, two = SystemNoise(), SystemNoise()
    rows = torch.stack([drawn(s, 5000, torch.float64) for s in (one, one, two, one.at(0, "w"), one.at(0, "w"))])
    assert len(rows.unique()) == rows.numel()
    assert one.at(3, "w") is one
    assert not one.audit_only
    assert SeededNoise(0).audit_only


def test_domains_do_not_share_a_stretch():
    source = SeededNoise(1)
    parts = []
    for domain in Domain:
        buffer = bytearray(4096)
        source._desk.keys.write(memoryview(buffer), domain, 0)
        parts += [bytes(buffer[i : i + 16]) for i in range(0, 4096, 16)]
    assert len(set(parts)) == len(parts)


def in_a_fork(draw):
    """The bytes that a forked child draws."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writing, draw())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        found = pipe.read()
    os.waitpid(child, 0)
    return found


def eight(source):
    return drawn(source, 8, torch.float64).numpy().tobytes()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_fork_does_not_repeat_the_noise_of_its_parent():
    source = SystemNoise()
    first = eight(source)
    children = [in_a_fork(lambda: eight(source)) for _ in range(2)]
    assert len({first, *children, eight(source)}) == 4
    assert all(len(child) == 64 for child in children)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_fork_in_the_middle_of_a_draw_does_not_wait_for_a_lost_lock():
    source, seeded = SystemNoise(), SeededNoise(1)
    eight(seeded)
    with source._desk.lock, seeded._desk.lock:
        assert len(in_a_fork(lambda: eight(source))) == 64
        child = in_a_fork(lambda: eight(seeded))
    assert child == eight(seeded)


def test_threads_share_a_source_without_repeats():
    source, found = SystemNoise(), [torch.empty(40_000, dtype=torch.float64) for _ in range(4)]
    threads = [threading.Thread(target=source.fill, args=(out,)) for out in found]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    values = torch.cat(found)
    assert len(values.unique()) == len(values)
    assert 0.95 < float(values.std()) < 1.05


@SOURCES
def test_a_draw_waits_for_the_one_before(make):
    """Both would write to the same buffers."""
    source = make()
    waiting = threading.Thread(target=source.fill, args=(torch.empty(3),))
    with source._desk.lock:
        waiting.start()
        waiting.join(timeout=0.1)
        assert waiting.is_alive()
    waiting.join(timeout=10)
    assert not waiting.is_alive()
