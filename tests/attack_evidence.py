"""Synthetic targets and references for tests of attacks: logits whose true class gains `gap` when trained on."""

import numpy as np

from sfumato.attacks.evidence import Evidence
from sfumato.data.records import ArrayRecords
from sfumato.models.mlp import MLP
from sfumato.targets.answers import Answers, logit_scaled, statistic
from sfumato.targets.queries import QuerySet

KEYS = ("logit", "hinge", "log_confidence", "log_confidence_t2")
DRAWN = QuerySet("none", 16)
GRADIENTS = QuerySet(noise="off", scope="game", signal="gradient-norm")
INPUT_GRADIENTS = QuerySet(noise="off", scope="game", signal="input-gradient-norm")
WALKED = QuerySet(scope="game", signal="boundary-distance", budget=500)
VIEWS = (QuerySet("noise-16", scope="game"), QuerySet("mirror-shift", scope="game"))


def answered(labels, logits, scalars=None):
    """Answers with what attacks on random models and on weights read besides: surer is steadier, and flatter."""
    sure = np.clip(logit_scaled(logits, labels), -50, 50)[..., None]
    drawn = {name: statistic(name, logits, labels)[..., None] for name in KEYS}
    wobble = np.sin(5 * np.clip(logits, -50, 50).sum(axis=-1))[..., None]  # not a function of `sure` alone
    drawn["deviation"] = np.exp(0.5 * wobble - 0.3 * sure)
    drawn["correct"] = 1.0 * (drawn["hinge"] > 0)
    flat = np.exp(-np.logaddexp(0, sure))
    by_input = {"input_gradient_norm": flat * np.exp(0.1 * wobble)}
    found = {DRAWN.key: drawn, GRADIENTS.key: {"gradient_norm": flat}, INPUT_GRADIENTS.key: by_input}
    margin = np.clip(drawn["hinge"], -50, 50) + 0.1 * wobble
    walked = {"boundary_distance": np.maximum(margin, 0.0), "label_queries": np.full(margin.shape, 500.0)}
    found |= {WALKED.key: walked, **{q.key: {"hinge": margin + views(labels, q.variants)} for q in VIEWS}}
    return Answers(labels, logits, {**found, **(scalars or {})})


def views(labels, variants):
    """[records, variants] to add to margins: the same for all models."""
    spread = np.linspace(-1.5, 0.5, variants)
    return spread * (1 + 0.5 * np.sin(np.asarray(labels)[:, None] + np.arange(variants)))


def paired_membership(rng, models, records):
    """bool [models, records]; models 2k and 2k+1 are complements."""
    half = rng.random((models // 2, records)) < 0.5
    return np.stack([half, ~half], axis=1).reshape(models, records)


def synthetic(
    *,
    game=60,
    public=60,
    always=0,
    references=8,
    classes=4,
    gap=1.5,
    target_gap=None,
    unit_size=1,
    seed=0,
    query_sets=(),
):
    """Evidence on game + public + always records (in that order), and the target's membership (bool [n]).

    `always` records are in every model; records of one unit share membership and most of their noise.
    """
    rng = np.random.default_rng(seed)
    n, models = game + public + always, references + 1
    units = np.arange(n) // unit_size
    membership = np.zeros((models, n), dtype=bool)
    membership[0, :game] = (rng.random(n) < 0.5)[units[:game]]
    membership[1:, :game] = paired_membership(rng, references, n)[:, units[:game]]
    membership[:, game + public :] = True
    labels = rng.integers(0, classes, n)
    labels[:classes] = np.arange(classes)
    difficulty = rng.normal(size=n)[units]
    noise = rng.normal(size=(models, n))[:, units] + (rng.normal(size=(models, n)) * 0.5 if unit_size > 1 else 0.0)
    logits = rng.normal(size=(n, classes)) + 0.3 * rng.normal(size=(models, n, classes))
    gaps = np.full(models, float(gap))
    gaps[0] = gap if target_gap is None else target_gap
    own = 2 - difficulty + np.exp(0.2 * difficulty) * noise + gaps[:, None] * membership
    logits[:, np.arange(n), labels] = own
    scalars = {
        q.key: {k: rng.normal(size=(models, n, q.variants)).astype(np.float32) + own[..., None] for k in KEYS}
        for q in query_sets
    }
    for table in scalars.values():
        for name in ("log_confidence", "log_confidence_t2"):
            table[name] = -np.logaddexp(0, -table[name])
        table["deviation"] = np.exp(-0.3 * (table["hinge"] + rng.normal(size=table["hinge"].shape)))
        table["gradient_norm"] = table["input_gradient_norm"] = np.exp(-table["hinge"])
        table["correct"] = 1.0 * (table["hinge"] > 0)
        table["boundary_distance"] = np.maximum(table["hinge"], 0)
    answers = answered(labels, logits, scalars)
    features = rng.normal(size=(n, 5)) + difficulty[:, None]
    evidence = Evidence(
        labels=labels,
        target=answers.pick(np.array([0])),
        game=np.arange(n) < game,
        public=(np.arange(n) >= game) & (np.arange(n) < game + public),
        references=answers.pick(np.arange(1, models)),
        membership=membership[1:],
        records=ArrayRecords(features),
        kind="table",
        model=MLP(hidden=(8,)),
        seed=seed,
    )
    return evidence, membership[0]


def with_logits(evidence, change):
    """The same evidence with `change` applied to all logits."""
    from dataclasses import replace

    target, references = evidence.target, evidence.references
    return replace(
        evidence,
        target=answered(target.labels, change(target.logits)),
        references=answered(references.labels, change(references.logits)),
    )


def auc(scores, members):
    """Mann-Whitney, ties count half."""
    difference = scores[members][:, None] - scores[~members][None]
    return float(((difference > 0) + 0.5 * (difference == 0)).mean())


MIRROR_TWICE = QuerySet("mirror", 2)
MIRROR_OTHERS = (
    QuerySet("mirror", noise="off", scope="game", signal="gradient-norm"),
    QuerySet("mirror", noise="off", scope="game", signal="input-gradient-norm"),
    QuerySet("mirror", 2, scope="game", signal="boundary-distance", budget=500),
    QuerySet("mirror", 2, scope="game"),
)
