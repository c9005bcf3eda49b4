"""The whole history counts: what reads records beside DP-SGD ends its epsilon, is composed with it, or is refused.

Everything here trains for real, on a tiny table, and looks at the guarantee of the weights that come out.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import sfumato.defences
from sfumato.accounting.guarantee import Guarantee, NoGuarantee
from sfumato.data.population import Population, Unit
from sfumato.data.sources.opening import open_source
from sfumato.defences.dpsgd import DPSGD
from sfumato.defences.early_stopping import EarlyStopping
from sfumato.defences.noise_first import NoiseFirst
from sfumato.defences.pretrained import UNSEEN, Pretrained
from sfumato.defences.undefended import Undefended
from sfumato.errors import NotPrivateError, UsageError
from sfumato.models.residual_net import ResidualNet
from sfumato.registry import discover
from sfumato.training.composition import course_of, fitted_guards
from sfumato.training.defence import Defence
from sfumato.training.preparation import Assignment, LoopOptions
from sfumato.training.recipe import Recipe
from sfumato.training.task import Optimizer, Task
from sfumato.training.trained import Trained

DEFENCES = discover(sfumato.defences, Defence)
PRIVATE = DPSGD.example()
RELEASED = NoiseFirst.example()
TASK = Task(model=ResidualNet(width=4, blocks=1), epochs=1, batch_size=8, optimizer=Optimizer(lr=0.1))


def population(**more) -> Population:
    rng = np.random.default_rng(0)
    unit = more.pop("unit", "example")
    return Population(rng.normal(size=(32, 4)).astype(np.float32), unit, labels=np.arange(32) % 2, **more)


def trained(
    defence: Defence, task: Task = TASK, data: Population | None = None, *, seed: int = 1, **options
) -> Trained:
    data = data or population()
    work = [Assignment(np.arange(len(data) // 2), seed)]
    return Recipe(task, defence).fit(data, work, LoopOptions(**options))[0]


UPDATES = [name for name, kind in DEFENCES.items() if type(kind.example()).plan is not Defence.plan]


@pytest.fixture(scope="module")
def alone() -> Guarantee:
    found = trained(PRIVATE).guarantee
    assert isinstance(found, Guarantee)
    return found


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where examples look for their files: weights of an ordinary epoch on the same records."""
    monkeypatch.chdir(tmp_path)
    trained(Undefended()).save(tmp_path / "weights.safetensors")
    return tmp_path


def read_beside_the_mechanism(model: Trained) -> bool:
    return any(not event.private for event in model.history.events)


@pytest.mark.parametrize("name", [name for name in DEFENCES if name not in UPDATES])
@pytest.mark.parametrize("outermost", [True, False], ids=["outside", "inside"])
def test_no_defence_around_or_inside_dpsgd_keeps_an_epsilon_that_is_not_its_own(name, outermost, alone) -> None:
    other = DEFENCES[name].example()
    both = replace(other, inner=PRIVATE) if outermost else replace(PRIVATE, inner=other)
    trains_by_itself = course_of(other) is not None and not other.hosts_update
    if other.couples or trains_by_itself or other.release(population()) is not None:  # the last needs no update
        with pytest.raises(NotPrivateError, match=name) as refused:
            trained(both)
        assert trains_by_itself or other.couples in str(refused.value)
        return
    model = trained(both)
    found = model.guarantee
    ran = [event for event in model.history.events if event.private]
    assert ran  # the mechanism ran, whatever stands around it
    if course_of(other) is not None or fitted_guards(other):  # whatever the history says of them
        assert isinstance(found, NoGuarantee)
    if read_beside_the_mechanism(model):
        assert isinstance(found, NoGuarantee)
        assert found.statement.startswith("none, because of ")
        return
    assert isinstance(found, Guarantee)
    assert len(found.mechanisms) == len(ran)
    if len(ran) == 1:
        assert found.epsilon == pytest.approx(alone.epsilon)
    else:  # a part with a mechanism of its own
        assert found.epsilon > alone.epsilon


def test_the_examples_cover_all_three_ends() -> None:
    """Refused, none, and kept: else the contract above would be empty."""
    ends = {}
    for name in ("mixup", "early-stopping", "weight-decay", "pretrained"):
        try:
            ends[name] = trained(replace(DEFENCES[name].example(), inner=PRIVATE)).guarantee
        except NotPrivateError:
            ends[name] = None
    assert ends["mixup"] is None
    assert isinstance(ends["early-stopping"], NoGuarantee)
    assert isinstance(ends["pretrained"], NoGuarantee)
    assert isinstance(ends["weight-decay"], Guarantee)


@pytest.mark.parametrize("name", [name for name in DEFENCES if name != "noise-first"])
@pytest.mark.parametrize("outermost", [True, False], ids=["outside", "inside"])
def test_around_a_release_every_defence_keeps_its_epsilon_or_ends_it(name, outermost) -> None:
    """What was released may be used in any way; weights from elsewhere still count, and fitted layers are refused."""
    other = DEFENCES[name].example()
    if name == "private-whitening":
        with pytest.raises(UsageError, match="one layer in front"):
            trained(replace(other, inner=RELEASED))
        return
    both = replace(other, inner=RELEASED) if outermost else replace(RELEASED, inner=other)
    if course_of(other) is not None or fitted_guards(other):
        with pytest.raises(NotPrivateError, match="reads them in a way of its own"):
            trained(both)
        return
    if name in UPDATES:
        with pytest.raises(NotPrivateError, match="Expected one claim of privacy"):
            trained(both)
        return
    model = trained(both)
    released = [event for event in model.history.events if event.private]
    assert len(released) == 1
    if read_beside_the_mechanism(model):
        assert isinstance(model.guarantee, NoGuarantee)
        assert name == "pretrained"
    else:
        assert model.guarantee == trained(RELEASED).guarantee


