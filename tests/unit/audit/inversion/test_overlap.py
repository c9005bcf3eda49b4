import numpy as np

from sfumato.audit.inversion.overlap import overlap_notices, shared_records
from sfumato.data.population import Population, Unit


def of(records):
    return Population(np.asarray(records, dtype=np.float32), Unit("example"), labels=np.arange(len(records)) % 2)


def test_public_records_that_are_private_ones_are_counted_and_announced():
    rng = np.random.default_rng(0)
    private, others = rng.normal(size=(9000, 3)), rng.normal(size=(50, 3))
    both = of(np.concatenate([others, private[[0, 5000, 8999, 5000]]]))
    assert shared_records(of(private), both) == 4
    (notice,) = overlap_notices(of(private), both)
    assert notice.severity == "critical"
    assert "4 of the 54 public records" in notice.text


def test_other_records_or_none_are_no_overlap():
    private = of(np.random.default_rng(0).normal(size=(40, 3)))
    assert overlap_notices(private, of(np.random.default_rng(1).normal(size=(40, 3)))) == []
    assert overlap_notices(private, None) == []


def test_a_negative_zero_is_a_zero():
    assert shared_records(of([[0.0, 1.0], [2.0, 1.0]]), of([[-0.0, 1.0], [3.0, 1.0]])) == 1
