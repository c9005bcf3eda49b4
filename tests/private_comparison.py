"""An engine's clipped sums against a loop over single examples with ordinary autograd, in float64."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from sfumato.private.costs import Chooser
from sfumato.private.engine import Engine

MAX_GRAD_NORM = 0.5


class Compared(NamedTuple):
    """Squared norms [units] and sums by parameter, of the engine and of the loop; the engine's choices."""

    squared: torch.Tensor
    expected_squared: torch.Tensor
    sums: dict
    expected: dict
    ways: dict

    def check(self, tolerance=1e-10):
        finite = self.expected_squared.isfinite()
        assert torch.equal(self.squared.isfinite(), finite)
        torch.testing.assert_close(self.squared[finite], self.expected_squared[finite], rtol=tolerance, atol=tolerance)
        for name, value in self.expected.items():
            atol = tolerance * max(1e-3, float(value.abs().max()))
            torch.testing.assert_close(self.sums[name], value, rtol=tolerance, atol=atol, msg=lambda m, n=name: n + m)


class Fixed(Chooser):
    """Takes the way that starts with `preferred` where there is one, so that each way is tested."""

    def __init__(self, preferred=None):
        super().__init__()
        self.preferred = preferred

    def way(self, term, grad, units, *, dense=False):
        ways = [w for w in term.ways(grad, units) if not (dense and w.startswith("gram"))] or ["product"]
        return next((w for w in ways if self.preferred and w.startswith(self.preferred)), ways[0])


def loss_of(output, labels):
    return F.cross_entropy(output.flatten(1), labels, reduction="none")


def rows_of(batch, rows):
    """The rows of a tensor, or of each tensor of a tuple."""
    return tuple(part[rows] for part in batch) if isinstance(batch, tuple) else batch[rows]


def clip(squared):
    """Flat clipping: multipliers of the shape of squared norms [units, parameters]."""
    factors = (MAX_GRAD_NORM / squared.sum(1, keepdim=True).sqrt()).clamp(max=1)
    return factors.expand_as(squared)


def engine_for(net, batch, labels, way=None, loss=loss_of):
    """An engine that has learned its layouts on the batch's first rows, or on the first row repeated."""
    engine = Engine(net, chooser=Fixed(way))
    count = len(labels)

    def losses_on(rows):
        chosen = [row % count for row in rows]
        return loss(net(rows_of(batch, chosen)), labels[chosen])

    engine.learn(losses_on)
    return engine


def compare(net, batch, labels, *, way=None, units=None, weights=None, loss=loss_of, learn_on=None):
    """Clipped sums of a batch by the engine and by a loop over its units.

    Args:
        net: in float64.
        batch: tensor or tuple of tensors with rows in front.
        labels: [rows].
        way: preferred kernel.
        units: each of rows / units rows; all rows by default.
        weights: of the rows, ones by default.
        loss: (output, labels) to [rows].
        learn_on: (batch, labels) to learn the layouts on, where the batch has a single row.
    """
    rows = len(labels)
    units = rows if units is None else units
    weights = torch.ones(rows, dtype=torch.float64) if weights is None else weights
    engine = engine_for(net, *(learn_on or (batch, labels)), way=way, loss=loss)
    sums = {}
    clipped = engine.add(lambda: loss(net(batch), labels), weights, units, clip, sums)
    sums = {name: sums.get(name, torch.zeros_like(p)) for name, p in engine.parameters.items()}
    expected_squared, expected = looped(net, batch, labels, units, weights, loss)
    return Compared(clipped.squared.sum(1), expected_squared, sums, expected, engine.ways)


def looped(net, batch, labels, units, weights, loss=loss_of):
    """Squared norms [units] and clipped sums by parameter; a unit that is not finite counts as zero."""
    per_unit = len(labels) // units
    parameters = {name: p for name, p in net.named_parameters() if p.requires_grad}
    sums = {name: torch.zeros_like(p) for name, p in parameters.items()}
    squares = []
    for unit in range(units):
        gradients = {name: torch.zeros_like(p) for name, p in parameters.items()}
        for row in range(unit * per_unit, (unit + 1) * per_unit):
            if weights[row] == 0:
                continue
            value = (loss(net(rows_of(batch, [row])), labels[[row]]) * weights[[row]]).sum()
            found = torch.autograd.grad(value, list(parameters.values()), allow_unused=True)
            for name, part in zip(parameters, found, strict=True):
                gradients[name] += 0 if part is None else part
        square = sum(g.square().sum() for g in gradients.values())
        squares.append(square)
        if torch.isfinite(square):
            for name, gradient in gradients.items():
                sums[name] += min(1.0, MAX_GRAD_NORM / max(float(square.sqrt()), 1e-300)) * gradient
    return torch.stack(squares), sums


class Around(nn.Module):
    """A layer between a linear map and a head.

    Args:
        layer: under test.
        batch: an example batch, for shapes.
        uses: how many times the layer is used in a row, which must then keep shapes.
        first: whether the layer sees the data themselves, which ask for no gradient.
    """

    def __init__(self, layer, batch, *, uses=1, first=False):
        super().__init__()
        self.layer, self.uses = layer, uses
        self.before = nn.Identity() if first else nn.Linear(batch.shape[-1], batch.shape[-1])
        self.head = nn.Linear(layer(batch[:2]).flatten(1).shape[1], 3)

    def forward(self, x):
        x = self.before(x)
        for _ in range(self.uses):
            x = torch.tanh(self.layer(x))
        return self.head(x.flatten(1))


SCENARIOS = ("plain", "first", "one example", "rows per unit", "not finite", "masked", "frozen weight", "frozen bias")


def check_layer(make, shape, scenario="plain", *, way=None, rows=4, seed=0, prepare=None):
    """Compare a network around a layer, in float64.

    Args:
        make: a layer.
        shape: of one example.
        scenario: one of SCENARIOS, or "reused".
        prepare: of the input, for instance another memory format.
    """
    torch.manual_seed(seed)
    layer = make().to(torch.float64)
    spread(layer)
    x, y = torch.randn(rows, *shape, dtype=torch.float64), torch.randint(0, 3, (rows,))
    x = prepare(x) if prepare else x
    net = Around(layer, x, uses=2 if scenario == "reused" else 1, first=scenario == "first").to(torch.float64)
    options = {"way": way}
    if scenario == "one example":
        options["learn_on"], x, y = (x, y), x[:1], y[:1]
    if scenario == "rows per unit":
        options["units"] = rows // 2
    if scenario == "masked":
        options["weights"] = torch.tensor([1.0, 0.0] * (rows // 2), dtype=torch.float64)
    if scenario == "not finite":
        options["learn_on"] = (x, y)
        x = x.clone()
        x[1] = float("nan")
    if scenario.startswith("frozen"):
        parameter = getattr(layer, scenario.split()[1], None)
        if parameter is not None:
            parameter.requires_grad_(False)
    compared = compare(net, x, y, **options)
    compared.check()
    return compared


def spread(layer):
    """Random scales and statistics, so that ones and zeros hide nothing."""
    for tensor in (*layer.parameters(), *layer.buffers()):
        if tensor.dim() == 1:
            tensor.data.uniform_(0.5, 1.5)
