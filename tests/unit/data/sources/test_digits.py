import numpy as np

from sfumato.data.sources.digits import Digits


def test_digits_are_scaled_rows_or_images():
    rows, images = Digits().load(), Digits(as_images=True).load()
    assert rows.records.shape == (64,)
    assert images.records.shape == (1, 8, 8)
    x = rows.tensor(np.arange(1797))
    assert (x.min(), x.max()) == (0, 1)
    assert (x == images.tensor(np.arange(1797)).flatten(1)).all()
    assert (rows.units, rows.classes, rows.unit.name) == (1797, 10, "example")
    assert rows.events == ()
