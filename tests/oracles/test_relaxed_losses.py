"""Slow twins of CRL and RelaxLoss, one number at a time, in Python floats; gradients by differences of the twins."""

import math
from dataclasses import dataclass, field, replace

import pytest
import torch

from sfumato.defences.crl import CRL
from sfumato.defences.relaxloss import RelaxLoss
from sfumato.training.losses import binary_cross_entropy, cross_entropy
from sfumato.training.seen import Seen, Tally

DELTA = 1e-7
ROWS, CLASSES, WIDTH = 5, 4, 3
LEVELS = {"below every loss": 1e-3, "between": None, "above every loss": 50.0}


@dataclass
class Numbers:
    """A batch as lists: logits, features, centres and labels. `fixed` holds confidences that count as constants."""

    z: list[list[float]]
    f: list[list[float]]
    c: list[list[float]]
    y: list[int]
    fixed: list[float] = field(default_factory=list)


def softmax(z: list[float]) -> list[float]:
    weights = [math.exp(value) for value in z]
    return [weight / sum(weights) for weight in weights]


def both(z: list[float]) -> list[float]:
    """One logit as two."""
    return [0.0, z[0]] if len(z) == 1 else z


def norm(v: list[float]) -> float:
    return math.sqrt(sum(value * value for value in v))


def naive_normalised(v: list[float], t: float, form: str) -> list[float]:
    length = norm(v) + DELTA
    return [value / ((1 + t * length) if form == "saturating" else t * length) for value in v]


def soft_cross_entropy(z: list[float], q: list[float]) -> float:
    return -sum(share * math.log(p) for share, p in zip(q, softmax(z), strict=True))


def hard(label: int, classes: int) -> list[float]:
    return [1.0 if k == label else 0.0 for k in range(classes)]


def flat(label: int, classes: int, p: float) -> list[float]:
    return [p if k == label else (1 - p) / (classes - 1) for k in range(classes)]


def confidences(batch: Numbers) -> list[float]:
    return batch.fixed or [softmax(both(z))[y] for z, y in zip(batch.z, batch.y, strict=True)]


def naive_relaxed(values: list[float], softened: list[float], level: float, number: int, threshold: str) -> float:
    """The mean over the batch of a relaxed loss; `number` is the epoch's own."""
    groups = [list(range(len(values)))] if threshold == "batch" else [[i] for i in range(len(values))]
    total = 0.0
    for rows in groups:
        reached = sum(values[i] for i in rows) / len(rows)
        if number % 2 == 0:
            loss = abs(reached - level)
        elif reached > level:
            loss = reached
        else:
            loss = sum(softened[i] for i in rows) / len(rows)
        total += loss * len(rows)
    return total / len(values)


def naive_crl(batch: Numbers, defence: CRL, epoch: int) -> float:
    values, softened, distances, drawn = [], [], [], []
    for z, f, y, p in zip(batch.z, batch.f, batch.y, confidences(batch), strict=True):
        own = both(naive_normalised(z, defence.t, defence.normalisation))
        values.append(soft_cross_entropy(own, hard(y, len(own))))
        softened.append(soft_cross_entropy(own, flat(y, len(own), min(p, defence.upper))))
        g = naive_normalised(f, defence.t_centre, defence.normalisation)
        m = naive_normalised(batch.c[y], defence.t_centre, defence.normalisation)
        distance = sum((a - b) ** 2 for a, b in zip(g, m, strict=True)) / 2
        distances.append(distance)
        r = min(p, defence.upper_centre)
        drawn.append(r * distance + (1 - r) * norm(g) ** 2 / 2)
    number = epoch + defence.first_epoch
    first = naive_relaxed(values, softened, defence.alpha, number, defence.threshold)
    second = naive_relaxed(distances, drawn, defence.alpha_centre, number, defence.threshold)
    return first + defence.weight * second


