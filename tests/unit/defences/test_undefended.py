import torch

from sfumato.defences.undefended import Undefended
from sfumato.models.mlp import MLP
from sfumato.training.defence import Batch, Behind
from sfumato.training.draws import Draws
from sfumato.training.losses import cross_entropy
from sfumato.training.task import Task


def test_every_part_is_the_identity():
    defence, draws = Undefended(), Draws((1,))
    task, model = Task(model=MLP()), torch.nn.Linear(2, 2)
    batch = Batch(torch.rand(3, 2), torch.eye(2)[[0, 1, 0]])
    assert defence.configure(task) is task
    assert defence.prepare(model) is model
    assert defence.transform(batch, draws) is batch
    assert defence.guard(batch.x, draws, Behind(model, (2,))) is batch.x
    assert torch.equal(defence.loss(batch.x, batch.targets, cross_entropy), cross_entropy(batch.x, batch.targets))
    assert defence.family == "none"
