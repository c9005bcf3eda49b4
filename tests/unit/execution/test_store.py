import json
import os
import time

import numpy as np
import pytest
import torch

from sfumato.accounting.history import Event, History
from sfumato.canonical import content_hash
from sfumato.errors import StoreMismatch
from sfumato.execution.jobs import JobResult
from sfumato.execution.locks import locked
from sfumato.execution.run import run_fit
from sfumato.execution.store import Store
from sfumato.training.trained import Trained

KEY = content_hash("a job")


def result(key=KEY, scalars=None):
    return JobResult(key, np.arange(6, dtype=np.float32).reshape(2, 3), scalars or {}, {"seconds": 1.5})


def model(size=10, seed=1):
    return Trained({"w": torch.arange(float(size))}, History((Event("training", "a test", 2),)), seed)


def put(store, key=KEY, size=10, scalars=None):
    with store.lock(key):
        store.put(result(key, scalars), model(size))


def folder(store, key=KEY):
    return store.root / "jobs" / key[:2] / key


def test_what_goes_in_comes_out(store):
    put(store, scalars={"mirror-x1": {"hinge": np.ones((2, 2), dtype=np.float32)}})
    found = store.get(KEY)
    np.testing.assert_array_equal(found.logits, result().logits)
    assert found.facts == {"seconds": 1.5}
    assert found.has_weights
    assert found.scalars == {}
    assert [q.key for q in store.queries_of(KEY)] == ["mirror-x1"]
    weights = store.weights(KEY)
    assert torch.equal(weights.state["w"], torch.arange(10.0))
    assert weights.history.events[0].purpose == "a test"


def test_nothing_is_found_under_another_key(store):
    put(store)
    assert store.get(content_hash("another")) is None
    assert store.weights(content_hash("another")) is None


@pytest.mark.parametrize("name", ["logits.npz", "manifest.json", "weights.safetensors"])
@pytest.mark.parametrize("damage", ["flip", "truncate", "remove"])
def test_a_damaged_file_is_noticed_and_named(store, name, damage):
    put(store)
    path = folder(store) / name
    data = bytearray(path.read_bytes())
    if damage == "remove":
        path.unlink()
    else:
        data[len(data) // 2] ^= 1
        path.write_bytes(data if damage == "flip" else data[: len(data) // 2])
    read = store.weights if name == "weights.safetensors" else store.get
    with pytest.raises(StoreMismatch) as error:
        read(KEY)
    assert str(folder(store)) in str(error.value)
    assert "Delete" in error.value.remedy


def test_an_entry_under_a_wrong_name_is_refused(store):
    put(store)
    other = content_hash("another")
    folder(store, other).parent.mkdir(parents=True, exist_ok=True)
    os.rename(folder(store), folder(store, other))
    with pytest.raises(StoreMismatch, match="another job"):
        store.get(other)


def test_a_damaged_entry_moved_aside_counts_as_absent(store):
    put(store)
    (folder(store) / "manifest.json").write_text("{")
    place = store.move_aside(KEY)
    assert place.is_dir()
    assert store.get(KEY) is None
    put(store)
    assert store.get(KEY) is not None


def test_a_half_written_entry_is_never_seen_and_is_cleaned_up(store):
    stale = store.root / "temporary" / f"{KEY}-999"
    stale.mkdir(parents=True)
    (stale / "logits.npz").write_bytes(b"half")
    assert store.get(KEY) is None
    put(store)
    assert list((store.root / "temporary").iterdir()) == []


def test_answers_to_more_queries_are_added(store):
    put(store)
    with store.lock(KEY):
        store.add_scalars(KEY, {"none-x3": {"logit": np.zeros((2, 1), dtype=np.float32)}})
    assert [q.key for q in store.queries_of(KEY)] == ["none-x3"]
    np.testing.assert_array_equal(store.get(KEY, store.queries_of(KEY)).scalars["none-x3"]["logit"], np.zeros((2, 1)))


def test_the_oldest_large_weights_go_first_and_answers_stay(tmp_path):
    store = Store(tmp_path)
    keys = [content_hash(i) for i in range(4)]
    for age, (key, size) in enumerate(zip(keys, (10, 1000, 1000, 1000), strict=True)):
        put(store, key, size)
        os.utime(folder(store, key) / "weights.safetensors", (age, age))
    total = store.contents().weight_bytes
    dropped = Store(tmp_path, limit_bytes=total - 5000).shrink()
    assert dropped.models == 2
    assert dropped.bytes > 5000
    assert [store.get(key).has_weights for key in keys] == [True, False, False, True]
    assert store.weights(keys[1]) is None
    assert Store(tmp_path, limit_bytes=total).shrink().models == 0


def test_weights_that_another_run_uses_are_not_dropped(tmp_path):
    store = Store(tmp_path, limit_bytes=0)
    put(store)
    with store.lock(KEY):
        assert store.shrink().models == 0
    assert store.shrink().models == 1


def test_a_lock_is_exclusive_and_given_back(tmp_path):
    with locked(tmp_path / "l", wait=False) as first, locked(tmp_path / "l", wait=False) as second:
        assert first
        assert not second
    with locked(tmp_path / "l", wait=True) as again:
        assert again


def test_choices_stay_as_first_made_and_survive_damage(store):
    store.choices.put("kernels", {"a": 1}, {"conv": "loop"})
    store.choices.put("kernels", {"a": 1}, {"conv": "grouped"})
    assert store.choices.get("kernels", {"a": 1}) == {"conv": "loop"}
    assert store.choices.get("kernels", {"a": 2}) is None
    store.choices.path.write_text("[")
    assert store.choices.get("kernels", {"a": 1}) is None
    store.choices.put("kernels", {"a": 1}, {"conv": "unfold"})
    assert json.loads(store.choices.path.read_text())


class Fit:
    key = content_hash("a fit")

    def __init__(self):
        self.runs = 0

    def run(self):
        self.runs += 1
        return {"coefficients": np.arange(3.0)}


def test_a_fit_is_run_once_and_again_when_damaged(store):
    fit = Fit()
    for _ in range(2):
        np.testing.assert_array_equal(run_fit(fit, store)["coefficients"], np.arange(3.0))
    assert fit.runs == 1
    path = store.root / "fits" / fit.key[:2] / fit.key / "arrays.npz"
    path.write_bytes(path.read_bytes()[:-3])
    run_fit(fit, store)
    assert fit.runs == 2


def test_contents_count_everything(store):
    assert store.contents().jobs == 0
    put(store)
    run_fit(Fit(), store)
    contents = store.contents()
    assert (contents.jobs, contents.with_weights, contents.fits) == (1, 1, 1)
    assert contents.total_bytes > contents.weight_bytes > 0
    assert time.time() - os.stat(store.root).st_mtime < 60