def naive_relaxloss(batch: Numbers, defence: RelaxLoss, epoch: int) -> float:
    values, softened = [], []
    for z, y, p in zip(batch.z, batch.y, confidences(batch), strict=True):
        own = both(z)
        value = soft_cross_entropy(own, hard(y, len(own)))
        soft = soft_cross_entropy(own, flat(y, len(own), min(p, defence.upper)))
        correct = own.index(max(own)) == y
        values.append(value)
        softened.append(soft if defence.flattening == "simplified" else (0 if correct else 1) * soft - value)
    return naive_relaxed(values, softened, defence.alpha, epoch + defence.first_epoch, defence.threshold)


NAIVE = {CRL: naive_crl, RelaxLoss: naive_relaxloss}


def numbers(head: str = "multiclass") -> Numbers:
    generator = torch.Generator().manual_seed(5)
    classes, outputs = (2, 1) if head == "binary" else (CLASSES, CLASSES)

    def drawn(*shape):
        return (2 * torch.randn(*shape, generator=generator, dtype=torch.float64)).tolist()

    return Numbers(drawn(ROWS, outputs), drawn(ROWS, WIDTH), drawn(classes, WIDTH), [0, 1, 0, 1, 1])


def of_torch(batch: Numbers, defence, epoch: int, tally: Tally | None = None):
    """The objective's mean, and the gradients for logits, features and centres."""
    z, f = (torch.tensor(part, dtype=torch.float64, requires_grad=True) for part in (batch.z, batch.f))
    extras = {}
    if isinstance(defence, CRL):
        extras = {"crl": defence.extra(WIDTH, len(batch.c)).module.double()}
        extras["crl"].points.data = torch.tensor(batch.c, dtype=torch.float64)
    targets = torch.eye(len(batch.c), dtype=torch.float64)[batch.y]
    loss = binary_cross_entropy if z.shape[1] == 1 else cross_entropy
    seen = Seen(z, targets, f, extras, epoch, 4, 1, tally)
    value = defence.objective(seen, lambda s: loss(s.outputs, s.targets)).mean()
    value.backward()
    return float(value.detach()), [z.grad, f.grad, *(p.grad for p in extras.values() for p in p.parameters())]


def between(defence, batch: Numbers) -> dict[str, float]:
    """Levels in the middle of the rows' own values, so that each example's threshold takes both branches."""
    found = {"alpha": halfway([row_value(defence, batch, i, "alpha") for i in range(ROWS)])}
    if isinstance(defence, CRL):
        found["alpha_centre"] = halfway([row_value(defence, batch, i, "alpha_centre") for i in range(ROWS)])
    return found


def row_value(defence, batch: Numbers, row: int, level: str) -> float:
    """A row's own loss, or distance: with all levels 0 and an even epoch that is all there is."""
    one = Numbers([batch.z[row]], [batch.f[row]], batch.c, [batch.y[row]])
    if level == "alpha":
        zero = {"weight": 0.0} if isinstance(defence, CRL) else {}
        return NAIVE[type(defence)](one, replace(defence, alpha=0.0, **zero), defence.first_epoch)
    whole = naive_crl(one, replace(defence, alpha=0.0, alpha_centre=0.0, weight=1.0), defence.first_epoch)
    return whole - row_value(defence, batch, row, "alpha")


