import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from sfumato.canonical import canonical_json
from sfumato.data.population import Population
from sfumato.defences.crl import CRL
from sfumato.defences.dpsgd import DPSGD
from sfumato.defences.label_smoothing import LabelSmoothing
from sfumato.defences.pptp_reconstruction import PPTPReconstruction
from sfumato.defences.undefended import Undefended
from sfumato.errors import NotPrivateError, StoreMismatch, UnsupportedModel, UsageError
from sfumato.models.mlp import MLP
from sfumato.models.ranking import RankedRegion, Ranking
from sfumato.training.checkpoint import Checkpoint
from sfumato.training.preparation import Assignment, LoopOptions, network_of
from sfumato.training.recipe import Recipe
from sfumato.training.task import Optimizer, Task
from sfumato.training.trained import Trained
from sfumato.training.workshop import Workshop

TASK = Task(model=MLP(hidden=(6,)), optimizer=Optimizer(lr=0.1), epochs=2, batch_size=8)
SMOOTH = LabelSmoothing(smoothing=0.6)
STEM, HEAD = ("1.weight", "1.bias"), ("3.weight", "3.bias")
SEED = 3


def population() -> Population:
    rng = np.random.default_rng(0)
    return Population(rng.normal(size=(40, 5)).astype(np.float32), "example", labels=np.arange(40) % 3)


def fitted(defence, task: Task = TASK, **options) -> Trained:
    return Recipe(task, defence).fit(population(), [Assignment(np.arange(20), SEED)], LoopOptions(**options))[0]


def fresh():
    return network_of(TASK, Undefended(), (5,), 3, SEED)


def a_map(tmp_path, names=("stem", "head"), risks=(0.1, 0.02)):
    tensors = {"stem": list(STEM), "head": list(HEAD), "other": ["9.weight"]}
    regions = [
        RankedRegion(region=name, parameters=tensors[name], count=1, risk=risk, accuracy=0.0)
        for name, risk in zip(names, risks, strict=True)
    ]
    path = tmp_path / "map.json"
    path.write_text(json.dumps({"ranking": Ranking(operation="freeze", measure="auc", regions=regions).model_dump()}))
    return path


def test_masked_with_one_objective_on_both_sides_is_ordinary_training():
    plain = fitted(Undefended())
    masked = fitted(PPTPReconstruction(regions=("head",), scheme="masked"))
    again = fitted(PPTPReconstruction(regions=("stem",), scheme="masked"))
    assert all(torch.equal(masked.state[k], again.state[k]) for k in plain.state)


def test_masked_with_all_regions_is_the_inner_defence_and_with_none_of_it_is_ordinary():
    everything = PPTPReconstruction(regions=("stem", "head"), scheme="masked", inner=SMOOTH)
    half = PPTPReconstruction(regions=("head",), scheme="masked", inner=SMOOTH)
    other = replace(half, protect="complement")
    states = [fitted(one).state for one in (everything, half, other)]
    same = fitted(PPTPReconstruction(regions=("stem",), scheme="masked", inner=SMOOTH)).state
    assert all(torch.equal(states[2][k], same[k]) for k in same), "the complement of the head is the stem"
    assert not torch.equal(states[0]["1.weight"], states[1]["1.weight"])
    assert not torch.equal(states[1]["3.weight"], states[2]["3.weight"])


def test_rewinding_leaves_the_rest_as_ordinary_training_left_it():
    one, two = (PPTPReconstruction(regions=("head",), tuning=t, inner=SMOOTH) for t in (0.5, 1.0))
    control = fitted(PPTPReconstruction(regions=("head",), tuning=0.5))
    short, long = fitted(one), fitted(two)
    for name in STEM:
        assert torch.equal(short.state[name], long.state[name])
        assert torch.equal(short.state[name], control.state[name]), "cross-entropy, whatever is inside"
        assert not torch.equal(short.state[name], fresh().state_dict()[name])
    for name in HEAD:
        assert not torch.equal(short.state[name], long.state[name])
        assert not torch.equal(short.state[name], control.state[name])
    assert (short.epochs, long.epochs) == (3, 4)
    assert two.trainings == 2.0


def test_the_region_is_tuned_from_its_initial_values(monkeypatch):
    began, fit = {}, Workshop.fit

    def seen(workshop, stage, network, **more):
        began[stage] = {k: v.clone() for k, v in network.state_dict().items()}
        began[f"{stage} trains"] = [k for k, p in network.named_parameters() if p.requires_grad]
        return fit(workshop, stage, network, **more)

    monkeypatch.setattr(Workshop, "fit", seen)
    fitted(PPTPReconstruction(regions=("head",), inner=SMOOTH))
    for name in HEAD:
        assert torch.equal(began["protected"][name], fresh().state_dict()[name])
    for name in STEM:
        assert not torch.equal(began["protected"][name], fresh().state_dict()[name])
    assert began["protected trains"] == list(HEAD)
    assert began["ordinary trains"] == [*STEM, *HEAD]


