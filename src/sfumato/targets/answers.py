"""What models answered, and the statistics of an answer that attacks use. NumPy, float64 from here on.

For the base query (the record itself, once) the full logits are kept. For other query sets a few scalars per variant
are kept instead (`scalar_names`), because the logits of 18 queries would not fit: `STATISTICS` averaged over the
repeats, and where there are repeats the statistics of the mean logits and of the mean probabilities ("logit@logits"),
and the standard deviation over the repeats ("deviation") and the share of them with the right label ("correct").
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from sfumato.errors import NotApplicable, UsageError
from sfumato.targets.queries import AVERAGES, BASE, BOUNDARY, GRADIENTS, QuerySet
from sfumato.types import Floats, Ints
from sfumato.validate import one_of

STATISTICS = ("logit", "hinge", "log_confidence", "log_confidence_t2")
DEVIATION, GRADIENT_NORM, INPUT_GRADIENT_NORM = "deviation", "gradient_norm", "input_gradient_norm"
CORRECT, BOUNDARY_DISTANCE, LABEL_QUERIES = "correct", "boundary_distance", "label_queries"
LABELS_TELL = (CORRECT, BOUNDARY_DISTANCE, LABEL_QUERIES)  # what whoever sees labels only knows


def scalar_name(name: str, average: str) -> str:
    """Under which one of `STATISTICS` is kept, averaged in one of `queries.AVERAGES`; of one answer all are equal."""
    return name if average == "statistic" else f"{name}@{average}"


def scalar_names(queries: QuerySet) -> tuple[str, ...]:
    """What is kept of the answers to a query set."""
    if queries.signal in GRADIENTS:
        return (queries.signal.replace("-", "_"),)
    if queries.signal == BOUNDARY:
        return (BOUNDARY_DISTANCE, LABEL_QUERIES)
    if queries.repeats == 1:
        return STATISTICS
    return (*(scalar_name(name, average) for average in AVERAGES for name in STATISTICS), DEVIATION, CORRECT)


def right(hinges: Floats) -> Floats:
    """1.0 where the answered label is the record's own, h > 0, else 0.0: a tie with another class counts as wrong.

    NaN, for records that were not asked, stays. Any shape.
    """
    hinges = np.asarray(hinges, dtype=np.float64)
    return np.where(np.isnan(hinges), np.nan, hinges > 0)


def logit_scaled(logits: Floats, labels: Ints) -> Floats:
    """phi = z_y - logsumexp of the other logits = log p_y / (1 - p_y), without ever forming 1 - p_y.

    LiRA, section VI-A of arXiv 2112.03570.

    Args:
        logits: [..., records, classes]; log-probabilities give the same value.
        labels: int [records].

    Returns:
        float64 [..., records].
    """
    own, others = _own_and_others(logits, labels)
    highest = others.max(axis=-1)
    shift = np.where(np.isfinite(highest), highest, 0.0)
    with np.errstate(divide="ignore"):  # log 0 = -inf where every other class has probability 0
        return own - shift - np.log(np.exp(others - shift[..., None]).sum(axis=-1))


def hinge(logits: Floats, labels: Ints) -> Floats:
    """h = z_y - max of the other logits; [..., records, classes] to [..., records]. LiRA, section VI-A."""
    own, others = _own_and_others(logits, labels)
    return own - others.max(axis=-1)


def log_confidence(logits: Floats, labels: Ints, temperature: float = 1.0) -> Floats:
    """log p_y under softmax(logits / temperature); [..., records, classes] to float64 [..., records].

    As -log(1 + exp(-phi)), which stays apart from 0 where p_y rounds to 1, so that very sure answers do not tie.
    """
    return -np.logaddexp(0.0, -logit_scaled(np.asarray(logits, dtype=np.float64) / temperature, labels))


def statistic(name: str, logits: Floats, labels: Ints) -> Floats:
    """One of `STATISTICS` by name; [..., records, classes] to float64 [..., records]; higher is more confident."""
    one_of("statistic", name, STATISTICS)
    if name == "logit":
        return logit_scaled(logits, labels)
    if name == "hinge":
        return hinge(logits, labels)
    return log_confidence(logits, labels, temperature=2.0 if name == "log_confidence_t2" else 1.0)


@dataclass(frozen=True, eq=False)
class Answers:
    """The answers of several models on the same records.

    Args:
        labels: int64 [records].
        logits: float [models, records, classes], base query; log-probabilities where only probabilities are known.
        scalars: query-set key -> one of `scalar_names` -> float32 [models, records, variants]; nothing under the key
            where the queries take a network and the target is none, or images and the records are none.
    """

    labels: Ints
    logits: Floats
    scalars: Mapping[str, Mapping[str, Floats]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shape = np.shape(self.logits)
        if len(shape) != 3 or np.shape(self.labels) != shape[1:2] or shape[2] < 2:
            raise UsageError(
                f"Expected logits [models, records, classes] with two classes or more and one label per record, got "
                f"{shape} and {np.shape(self.labels)}.",
                remedy="Give a one-logit head two columns (`losses.two_column`).",
            )
        labels = np.asarray(self.labels)  # a negative label would silently count from the last class
        if labels.dtype.kind not in "iu" or (labels.size and not 0 <= labels.min() <= labels.max() < shape[2]):
            raise UsageError(f"Expected labels as whole numbers from 0 to {shape[2] - 1}, got others.")

    @property
    def models(self) -> int:
        """Number of models that answered."""
        return len(self.logits)

    def statistic(self, name: str, queries: QuerySet = BASE) -> Floats:
        """float64 [models, records, variants]: one of `STATISTICS`, averaged over repeats as `queries.average` says.

        Also "deviation" [the scale of "logit"], of query sets with repeats; "correct", the share of the repeats in
        [0, 1] whose label was the record's own; the gradient norms; and "boundary_distance" with the "label_queries"
        that it took. NaN for records that were not asked.

        Raises:
            NotApplicable: if these queries were not put, or have no such statistic.
        """
        one_of("statistic", name, (*STATISTICS, DEVIATION, GRADIENT_NORM, INPUT_GRADIENT_NORM, *LABELS_TELL))
        if name == CORRECT and self._by_hinge(queries):
            return right(self.statistic("hinge", queries))
        if queries == BASE and BASE.key not in self.scalars and name in STATISTICS:
            return statistic(name, self.logits, self.labels)[..., None]
        kept = scalar_name(name, queries.average if name in STATISTICS and queries.repeats > 1 else "statistic")
        table = self.scalars.get(queries.key, {})
        if kept not in table:
            known = ", ".join(dict.fromkeys([BASE.key, *(key for key, table in self.scalars.items() if table)]))
            raise NotApplicable(
                f"Expected answers to the queries {queries.key} with {kept}, got {known}.",
                remedy="Query the models again; a table of predictions can only answer the base query, and only a "
                "network shows its weights.",
            )
        return np.asarray(table[kept], dtype=np.float64)

    def _by_hinge(self, queries: QuerySet) -> bool:
        """Whether hinges tell which labels were right: not after averages, nor where they are kept from the reader."""
        return queries.repeats == 1 and CORRECT not in self.scalars.get(queries.key, {})

    def labels_only(self) -> Answers:
        """What whoever sees labels only knows of these answers: no logits (NaN), and no statistic of them."""
        scalars: dict[str, dict[str, Floats]] = {BASE.key: {CORRECT: self.statistic(CORRECT)}}
        for key, table in self.scalars.items():
            kept = {name: values for name, values in table.items() if name in LABELS_TELL}
            hinges = (
                {CORRECT: right(table["hinge"])} if "hinge" in table and QuerySet.from_key(key).repeats == 1 else {}
            )
            scalars[key] = {**hinges, **kept}
        return Answers(self.labels, np.broadcast_to(np.float32(np.nan), np.shape(self.logits)), scalars)

    def with_base_statistics(self) -> Answers:
        """The same answers with the statistics of the base query worked out once, not again for every target."""
        table = {name: statistic(name, self.logits, self.labels)[..., None] for name in STATISTICS}
        return Answers(self.labels, self.logits, {**self.scalars, BASE.key: table})

    def pick(self, models: Ints) -> Answers:
        """The answers of some of the models."""
        scalars = {key: {name: a[models] for name, a in table.items()} for key, table in self.scalars.items()}
        return Answers(self.labels, self.logits[models], scalars)


def _take_label(values: Floats, labels: Ints) -> Floats:
    index = np.broadcast_to(np.asarray(labels)[..., None], (*values.shape[:-1], 1))
    return np.take_along_axis(values, index, axis=-1)[..., 0]


def _own_and_others(logits: Floats, labels: Ints) -> tuple[Floats, Floats]:
    logits = np.asarray(logits, dtype=np.float64)
    own = _take_label(logits, labels)
    is_own = np.arange(logits.shape[-1]) == np.asarray(labels)[..., None]
    return own, np.where(is_own, -np.inf, logits)
