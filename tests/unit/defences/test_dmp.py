import numpy as np
import pytest
import torch
from torch import nn

from sfumato.data.population import Population
from sfumato.data.records import ArrayRecords
from sfumato.defences.dmp import DMP, selected, softened
from sfumato.defences.early_stopping import EarlyStopping
from sfumato.errors import UsageError
from sfumato.models.mlp import MLP
from sfumato.training.draws import Draws
from sfumato.training.preparation import Assignment, LoopOptions, prepare
from sfumato.training.task import Optimizer, Task
from sfumato.training.train import train
from sfumato.training.workshop import Workshop

TASK = Task(model=MLP(hidden=(5,)), epochs=3, batch_size=8, optimizer=Optimizer(lr=0.1))
OPTIONS, WORK = LoopOptions(dtype=torch.float64), [Assignment(np.arange(30), 1)]


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(2)
    x = rng.normal(size=(30, 3)).astype(np.float32)
    return Population(ArrayRecords(x), "example", labels=(x[:, 0] > 0).astype(int))


class AfterTheTeacher(Workshop):
    """Ruins what the student must not see, once the teacher has answered."""

    ruined: str = ""

    def answers_after(self, stage, network, asked, **more) -> torch.Tensor:
        answers = super().answers_after(stage, network, asked, **more)
        if self.ruined == "fit rows":
            self.x[self.fit_rows] = torch.nan
        if self.ruined == "labels":
            self.targets[torch.cat([self.fit_rows, self.reference_rows])] = torch.nan
        if self.ruined == "reference rows":
            self.x[self.reference_rows] *= -1
        return answers


def student(data, ruined) -> nn.Module:
    defence = DMP()
    shop = AfterTheTeacher(prepare(TASK, defence, data, WORK, OPTIONS), OPTIONS)
    shop.ruined = ruined
    return defence.course(shop)


def differs(first, second):
    return any(not torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_the_student_sees_reference_records_and_neither_labels_nor_training_records(data):
    plain = student(data, "")
    assert not differs(plain, student(data, "fit rows"))
    assert not differs(plain, student(data, "labels"))
    assert differs(plain, student(data, "reference rows"))


def test_the_teacher_reaches_the_student(data):
    first = train(TASK, DMP(), data, WORK, OPTIONS)[0].state
    longer = train(TASK, DMP(teacher_epochs=6), data, WORK, OPTIONS)[0].state
    assert any(not torch.equal(first[k], longer[k]) for k in first)


def test_epochs_are_those_of_teacher_and_student(data):
    assert train(TASK, DMP(teacher_epochs=2, student_epochs=5), data, WORK, OPTIONS)[0].epochs == 7


def test_early_stopping_works_inside(data):
    found = train(TASK, DMP(inner=EarlyStopping(patience=1, validation_fraction=0.2)), data, WORK, OPTIONS)[0]
    assert all(bool(torch.isfinite(v).all()) for v in found.state.values())


def test_the_gradient_is_that_of_the_divergence_from_the_teacher():
    teacher, own = torch.randn(2, 6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    own.requires_grad_(True)
    for temperature in (1.0, 3.0):
        soft = softened(teacher, temperature)
        divergence = nn.functional.kl_div((own / temperature).log_softmax(1), soft, reduction="batchmean")
        entropy_less = -(soft * (own / temperature).log_softmax(1)).sum(1).mean()
        (expected,) = torch.autograd.grad(divergence, own)
        (found,) = torch.autograd.grad(entropy_less, own)
        assert torch.allclose(found, expected, atol=1e-12)


def test_the_surest_answers_are_selected():
    logits = torch.tensor([[0.0, 0.0], [9.0, 0.0], [0.1, 0.0], [0.0, 5.0]])
    draws = Draws((1,), ("x",))
    assert selected(logits, "low-entropy", 0.5, draws).tolist() == [1, 3]
    assert selected(logits, "low-entropy", 1.0, draws).tolist() == [0, 1, 2, 3]
    assert selected(logits, "low-entropy", 0.01, draws).tolist() == [1]
    chosen = {tuple(selected(logits, "random", 0.5, Draws((seed,), ("x",))).tolist()) for seed in range(20)}
    assert len(chosen) > 2


@pytest.mark.parametrize(
    "bad",
    [{"temperature": 0.0}, {"selection": "best"}, {"share": 0.0}, {"share": 1.1}, {"teacher_epochs": 0},
     {"student_epochs": 0}],
)  # fmt: skip
def test_ranges(bad):
    with pytest.raises(UsageError, match=next(iter(bad))):
        DMP(**bad)