@pytest.mark.parametrize("scheme", ["rewind", "masked"])
def test_objectives_with_parameters_of_their_own_train_them(scheme):
    found = fitted(PPTPReconstruction(regions=("stem",), scheme=scheme, inner=CRL()))
    heavier = fitted(PPTPReconstruction(regions=("stem",), scheme=scheme, inner=replace(CRL(), weight=5.0)))
    faster = fitted(
        PPTPReconstruction(regions=("stem",), scheme=scheme, inner=replace(CRL(), weight=5.0, centre_lr=5.0))
    )
    assert found.tallies
    assert not torch.equal(found.state["1.weight"], heavier.state["1.weight"])
    assert not torch.equal(faster.state["1.weight"], heavier.state["1.weight"]), "centres move"


def test_private_steps_inside_give_no_guarantee_because_ordinary_ones_came_before():
    found = fitted(PPTPReconstruction(regions=("head",), inner=DPSGD.example()))
    assert found.guarantee_statement.startswith("none, because of pptp-reconstruction: ordinary steps")
    assert any(event.mechanism for event in found.history.events), "the private steps are told, too"


def test_the_ordinary_stage_beside_private_steps_is_that_of_an_undefended_network():
    """What suits clipped gradients (rate, momentum, average, number of steps) is not for the others."""
    private = replace(DPSGD.example(), lr=50.0, momentum=0.9, ema=0.999)
    found = fitted(PPTPReconstruction(regions=("head",), inner=private))
    inputs = private.configure(TASK)
    control = fitted(
        PPTPReconstruction(regions=("head",)), replace(TASK, standardise=inputs.standardise, scaling=inputs.scaling)
    )
    names = [name for name in found.state if name.endswith(STEM)]
    assert len(names) == 2
    for name in names:
        assert torch.equal(found.state[name], control.state[name])


def test_masked_gradients_under_a_private_update_are_refused_with_the_reason():
    for both in (
        PPTPReconstruction(regions=("head",), scheme="masked", inner=DPSGD.example()),
        replace(DPSGD.example(), inner=PPTPReconstruction(regions=("head",), scheme="masked")),
    ):
        with pytest.raises(NotPrivateError, match="two losses"):
            fitted(both)


def test_it_goes_on_where_it_was_interrupted(tmp_path):
    defence, stopped = PPTPReconstruction(regions=("head",), tuning=1.0, inner=SMOOTH), []

    def stop(epoch) -> None:
        stopped.append(epoch)
        if len(stopped) == 3:
            raise KeyboardInterrupt

    checkpoint = Checkpoint(tmp_path / "x.safetensors", "x", every=0.0)
    with pytest.raises(KeyboardInterrupt):
        fitted(defence, checkpoint=checkpoint, on_epoch=stop)
    resumed, whole = fitted(defence, checkpoint=checkpoint), fitted(defence)
    assert all(torch.equal(resumed.state[k], whole.state[k]) for k in whole.state)


def test_regions_come_from_a_map_by_its_rule(tmp_path):
    path = str(a_map(tmp_path))
    assert PPTPReconstruction(map=path, share=0.5).protected(fresh()) == STEM
    assert PPTPReconstruction(map=path, share=1.0).protected(fresh()) == (*STEM, *HEAD)
    assert PPTPReconstruction(map=path, share=0.5, protect="complement").protected(fresh()) == HEAD
    scaled = network_of(replace(TASK, standardise=True), Undefended(), (5,), 3, SEED)
    assert PPTPReconstruction(map=path, share=0.5).protected(scaled) == tuple(f"1.{name}" for name in STEM)


def test_the_map_is_named_by_its_content(tmp_path):
    path = a_map(tmp_path)
    first = PPTPReconstruction(map=str(path))
    (tmp_path / "elsewhere").mkdir()
    moved = tmp_path / "elsewhere" / "map.json"
    moved.write_text(path.read_text())
    assert canonical_json(PPTPReconstruction(map=str(moved))) == canonical_json(first)
    a_map(tmp_path, risks=(0.3, 0.02))
    assert canonical_json(PPTPReconstruction(map=str(path))) != canonical_json(first)
    with pytest.raises(StoreMismatch, match="other content"):
        first.protected(fresh())


def test_what_cannot_be_is_refused(tmp_path):
    with pytest.raises(UsageError, match="neither"):
        fitted(PPTPReconstruction())
    with pytest.raises(UsageError, match="both"):
        PPTPReconstruction(regions=("head",), map="map.json")
    with pytest.raises(UsageError, match=r"'9\.weight'"):
        PPTPReconstruction(map=str(a_map(tmp_path, names=("other",), risks=(0.1,)))).protected(fresh())
    with pytest.raises(UsageError, match="matches none"):
        fitted(PPTPReconstruction(regions=("tail",)))
    with pytest.raises(UnsupportedModel, match="outside"):
        fitted(PPTPReconstruction(regions=("stem", "head"), protect="complement"))
    with pytest.raises(UsageError, match="scheme"):
        PPTPReconstruction(regions=("head",), scheme="both")
    with pytest.raises(UsageError, match="share"):
        PPTPReconstruction(regions=("head",), share=0.0)
    with pytest.raises(UsageError, match="regular expression"):
        PPTPReconstruction(regions=("[",))


def test_it_says_that_it_is_a_reconstruction():
    assert "inspired by 2602.02296, not a reproduction" in PPTPReconstruction.summary
    assert PPTPReconstruction.reconstruction
