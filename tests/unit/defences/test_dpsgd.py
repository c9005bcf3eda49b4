from dataclasses import replace

from sfumato.defences.dpsgd import DPSGD
from sfumato.models.mlp import MLP
from sfumato.training.task import Optimizer, Task


def test_nesterov_is_left_out_where_there_is_no_momentum_for_it():
    task = Task(model=MLP(), optimizer=Optimizer(nesterov=True))
    private = DPSGD.example()
    assert private.configure(task).optimizer.nesterov
    assert not replace(private, momentum=0.0).configure(task).optimizer.nesterov
    assert not replace(private, optimizer="adam").configure(task).optimizer.nesterov
