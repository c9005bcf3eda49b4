import numpy as np
import pytest
import torch

from sfumato.data import ArrayRecords
from sfumato.errors import DataError


def test_bytes_are_pixels_and_floats_stay():
    pixels = ArrayRecords(np.array([[0, 51, 255]], dtype=np.uint8))
    assert torch.allclose(pixels.take(np.array([0])), torch.tensor([[0.0, 0.2, 1.0]]))
    floats = ArrayRecords(np.array([[1.5], [2.5]]))
    assert floats.take(np.array([1, 0])).tolist() == [[2.5], [1.5]]
    assert floats.take(np.array([0])).dtype == torch.float32


def test_shape_and_length_also_of_a_list():
    records = ArrayRecords([[1.0, 2.0], [3.0, 4.0]])  # type: ignore[arg-type]
    assert (len(records), records.shape) == (2, (2,))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e39])
def test_values_that_are_not_finite_as_float32_name_the_record(bad):
    with pytest.raises(DataError, match="in record 1"):
        ArrayRecords(np.array([[0.0], [bad], [1.0]]))


@pytest.mark.parametrize("bad", [np.zeros(3), np.zeros((0, 3)), np.zeros((3, 0))])
def test_shapes_without_records_are_refused(bad):
    with pytest.raises(DataError, match=r"array \[n, \.\.\.\]"):
        ArrayRecords(bad)


def test_text_is_refused():
    with pytest.raises(DataError, match="numeric"):
        ArrayRecords(np.array([["a"]]))


def test_taken_records_do_not_share_memory():
    array = np.zeros((2, 2), dtype=np.float32)
    ArrayRecords(array).take(np.array([0, 1])).add_(1)
    assert array.sum() == 0


def test_the_fingerprint_sees_values_type_and_shape():
    x = np.arange(4.0)
    marks = {
        ArrayRecords(a).fingerprint for a in (x.reshape(2, 2), x.reshape(4, 1), x.astype("f4")[:, None], x[:, None] + 1)
    }
    assert len(marks) == 4
    assert ArrayRecords(x[:, None]).fingerprint == ArrayRecords(x.copy()[:, None]).fingerprint