def halfway(values: list[float]) -> float:
    ordered = sorted(values)
    return (ordered[len(ordered) // 2] + ordered[len(ordered) // 2 - 1]) / 2


def levelled(defence, batch: Numbers, level: str):
    if LEVELS[level] is None:
        return replace(defence, **between(defence, batch))
    names = ("alpha", "alpha_centre") if isinstance(defence, CRL) else ("alpha",)
    return replace(defence, **dict.fromkeys(names, LEVELS[level]))


SWITCHES = {
    "crl": CRL(),
    "crl upper": CRL(upper=0.4, upper_centre=0.3, weight=2.5, t=0.3),
    "crl logitnorm": CRL(normalisation="logitnorm", t=0.5),
    "crl from 0": CRL(first_epoch=0, t=0.0, t_centre=0.0),
    "crl example": CRL(threshold="example", upper=0.6),
    "relaxloss": RelaxLoss(),
    "relaxloss upper": RelaxLoss(upper=0.4),
    "relaxloss simplified": RelaxLoss(flattening="simplified", upper=0.7),
    "relaxloss from 1": RelaxLoss(first_epoch=1),
    "relaxloss example": RelaxLoss(threshold="example", upper=0.6),
    "relaxloss simplified example": RelaxLoss(threshold="example", flattening="simplified"),
}


@pytest.mark.parametrize("head", ["multiclass", "binary"])
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("epoch", [0, 1])
@pytest.mark.parametrize("which", SWITCHES)
def test_the_value_is_the_twins(which, epoch, level, head):
    batch = numbers(head)
    defence = levelled(SWITCHES[which], batch, level)
    expected = NAIVE[type(defence)](batch, defence, epoch)
    assert math.isclose(of_torch(batch, defence, epoch)[0], expected, rel_tol=1e-10, abs_tol=1e-12)


def moved(batch: Numbers, part: str, row: int, column: int, by: float) -> Numbers:
    values = [list(line) for line in getattr(batch, part)]
    values[row][column] += by
    return replace(batch, **{part: values})


def differences(batch: Numbers, part: str, loss) -> list[list[float]]:
    step, found = 1e-6, []
    for row, line in enumerate(getattr(batch, part)):
        ends = [[loss(moved(batch, part, row, column, sign * step)) for sign in (1, -1)] for column in range(len(line))]
        found.append([(up - down) / (2 * step) for up, down in ends])
    return found


@pytest.mark.parametrize("detach", [False, True])
@pytest.mark.parametrize("level", ["below every loss", "above every loss"])
@pytest.mark.parametrize("epoch", [0, 1])
@pytest.mark.parametrize("which", SWITCHES)
def test_the_gradient_is_the_twins(which, epoch, level, detach):
    batch = numbers()
    defence = replace(levelled(SWITCHES[which], batch, level), detach_target=detach)
    twin = NAIVE[type(defence)]

    def loss(changed: Numbers) -> float:
        return twin(replace(changed, fixed=confidences(batch)) if detach else changed, defence, epoch)

    _, gradients = of_torch(batch, defence, epoch)
    parts = ("z", "f", "c") if isinstance(defence, CRL) else ("z",)
    for part, gradient in zip(parts, gradients, strict=False):
        expected = torch.tensor(differences(batch, part, loss), dtype=torch.float64)
        torch.testing.assert_close(gradient, expected, rtol=1e-6, atol=1e-8)


def test_the_switches_make_a_difference():
    """Each pair of twins differs somewhere, so that the tests above tell the switches apart."""
    batch = numbers()
    flattening = {"crl": (replace(CRL(), alpha=50.0, alpha_centre=50.0), 0), "relaxloss": (RelaxLoss(alpha=50.0), 1)}
    for name, (defence, epoch) in flattening.items():
        plain = of_torch(batch, defence, epoch)
        detached = of_torch(batch, replace(defence, detach_target=True), epoch)
        assert plain[0] == detached[0]
        assert not torch.allclose(plain[1][0], detached[1][0]), name
    official, simplified = RelaxLoss(alpha=50.0), RelaxLoss(alpha=50.0, flattening="simplified")
    assert naive_relaxloss(batch, official, 1) != naive_relaxloss(batch, simplified, 1)
    assert naive_crl(batch, CRL(), 0) != naive_crl(batch, CRL(normalisation="logitnorm"), 0)


@pytest.mark.parametrize("which", SWITCHES)
def test_branches_are_counted_as_the_twin_takes_them(which):
    batch = numbers()
    defence = levelled(SWITCHES[which], batch, "between")
    tally = Tally(1)
    for epoch in range(4):
        of_torch(batch, defence, epoch, tally)
    counted, own = tally.of(0), "alpha" if isinstance(defence, RelaxLoss) else None
    levels = [own] if own else ["alpha", "alpha_centre"]
    for position, level in enumerate(levels):
        values = [row_value(defence, batch, i, level) for i in range(ROWS)]
        reached = values if defence.threshold == "example" else [sum(values) / ROWS]
        above = sum(value > getattr(defence, level) for value in reached) / len(reached)
        names = defence.branches[3 * position : 3 * position + 3]
        found = [counted.get(name, 0.0) for name in names]
        assert found == pytest.approx([2.0, 2 * above, 2 * (1 - above)])
