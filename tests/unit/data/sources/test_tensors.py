import numpy as np
import pytest
import torch

from sfumato.canonical import content_hash
from sfumato.data.sources.tensors import Tensors
from sfumato.errors import DataError, UsageError


def test_torch_and_numpy_give_the_same_population():
    x, y = torch.eye(4), torch.tensor([0, 1, 1, 0])
    one = Tensors(x, y, unit="example")
    two = Tensors(x.numpy(), y.numpy(), unit="example")
    assert one.load().fingerprint == two.load().fingerprint
    assert content_hash(one) == content_hash(two)
    assert content_hash(one) != content_hash(Tensors(x + 1, y, unit="example"))


def test_units_ids_groups_and_images():
    source = Tensors(
        torch.zeros(4, 3, 2, 2, dtype=torch.bfloat16),
        np.array(list("abba")),
        unit="patient",
        unit_of=torch.tensor([5, 5, 1, 1]),
        ids=np.array(list("wxyz")),
        groups={"sex": np.array(list("fmfm"))},
        classes=("b", "a"),
    )
    population = source.load()
    assert population.kind == "image"
    assert population.units == 2
    assert population.label_array.tolist() == [1, 0, 0, 1]
    assert population.id_array.tolist() == list("wxyz")
    assert population.groups["sex"].tolist() == list("fmfm")
    assert population.events == ()


def test_the_unit_is_said_and_found():
    with pytest.raises(TypeError, match="unit"):
        Tensors(torch.eye(2))  # type: ignore[call-arg]
    with pytest.raises(UsageError, match=r"`unit_of` for the unit 'patient'"):
        Tensors(torch.eye(2), unit="patient")


def test_bad_arrays_are_refused():
    with pytest.raises(DataError, match=r"rows \[n, features\] or images"):
        Tensors(torch.zeros(4, 2, 2), unit="example").load()
    with pytest.raises(DataError, match=r"NaN"):
        Tensors(torch.full((2, 2), torch.nan), unit="example").load()
    with pytest.raises(DataError, match=r"classes of 'a', 'b' in `y`, got 'c'"):
        Tensors(torch.eye(2), np.array(["a", "c"]), unit="example", classes=("a", "b")).load()
    with pytest.raises(DataError, match=r"`labels` for each of 2"):
        Tensors(torch.eye(2), np.array([0, 1, 0]), unit="example").load()
    assert Tensors(torch.eye(2), unit="example").load().labels is None
