import pytest
import torch

from sfumato.accounting.history import Event, History
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


def test_there_is_no_guarantee_and_the_reason_is_the_first_ordinary_read(trained):
    assert trained.guarantee is None
    assert "ordinary training, up to 3 epochs at stage training" in trained.guarantee_statement


def test_a_model_of_a_users_function_has_no_weights_to_save(tmp_path):
    with pytest.raises(UsageError, match="weights"):
        Trained(None, History(), 1).save(tmp_path / "m")