@pytest.mark.parametrize("name", UPDATES)
@pytest.mark.parametrize("outermost", [True, False], ids=["outside", "inside"])
def test_two_claims_on_the_update_are_refused(name, outermost) -> None:
    other = DEFENCES[name].example()
    both = replace(other, inner=PRIVATE) if outermost else replace(PRIVATE, inner=other)
    with pytest.raises(UsageError, match=r"Expected one claim on the update, got .* and "):
        trained(both)


def test_an_ordinary_epoch_before_it_ends_the_guarantee_at_that_stage() -> None:
    found = trained(Pretrained(weights="weights.safetensors", data="private", inner=PRIVATE))
    assert found.guarantee_statement == "none, because of ordinary training, up to 1 epochs at stage training"
    assert [event.private for event in found.history.events] == [False, True]


def test_weights_of_unknown_origin_end_it_too(files) -> None:
    from safetensors.torch import load_file, save_file

    save_file(load_file(files / "weights.safetensors"), files / "bare.safetensors")
    found = trained(Pretrained(weights="bare.safetensors", data="private", inner=PRIVATE))
    assert found.guarantee_statement == f"none, because of {UNSEEN} at stage pre-training"


def test_two_private_trainings_in_a_row_are_composed(files, alone) -> None:
    trained(PRIVATE).save(files / "first.safetensors")
    longer = replace(PRIVATE, steps=20)
    second = trained(longer, seed=2).guarantee
    both = trained(Pretrained(weights="first.safetensors", data="private", inner=longer), seed=2)
    found = both.guarantee
    assert isinstance(found, Guarantee)
    assert isinstance(second, Guarantee)
    assert [mechanism.steps for mechanism in found.mechanisms] == [10, 20]
    assert max(alone.epsilon, second.epsilon) < found.epsilon < alone.epsilon + second.epsilon
    assert found.audit_only


def test_one_seeded_stage_marks_the_whole(files) -> None:
    trained(PRIVATE).save(files / "audit.safetensors")
    trained(PRIVATE, release=True).save(files / "release.safetensors")
    for name, marked in (("audit", True), ("release", False)):
        both = trained(Pretrained(weights=f"{name}.safetensors", data="private", inner=PRIVATE), release=True)
        assert isinstance(both.guarantee, Guarantee)
        assert both.guarantee.audit_only == marked


def test_stages_that_protect_different_units_give_none(files) -> None:
    patients = population(unit=Unit("patient", np.repeat(np.arange(16), 2)))
    trained(replace(PRIVATE, max_records_per_unit=2), data=patients).save(files / "patients.safetensors")
    single = replace(PRIVATE, level="example")
    both = trained(Pretrained(weights="patients.safetensors", data="private", inner=single), data=patients)
    assert "its unit is 'example'" in both.guarantee_statement


def test_early_stopping_and_its_validation_scores_end_it() -> None:
    found = trained(EarlyStopping(patience=2, validation_fraction=0.25, inner=PRIVATE))
    assert isinstance(found.guarantee, NoGuarantee)
    assert "validation score" in found.guarantee_statement
    still = replace(PRIVATE, steps=60, lr=1e-12)
    impatient = trained(EarlyStopping(patience=1, validation_fraction=0.25, inner=still))
    assert impatient.epochs == 2 < trained(still).epochs  # it stops, as it does elsewhere
    assert "at stage training" in found.guarantee_statement


def test_units_set_aside_by_how_many_there_are_end_it() -> None:
    """One unit more gives another order, and so other units in the steps."""
    found = trained(PRIVATE, replace(TASK, validation_fraction=0.25))
    assert found.guarantee_statement == (
        "none, because of units set aside from the steps by how many there are at stage training"
    )


def test_fitted_standardisation_is_replaced_by_public_constants_and_would_end_it() -> None:
    asked = replace(TASK, standardise=True)
    assert isinstance(trained(PRIVATE, asked).guarantee, Guarantee)  # configured away
    ordinary = trained(Undefended(), asked)
    assert [event.purpose for event in ordinary.history.events][
        -1
    ] == "input standardisation fitted on the training set"

    class Fitted(DPSGD):
        def configure(self, task: Task) -> Task:
            return replace(super().configure(task), standardise=True, scaling=None)

    found = trained(Fitted(**{k: v for k, v in vars(PRIVATE).items() if k != "inner"}))
    assert found.guarantee_statement == (
        "none, because of input standardisation fitted on the training set at stage training"
    )


def test_a_category_list_read_from_the_table_ends_it(files) -> None:
    rng = np.random.default_rng(0)
    rows = [f"{x:.3f},{'north' if i % 3 else 'south'},{i % 2}" for i, x in enumerate(rng.normal(size=32))]
    (files / "table.csv").write_text("\n".join(["x,region,class", *rows]) + "\n")
    data = open_source("table.csv", label="class", unit="example").load()
    found = trained(PRIVATE, data=data)
    assert isinstance(found.guarantee, NoGuarantee)
    assert "at stage data" in found.guarantee_statement
