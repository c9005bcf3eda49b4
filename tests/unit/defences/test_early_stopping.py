import pytest

from sfumato.defences.early_stopping import EarlyStopping
from sfumato.errors import UsageError
from sfumato.models.mlp import MLP
from sfumato.training.task import Task


def test_sets_patience_and_the_validation_share_and_nothing_else():
    before = Task(model=MLP(), epochs=7)
    after = EarlyStopping(patience=2, validation_fraction=0.2).configure(before)
    assert (after.patience, after.validation_fraction) == (2, 0.2)
    assert after == Task(model=MLP(), epochs=7, patience=2, validation_fraction=0.2)


@pytest.mark.parametrize("bad", [{"patience": 0}, {"validation_fraction": 0.0}, {"validation_fraction": 0.6}])
def test_ranges(bad):
    with pytest.raises(UsageError, match=next(iter(bad))):
        EarlyStopping(**bad)
