import numpy as np
import pytest

from sfumato.data.classes import split_classes
from sfumato.data.population import Population, Unit
from sfumato.errors import UsageError

NAMES = ("cat", "dog", "fox", "owl", "rat")


def animals(unit=None):
    labels = np.array([0, 1, 2, 3, 0, 1, 2, 3])
    records = np.arange(8, dtype=np.float32)[:, None]
    unit = unit or Unit("example")
    return Population(records, unit, labels=labels, class_names=NAMES, ids=np.array(list("abcdefgh")))


def test_private_labels_are_renumbered_and_names_go_along():
    private, public = split_classes(animals(), ("dog",))
    assert private.label_array.tolist() == [0, 1, 2, 0, 1, 2]
    assert private.class_names == ("cat", "fox", "owl", "rat")
    assert private.id_array.tolist() == list("acdegh")
    assert private.tensor(np.arange(6)).numpy()[:, 0].tolist() == [0, 2, 3, 4, 6, 7]
    assert private.notes == ("2 records of public classes (dog) are set apart.",)
    assert public.id_array.tolist() == list("bf")
    assert [public.class_names[label] for label in public.label_array] == ["dog", "dog"]


def test_units_stay_whole_or_are_refused():
    by_class = Unit("person", np.array([0, 1, 2, 3, 0, 1, 2, 3]))
    assert split_classes(animals(by_class), ("dog", "owl")).private.units == 2
    mixed = Unit("owner", np.array([0, 0, 1, 2, 1, 3, 2, 2]))
    with pytest.raises(UsageError, match=r"unit \(owner\).*got 1 in both\..*`public`"):
        split_classes(animals(mixed), ("dog",))


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (("dgo",), r"got 'dgo'\. Did you mean 'dog'"),
        ((), "got none of no class"),
        (("rat",), "got none of rat"),
        (("cat", "dog", "fox"), "at least two private classes, got 5 classes of which 3"),
    ],
)
def test_what_makes_no_split_is_refused(names, told):
    with pytest.raises(UsageError, match=told):
        split_classes(animals(), names)
