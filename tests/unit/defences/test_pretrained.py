from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from sfumato.accounting.guarantee import Guarantee
from sfumato.canonical import content_hash
from sfumato.data.population import Population
from sfumato.defences.dpsgd import DPSGD
from sfumato.defences.pretrained import UNSEEN, Pretrained, frozen
from sfumato.defences.undefended import Undefended
from sfumato.errors import StoreMismatch, UnsupportedModel, UsageError
from sfumato.models.mlp import MLP
from sfumato.training.preparation import Assignment, LoopOptions
from sfumato.training.recipe import Recipe
from sfumato.training.task import Optimizer, Task

FAMILY = MLP(hidden=(5,))
TASK = Task(model=FAMILY, epochs=1, batch_size=8, optimizer=Optimizer(lr=0.1))


def population(classes=3):
    rng = np.random.default_rng(0)
    return Population(rng.normal(size=(30, 4)).astype(np.float32), "example", labels=np.arange(30) % classes)


def trained(recipe, data=None, seed=1):
    return recipe.fit(data or population(), [Assignment(np.arange(24), seed)], LoopOptions())[0]


@pytest.fixture
def plain_weights(tmp_path):
    """A file of somebody else: tensors and nothing more."""
    path = tmp_path / "elsewhere.safetensors"
    generator = torch.Generator().manual_seed(0)
    state = FAMILY.build((4,), 3).state_dict()
    save_file({name: torch.randn(value.shape, generator=generator) for name, value in state.items()}, path)
    return path


def moved(state, path):
    """Names of what differs from the file."""
    given = load_file(path)
    return [name for name, value in given.items() if not torch.equal(state[name], value)]


@pytest.mark.parametrize("standardise", [False, True])
def test_weights_of_sfumato_are_taken_whatever_stood_in_front_of_the_network(tmp_path, standardise):
    """Scaling layers push the names down by some places."""
    before = trained(Recipe(replace(TASK, standardise=standardise), Undefended()))
    before.save(tmp_path / "w.safetensors")
    network = Pretrained(weights=str(tmp_path / "w.safetensors"), data="private").prepare(FAMILY.build((4,), 3))
    prefix = "1." if standardise else ""
    for name, value in network.state_dict().items():
        assert torch.equal(value, before.state[prefix + name])


def test_a_head_for_other_classes_stays_fresh_and_is_named(plain_weights):
    defence = Pretrained(weights=str(plain_weights), data="public")
    fresh = FAMILY.build((4,), 7)
    head = [name for name, value in fresh.state_dict().items() if 7 in value.shape]
    fit = defence.fit(fresh)
    assert list(fit.fresh) == head
    before = {name: fresh.state_dict()[name].clone() for name in head}
    after = defence.prepare(fresh).state_dict()
    assert all(torch.equal(after[name], before[name]) for name in head)
    given = load_file(plain_weights)
    assert fit.loaded
    assert all(torch.equal(after[name], given[name]) for name in fit.loaded)


def test_weights_of_which_nothing_fits_are_refused(plain_weights):
    with pytest.raises(UsageError, match="no name and shape agrees"):
        Pretrained(weights=str(plain_weights), data="public").prepare(MLP(hidden=(9,)).build((11,), 2))


@pytest.mark.parametrize(
    ("trainable", "open_"), [("all", 4), ("head", 2), (r".*bias", 2), (r"\d+\.weight", 2)], ids=str
)
def test_only_what_is_trainable_moves(plain_weights, trainable, open_):
    recipe = Recipe(TASK, Pretrained(weights=str(plain_weights), data="public", trainable=trainable))
    names = moved(trained(recipe).state, plain_weights)
    assert len(names) == open_
    if trainable == "head":
        last = max(name.partition(".")[0] for name in load_file(plain_weights))
        assert {name.partition(".")[0] for name in names} == {last}


def test_an_expression_that_matches_nothing_or_is_none_is_refused(plain_weights):
    with pytest.raises(UnsupportedModel, match="matches none of"):
        frozen(FAMILY.build((4,), 3), "nothing")
    with pytest.raises(UsageError, match="regular expression"):
        Pretrained(weights=str(plain_weights), data="public", trainable="(")


def test_whose_records_they_were_must_be_said(plain_weights):
    with pytest.raises(TypeError, match="data"):
        Pretrained(weights=str(plain_weights))
    with pytest.raises(UsageError, match="data"):
        Pretrained(weights=str(plain_weights), data="unknown")


def test_private_weights_bring_their_history_and_public_ones_do_not(tmp_path, plain_weights):
    trained(Recipe(TASK, Undefended())).save(tmp_path / "ordinary.safetensors")
    private = DPSGD.example()
    after = {}
    for data in ("public", "private"):
        start = Pretrained(weights=str(tmp_path / "ordinary.safetensors"), data=data, inner=private)
        after[data] = trained(Recipe(TASK, start)).guarantee
    assert isinstance(after["public"], Guarantee)
    assert after["private"].statement == "none, because of ordinary training, up to 1 epochs at stage training"
    unknown = Pretrained(weights=str(plain_weights), data="private", inner=private)
    assert trained(Recipe(TASK, unknown)).guarantee_statement == f"none, because of {UNSEEN} at stage pre-training"


def test_head_only_private_training_leaves_the_features_as_they_were(plain_weights):
    start = Pretrained(weights=str(plain_weights), data="public", trainable="head", inner=DPSGD.example())
    result = trained(Recipe(TASK, start))
    assert isinstance(result.guarantee, Guarantee)
    given = load_file(plain_weights)
    inner = {name.partition(".")[2]: value for name, value in result.state.items()}
    assert len(moved(inner, plain_weights)) == 2 < len(given)
    assert sum(name.startswith("private ") for name in result.kernels) == 2


def test_the_content_names_it_and_a_changed_file_is_refused(plain_weights, tmp_path):
    defence = Pretrained(weights=str(plain_weights), data="public")
    (tmp_path / "there").mkdir()
    elsewhere = tmp_path / "there" / plain_weights.name
    elsewhere.write_bytes(plain_weights.read_bytes())
    assert content_hash(Pretrained(weights=str(elsewhere), data="public")) == content_hash(defence)
    assert str(tmp_path) not in str(defence.spec())
    save_file({"0.weight": torch.zeros(5, 4)}, plain_weights)
    assert content_hash(Pretrained(weights=str(plain_weights), data="public")) != content_hash(defence)
    with pytest.raises(StoreMismatch, match="other content"):
        defence.prepare(FAMILY.build((4,), 3))


@pytest.mark.parametrize("content", [b"", b"no weights at all", b"\x08\x00\x00\x00\x00\x00\x00\x00{}      "])
def test_damaged_files_and_missing_ones_are_refused(tmp_path, content):
    path = tmp_path / "w.safetensors"
    with pytest.raises(UsageError, match="path of weights"):
        Pretrained(weights=str(path), data="public").spec()
    path.write_bytes(content)
    with pytest.raises(UsageError, match=r"Expected weights"):
        Pretrained(weights=str(path), data="private").prepare(FAMILY.build((4,), 3))
