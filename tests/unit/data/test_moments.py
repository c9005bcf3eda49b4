import numpy as np

from sfumato.data import moments as room
from sfumato.data.moments import moments
from sfumato.data.records import ArrayRecords


def test_columns_have_their_own_and_pixels_share_them(monkeypatch):
    monkeypatch.setattr(room, "CHUNK", 7)
    rng = np.random.default_rng(0)
    x = (1000 + rng.normal(size=(50, 3)) * [1, 2, 0]).astype(np.float32)
    found = moments(ArrayRecords(x))
    np.testing.assert_allclose(found.mean, x.astype(float).mean(axis=0), rtol=1e-9)
    np.testing.assert_allclose(found.deviation, x.astype(float).std(axis=0), rtol=1e-6, atol=1e-9)
    np.testing.assert_array_equal([found.low, found.high], [x.min(axis=0), x.max(axis=0)])
    pixels = rng.random((20, 2, 4, 4)).astype(np.float32)
    found = moments(ArrayRecords(pixels))
    assert found.deviation.shape == (2, 4, 4)
    np.testing.assert_allclose(found.deviation, pixels.astype(float).std(), rtol=1e-9)
    np.testing.assert_allclose([found.low[0, 0, 0], found.high[1, 3, 3]], [pixels.min(), pixels.max()])
