"""The learning task: network, optimiser, schedule, augmentation. Public numbers only; the data come later."""

from __future__ import annotations

from dataclasses import dataclass, field

from sfumato.errors import UsageError
from sfumato.models.base import ModelFamily
from sfumato.models.features.base import Features
from sfumato.validate import at_least, in_range, one_of, positive


@dataclass(frozen=True, kw_only=True)
class Optimizer:
    """Which optimiser, and its numbers.

    Args:
        name: "sgd", "adam" or "adamw".
        lr: learning rate, above 0.
        momentum: for "sgd".
        weight_decay: at least 0.
        nesterov: for "sgd".
        l1: strength of a penalty on the sum of absolute weights, at least 0.
    """

    name: str = "sgd"
    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 0.0
    nesterov: bool = False
    l1: float = 0.0

    def __post_init__(self) -> None:
        one_of("optimizer.name", self.name, ("sgd", "adam", "adamw"))
        positive("optimizer.lr", self.lr)
        in_range("optimizer.momentum", self.momentum, 0, 1)
        at_least("optimizer.weight_decay", self.weight_decay, 0)
        at_least("optimizer.l1", self.l1, 0)


@dataclass(frozen=True, kw_only=True)
class PublicScaling:
    """Input scaling that reads no record: each value to (f(value) - mean) / std with public constants.

    Args:
        mean: one number, or one per feature (tables) or channel (images).
        std: of the same kind, above 0.
        log: whether f(value) is sign(value) log(1 + |value|), for columns of unknown scale; else f(value) is the value.
    """

    mean: float | tuple[float, ...] = 0.0
    std: float | tuple[float, ...] = 1.0
    log: bool = False

    def __post_init__(self) -> None:
        for name in ("mean", "std"):
            value = getattr(self, name)
            object.__setattr__(self, name, tuple(value) if isinstance(value, (tuple, list)) else float(value))
        for value in self.std if isinstance(self.std, tuple) else (self.std,):
            positive("scaling.std", value)


@dataclass(frozen=True, kw_only=True)
class Task:
    """What is learned and how, apart from the defence.

    Args:
        model: the kind of network.
        optimizer: see `Optimizer`.
        epochs: passes over the training set.
        batch_size: records per step; an epoch is cut into equal batches of at most this size.
        schedule: learning rate over the steps: "constant", "cosine" (to 0), or "step" (times 0.1 at half and at three
            quarters).
        augmentation: any of "flip", "shift" (by up to an eighth of the side, zeros outside), "cutout"; images only.
        head: "multiclass" (one logit per class) or "binary" (one logit, two classes).
        standardise: subtract mean and divide by standard deviation per feature (tables) or channel (images), fitted on
            each model's own training records: a read of private data, and recorded as one.
        scaling: public constants for the input instead, fixed before any record was seen (see `PublicScaling`).
        features: fixed map of each record to what the network sees, computed once; no augmentation beside it.
        ema: decay of an exponential moving average of the weights, which then replaces them; None for none.
        ema_warmup: whether the decay of step t = 0, 1, ... is at most (1 + t) / (10 + t): a short training then does
            not remember its first weights.
        validation_fraction: share of each training set (by unit) set aside for validation.
        patience: stop after this many epochs without a better validation loss and keep the best weights; None to
            train to the end.
    """

    model: ModelFamily
    optimizer: Optimizer = field(default_factory=Optimizer)
    epochs: int = 20
    batch_size: int = 64
    schedule: str = "cosine"
    augmentation: tuple[str, ...] = ()
    head: str = "multiclass"
    standardise: bool = False
    scaling: PublicScaling | None = None
    features: Features | None = None
    ema: float | None = None
    ema_warmup: bool = False
    validation_fraction: float = 0.0
    patience: int | None = None

    def __post_init__(self) -> None:
        at_least("epochs", self.epochs, 1)
        at_least("batch_size", self.batch_size, 1)
        one_of("schedule", self.schedule, ("constant", "cosine", "step"))
        one_of("head", self.head, ("multiclass", "binary"))
        for kind in self.augmentation:
            one_of("augmentation", kind, ("flip", "shift", "cutout"))
        if self.features is not None and self.augmentation:
            raise UsageError(
                f"Expected no augmentation of fixed features, which are computed once, got {self.augmentation}.",
                remedy="Leave `augmentation` or `features` out.",
            )
        if self.ema is not None:
            in_range("ema", self.ema, 0, 1)
        elif self.ema_warmup:
            raise UsageError(
                "Expected `ema` with `ema_warmup`, got no decay to warm up.", remedy="Give `ema`, 0.9999 for instance."
            )
        in_range("validation_fraction", self.validation_fraction, 0, 0.9)
        if self.patience is not None:
            at_least("patience", self.patience, 1)
            positive("validation_fraction", self.validation_fraction)
