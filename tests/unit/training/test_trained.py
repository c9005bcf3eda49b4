from dataclasses import replace

import pytest
import torch

from sfumato.accounting.guarantee import Guarantee, NoGuarantee
from sfumato.accounting.history import Event, History
from sfumato.accounting.mechanisms.poisson_gaussian import PoissonGaussian
from sfumato.errors import UsageError
from sfumato.training.trained import Trained


@pytest.fixture
def trained():
    history = History((Event("training", "ordinary training, up to 3 epochs", 20),))
    state = {"w": torch.randn(3, 4).T, "n": torch.tensor(3)}
    return Trained(state, history, 7, epochs=3, best_epoch=2, seconds=1.5, stacked_with=4, kernels={"0": "loop"})


def test_weights_and_history_survive_the_file(trained, tmp_path):
    trained.save(tmp_path / "m.safetensors", key="k")
    back = Trained.load(tmp_path / "m.safetensors", key="k")
    assert all(torch.equal(back.state[name], value) for name, value in trained.state.items())
    assert back.facts() == trained.facts()
    assert back.history == trained.history
    assert [path.name for path in tmp_path.iterdir()] == ["m.safetensors"]


def test_a_file_of_another_job_or_a_damaged_one_is_refused(trained, tmp_path):
    path = tmp_path / "m.safetensors"
    trained.save(path, key="k")
    with pytest.raises(UsageError, match="another file"):
        Trained.load(path, key="other")
    path.write_bytes(path.read_bytes()[:30])
    with pytest.raises(UsageError, match="written by sfumato"):
        Trained.load(path)


def private_read(steps=100, **facts):
    ran = PoissonGaussian(sample_rate=0.05, noise_multiplier=1.1, steps=steps, adjacency="ADD_OR_REMOVE_ONE")
    facts = {"delta": 1e-5, "unit": "example", "audit_only": False} | facts
    return Event("training", f"DP-SGD, {steps} steps", 20, ran.plain() | facts)


def test_the_guarantee_composes_the_whole_history(trained):
    once = replace(trained, history=History((private_read(),)))
    twice = replace(trained, history=History((private_read(), private_read(200))))
    assert isinstance(once.guarantee, Guarantee)
    assert twice.guarantee.epsilon > replace(trained, history=History((private_read(200),))).guarantee.epsilon
    assert once.guarantee_statement.startswith("epsilon ")
    assert "audit run" not in once.guarantee_statement
    seeded = replace(trained, history=History((private_read(), private_read(audit_only=True))))
    assert "audit run" in seeded.guarantee_statement


def test_the_guarantee_survives_the_file(trained, tmp_path):
    private = replace(trained, history=History((private_read(),)))
    private.save(tmp_path / "m.safetensors")
    assert Trained.load(tmp_path / "m.safetensors").guarantee == private.guarantee


@pytest.mark.parametrize("place", [0, 1])
def test_one_ordinary_read_anywhere_takes_the_guarantee_away(trained, place):
    events = [private_read(), private_read()]
    events.insert(place, Event("data", "list of categories", 20))
    found = replace(trained, history=History(tuple(events)))
    assert found.guarantee == NoGuarantee("none, because of list of categories at stage data")


def test_there_is_no_guarantee_and_the_reason_is_the_first_ordinary_read(trained):
    assert isinstance(trained.guarantee, NoGuarantee)
    assert "ordinary training, up to 3 epochs at stage training" in trained.guarantee_statement


def test_a_model_of_a_users_function_has_no_weights_to_save(tmp_path):
    with pytest.raises(UsageError, match="weights"):
        Trained(None, History(), 1).save(tmp_path / "m")
