import math
import sys

import pytest
import torch

from sfumato.errors import UsageError
from sfumato.sde import Grid, System, integrate
from sfumato.sde.integrators.adaptive import Adaptive


def test_without_torchdiffeq_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchdiffeq", None)
    with pytest.raises(UsageError, match=r"pip install sfumato\[ode\]"):
        integrate(Adaptive(), System(lambda _, h: h), torch.ones(2, 3), Grid(steps=1))


@pytest.mark.parametrize("bad", [0.0, -1.0, float("nan")])
@pytest.mark.parametrize("name", ["rtol", "atol"])
def test_tolerances_are_above_zero(name, bad):
    with pytest.raises(UsageError, match=name):
        Adaptive(**{name: bad})


def test_time_is_a_number_and_the_solution_is_within_the_tolerance():
    pytest.importorskip("torchdiffeq", reason="torchdiffeq is an optional extra")
    seen = []
    out = integrate(Adaptive(), System(lambda t, h: seen.append(t) or -h), torch.ones(2, 3), Grid(horizon=2.0, steps=2))
    assert {type(t) for t in seen} == {float}
    assert min(seen) == 0.0
    torch.testing.assert_close(out, torch.full((2, 3), math.exp(-2)), rtol=0, atol=2e-3)
