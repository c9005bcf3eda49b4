"""Records for tests of the report: full, from predictions only, hostile, nearly empty. The numbers are made up."""

from __future__ import annotations

import math
from typing import Any

from sfumato.audit.curves import (
    AtAccuracy,
    EqualAccuracy,
    Frontier,
    GroupFrontier,
    StrengthCurve,
    StrengthPoint,
)
from sfumato.audit.inverted import EvaluatorSummary, InversionDesign, InversionResult, Measure, ReconstructionBound
from sfumato.audit.record import (
    AttackResult,
    AuditRecord,
    CheckResult,
    Comparison,
    Curve,
    DataSummary,
    DefenceSummary,
    Design,
    EpsilonAt,
    EpsilonFinding,
    Finding,
    GroupResult,
    GuaranteeNumbers,
    GuaranteeSummary,
    Notice,
    NotRun,
    PermittedCurve,
    Provenance,
    QueryRisk,
    Subject,
    Verdict,
    Vulnerability,
)
from sfumato.audit.tuned import Trial, TuningSummary

HOSTILE = "</script><script>alert('x')</script><!--<img src=x onerror=\"alert(1)\">|`*_[a](javascript:1)&amp;\n# head"
FPRS = (0.1, 0.01, 0.001, 1e-5)
N = 13_600
ATTACKS = {
    "loss": ("Members have a low loss: one threshold.", "yeom2018", "the label"),
    "calibration": ("Loss compared with models that never saw the record.", "watson2022", "reference models"),
    "lira-online": ("Likelihood ratio of the score under models with and without it.", "carlini2022", "data like it"),
}


def found(name: str, value: float, half: float, at: float | None = None, **more: Any) -> Finding:
    """A finding with an interval of half-width `half`."""
    low, high = max(0.0, value - half), min(1.0, value + half)
    base = {"n_members": N, "n_nonmembers": N, "method": "cluster bootstrap over targets and units"}
    return Finding(name=name, value=value, low=low, high=high, at=at, **{**base, **more})


def tpr(power: float, fpr: float) -> float:
    """A smooth curve above chance; `power` 1 is chance."""
    return fpr ** (1 / power)


def findings(power: float) -> list[Finding]:
    """What an audit states on one attack."""
    auc = power / (power + 1)
    rates = [found("tpr_at_fpr", tpr(power, fpr), tpr(power, fpr) / 5, fpr) for fpr in FPRS[:3]]
    note = "A rate of 1e-05 needs at least 1,000,000 nonmember scores, there are 13,600."
    unresolved = Finding(
        name="tpr_at_fpr", value=None, low=None, high=None, at=FPRS[3], resolvable=False, n_nonmembers=N, note=note
    )
    return [
        found("auc", auc, 0.012),
        found("balanced_accuracy", (auc + 0.5) / 2 + 0.01, 0.011),
        found("advantage", auc - 0.5, 0.02),
        *rates,
        unresolved,
        found("ppv", 0.031 * power, 0.01, 0.01),
    ]


def curve(power: float, points: int = 160) -> Curve:
    """A ROC on a logarithmic grid from 1/N to 1."""
    fpr = [N ** (i / (points - 1) - 1) for i in range(points)]
    line = [round(tpr(power, x) * N) / N for x in fpr]
    width = [2 * math.sqrt(max(y * (1 - y), 1 / N) / 400) for y in line]
    low = [max(0.0, y - w) for y, w in zip(line, width, strict=True)]
    high = [min(1.0, y + w) for y, w in zip(line, width, strict=True)]
    return Curve(fpr=fpr, tpr=line, low=low, high=high, resolvable_from=10 / N)


def attack(name: str, power: float, targets: int = 16) -> AttackResult:
    """One attack's result."""
    summary, reference, knowledge = ATTACKS.get(name, (name, "", ""))
    auc = power / (power + 1)
    return AttackResult(
        name=name,
        reference=reference,
        summary=summary,
        access="scores",
        knowledge=knowledge,
        queries="one per record",
        settings={"queries": 1, "augmentation": "none"},
        targets=targets,
        references_per_target=targets - 1,
        findings=findings(power),
        per_target={
            "auc": [auc + 0.01 * math.sin(3 * i) for i in range(targets)],
            "tpr_at_fpr@0.01": [tpr(power, 0.01) * (1 + 0.1 * math.cos(i)) for i in range(targets)],
        },
        curve=curve(power),
        seconds=12.5,
    )


def subject(name: str, powers: tuple[float, float, float], accuracy: float, **more: Any) -> Subject:
    """One recipe."""
    attacks = [attack(label, power) for label, power in zip(ATTACKS, powers, strict=True)]
    return Subject(
        name=name,
        artefact="siblings: 16 models trained by the same recipe on random halves of the data, each attacked in turn",
        defence=DefenceSummary(
            name=name, family="empirical", reference="szegedy2016", summary="Softer targets.", settings={"alpha": 0.1}
        ),
        guarantee=GuaranteeSummary(
            status="none", statement="No formal guarantee, because of `epoch` at stage `training`: no noise was added."
        ),
        history=[{"stage": "training", "what": "epoch", "private": False}],
        recipe={"epochs": 30, "optimiser": {"name": "sgd", "learning_rate": 0.05}, "batch": 64},
        utility=[
            found("accuracy", accuracy, 0.006, method="t interval over models"),
            found("calibration-error", 0.08, 0.01, method="t interval over models"),
        ],
        attacks=attacks,
        strongest="lira-online",
        not_run=[
            NotRun(attack="rmia", reasons=["It needs public records, and there are none."]),
            NotRun(attack="geiping, batch of 64", reasons=["needs 64 records of a class, got 40"]),
        ],
        groups=[
            GroupResult(
                column="ward",
                group=ward,
                attack="lira-online",
                findings=[found("auc", 0.6 + shift, 0.03), found("tpr_at_fpr", 0.04 + shift / 5, 0.02, 0.01)],
            )
            for ward, shift in (("east", 0.0), ("west", 0.11))
        ],
        vulnerability=vulnerability(powers[2]),
        epsilon=[
            EpsilonFinding(
                method="Clopper-Pearson", value=powers[2] / 2, ceiling=6.24, confidence=0.95, delta=1e-5, n=1700,
                assumption="independent trials", attack="lira-online",
            ),
            EpsilonFinding(
                method="Gaussian DP", value=powers[2] / 1.7, ceiling=7.9, confidence=0.95, delta=1e-5, n=1700,
                assumption="the trade-off curve is Gaussian", attack="lira-online",
            ),
        ],
        inversions=inversions(sum(powers) / 3),
        training_seconds=74.0,
        **more,
    )  # fmt: skip


def vulnerability(power: float) -> Vulnerability:
    """A right-skewed histogram of per-unit AUC."""
    centre = power / (power + 1)
    edges = [i / 20 for i in range(21)]
    counts = [round(600 * math.exp(-(((low + 0.025 - centre) / 0.13) ** 2))) for low in edges[:-1]]
    return Vulnerability(
        attack="lira-online",
        models=16,
        edges=edges,
        counts=counts,
        quantiles={"0.05": 0.41, "0.5": centre, "0.95": 0.93},
        worst_decile=found("worst_decile_auc", 0.88, 0.03, method="mean over units, chosen on other models"),
        note="Chosen and measured on different models.",
    )


def difference(finding: str, value: float, half: float, at: float | None = None) -> Finding:
    """A paired difference."""
    method = "paired t interval over targets"
    return Finding(name=finding, value=value, low=value - half, high=value + half, at=at, method=method)


def measure(name: str, level: str, attacked: float, control: float, more: str = "higher") -> Measure:
    """One measure of inversion beside its control."""
    gap = attacked - control if more == "higher" else control - attacked
    return Measure(
        name=name, level=level, more=more,  # type: ignore[arg-type]
        attacked=Finding(name=name, value=attacked, low=attacked * 0.9, high=attacked * 1.1, method="bootstrap"),
        control=Finding(name=name, value=control, low=control * 0.8, high=control * 1.2, method="bootstrap"),
        difference=Finding(name=name, value=gap, low=gap - 0.05, high=gap + 0.05),
        control_is=f"Made-up control of {name}.",
    )  # fmt: skip


def inversions(power: float) -> list[InversionResult]:
    """What two attacks on classes, one on a batch, and one on planted labels found; `power` 1 is nothing."""
    share = 1 - 1 / power
    fid = Finding(name="fid", value=31.5, low=29.0, high=34.0)
    of_class = [
        measure("evaluator_accuracy_1", "class", 0.1 + 0.8 * share, 0.1),
        measure("record_distance", "record", 4.5 - share, 4.5, "lower"),
        measure("nearer_to_training", "record", 0.5 + share / 4, 0.5),
        Measure(name="fid", level="none", more="lower", attacked=fid),
    ]
    return [
        InversionResult(
            name="miface", game="class", access="weights", knowledge="Nothing else.", measures=of_class, targets=2,
            questions=20, guesses=5, seconds=12.5, note="Classes were drawn at random.",
        ),
        InversionResult(
            name="if-gmi", game="class", access="weights", knowledge="Public records.", measures=of_class[:1],
            targets=2, questions=20, guesses=5, seconds=75.0, fit_seconds=180.0, reconstruction="The schedule is ours.",
        ),
        InversionResult(
            name="geiping", game="gradient", variant="batch of 8", access="update", targets=2, questions=32, guesses=8,
            measures=[measure("identified", "record", 0.02 + 0.9 * share, 0.02)], seconds=33.0,
        ),
        InversionResult(
            name="planted-label", game="label", access="scores", targets=2, questions=400, guesses=9, queries=1.0,
            measures=[measure("planted_label", "record", 0.11 + 0.5 * share, 0.11)], seconds=0.01,
        ),
    ]  # fmt: skip


def inversion_bounds() -> list[ReconstructionBound]:
    """One game that the bound is for, and one that it is not for."""
    return [
        ReconstructionBound(
            prior=0.111, permitted=0.42, measured="planted_label", unit="owner", method="Hypothesis testing, by PLD.",
        ),
        ReconstructionBound(
            prior=0.5, permitted=0.9, measured="planted_label", unit="owner", method="RDP.", applies=False,
            note="The prior of this game is not known.",
        ),
    ]  # fmt: skip


def inversion_design(unit_is_class: bool = False) -> InversionDesign:
    """How inversion was audited."""
    return InversionDesign(
        public="classes 8 and 9 of the data", public_records=354, classes=8, inverted=8, unit="patient",
        unit_is_class=unit_is_class, gallery=True,
        evaluator=EvaluatorSummary(name="wide-mlp", accuracy=found("accuracy", 0.971, 0.01), note="Trained on all."),
    )  # fmt: skip


def provenance() -> Provenance:
    """Where the example comes from."""
    return Provenance(
        created="2026-11-21T20:15:00+00:00",
        command="sfumato compare --data digits --recipe undefended --recipe label-smoothing --recipe mixup --seed 7",
        seed=7,
        seconds=214.3,
        versions={"sfumato": "0.1.0", "torch": "2.13.0", "python": "3.11.2"},
        machine={"cores": 2, "memory_gb": 8.0, "system": "Linux"},
    )


def data() -> DataSummary:
    """Counts of the example population."""
    return DataSummary(
        name="digits", kind="image", records=1797, units=1797, unit="patient", classes=10, shape=[1, 8, 8],
        fingerprint="3f9a" * 16, game_units=1700, public_units=97, groups=["ward"],
    )  # fmt: skip


def compare_record() -> AuditRecord:
    """Three recipes side by side, with everything a record can hold."""
    names = ("undefended", "label-smoothing", "mixup")
    powers = ((1.5, 2.0, 3.1), (1.25, 1.6, 2.2), (1.05, 1.1, 1.35))
    subjects = [subject(n, p, a) for n, p, a in zip(names, powers, (0.962, 0.965, 0.951), strict=True)]
    return AuditRecord(
        kind="compare",
        title="Digits: what three recipes give away",
        data=data(),
        design=Design(
            name="pairs", models=48, targets=16, references_per_target=15, executor="stacked", reused=16, trained=32
        ),
        subjects=subjects,
        comparisons=[
            Comparison(
                finding=finding, at=at, attack="" if finding == "accuracy" else "lira-online", subject=name,
                baseline="undefended", difference=difference(finding, value, half, at),
            )
            for name, change in (("label-smoothing", 1.0), ("mixup", 2.6))
            for finding, at, value, half in (
                ("accuracy", None, 0.003 * (2 - change), 0.004),
                ("auc", None, -0.06 * change, 0.02),
                ("tpr_at_fpr", 0.01, -0.05 * change, 0.03),
            )
        ],
        verdict=Verdict(
            status="failed",
            sentence="Tested with three attacks on 16 models per recipe; the undefended recipe gives members away.",
            in_favour=["mixup: the strongest attack stays near chance at an FPR of 1 %."],
            against=[
                "undefended: lira-online finds 22.6 % of members at an FPR of 1 %.",
                "label-smoothing: lira-online does better than chance.",
            ],
        ),
        checks=[
            CheckResult(
                name="few found", condition="tpr_at_fpr at 0.01 <= 0.05", outcome="failed",
                explanation="undefended: 0.226 [0.181, 0.272]",
            ),
            CheckResult(name="useful", condition="accuracy >= 0.9", outcome="passed", explanation="0.951 or more"),
            CheckResult(
                name="rare", condition="tpr_at_fpr at 1e-05 <= 0.01", outcome="unknown", explanation="not resolvable"
            ),
        ],
        inversion=inversion_design(),
        notices=[
            Notice(severity="negligible", text="The strongest attack was chosen on its scores.", remedy="Name one."),
            Notice(severity="critical", text="Ward east has 12 patients.", remedy="Merge small groups."),
        ],
        not_tested=["attacks with access to weights or gradients", "reconstruction and model inversion"],
        citations={"carlini2022": "@inproceedings{carlini2022,\n  title={First Principles},\n  year={2022}\n}"},
        provenance=provenance(),
    )  # fmt: skip


def guaranteed(other: Subject, slack: float = 4.0) -> Subject:
    """A subject with a formal guarantee whose permitted curve is `slack` times the FPR (made up, like all numbers)."""
    fpr = [10 ** (i / 20 - 6) for i in range(121)]
    permitted = PermittedCurve(fpr=fpr, tpr=[min(1.0, slack * x) for x in fpr], group_size=2)
    numbers = GuaranteeNumbers(
        epsilon=1.2345, delta=1e-5, adjacency="ADD_OR_REMOVE_ONE", unit="patient", accountant="pld", audit_only=True,
        mechanisms=[{"kind": "poisson-gaussian", "steps": 100}],
        profile=[EpsilonAt(epsilon=0.9, delta=1e-3), EpsilonAt(epsilon=1.2345, delta=1e-5)], permitted=permitted,
    )  # fmt: skip
    statement = "epsilon 1.24 at delta 1e-05, neighbouring data sets differ by one unit added or removed (audit run)"
    promise = GuaranteeSummary(status="formal", statement=statement, numbers=numbers)
    bounded = [
        one.model_copy(update={"bounds": inversion_bounds()}) if one.name == "planted-label" else one
        for one in other.inversions
    ]
    return other.model_copy(update={"name": "dpsgd", "guarantee": promise, "inversions": bounded})


def asked(
    attack: str, power: float, k: int = 1, noise: str = "fresh", average: str = "statistic", group: str = "all"
) -> QueryRisk:
    """What one attack found by asking in one way."""
    threat = "released weights" if noise != "fresh" else "one query" if k == 1 else "many queries"
    kept = [f for f in findings(power) if f.name == "auc" or (f.name == "tpr_at_fpr" and f.resolvable)]
    return QueryRisk(attack=attack, k=k, noise=noise, average=average, threat=threat, group=group, findings=kept)


def random_subject(other: Subject) -> Subject:
    """A subject whose answers are random: risk rises with the number of draws, and more with the weights."""
    rows = [
        asked(name, 1.05 + strength * (0.1 * step + 0.2 * (group != "all")), k, group=group)
        for name, strength in (("loss", 1.0), ("lira-online", 2.0))
        for step, k in enumerate((1, 4, 16))
        for group in ("all", "canary=mislabelled")
    ]
    rows += [asked("lira-online", 1.44, 16, average=average) for average in ("logits", "probabilities")]
    rows += [asked("lira-online", 1.7, 1, "off"), asked("lira-online", 1.6, 16, "common")]
    rows += [asked("gradient-norm", 1.8, 1, "off")]
    accuracies = {"one-draw": 0.94, "mean-of-16-draws": 0.958, "drift-alone": 0.96}
    utility = [found(f"accuracy-{name}", value, 0.006, method="t interval") for name, value in accuracies.items()]
    changes = {"attacks": [attack(label, 1.05) for label in ATTACKS], "query_risk": rows, "random_answers": True}
    return other.model_copy(update={**changes, "name": "sde-net", "utility": [*other.utility, *utility]})


def random_record() -> AuditRecord:
    """Two recipes: one answers always the same, one at random."""
    record = compare_record()
    subjects = [record.subjects[0].model_copy(update={"random_answers": False}), random_subject(record.subjects[1])]
    return record.model_copy(update={"subjects": subjects, "comparisons": []})


def strength_point(method: str, strength: int, accuracy: float, rate: float, kind: str = "") -> StrengthPoint:
    """One setting of a method."""
    return StrengthPoint(
        subject=f"{method}@{strength}", strength=str(strength), attack="lira-online", kind=kind, relative_time=1.25,
        accuracy=found("accuracy", accuracy, 0.006),
        leakage=[
            found("auc", 0.5 + rate, 0.02),
            Finding(name="tpr_at_fpr", value=None, low=None, high=None, at=0.001, resolvable=False, n_nonmembers=900),
            found("tpr_at_fpr", rate, rate / 4, 0.01),
        ],
    )  # fmt: skip


def strength_group(group: str, kind: str = "") -> GroupFrontier:
    """Two methods over three strengths, and one that never got as accurate."""
    slopes = {"relaxloss": (0.90, 0.20), "dpsgd": (0.89, 0.03), "weak": (0.5, 0.01)}
    curves = [
        StrengthCurve(
            method=method,
            points=[strength_point(method, 3 - i, top + 0.03 * i, rate * (i + 1), kind) for i in range(3)],
        )
        for method, (top, rate) in slopes.items()
    ]
    note = "not reached: all settings are less accurate"
    missing = Finding(name="tpr_at_fpr", value=None, low=None, high=None, at=0.01, resolvable=False, note=note)
    lost = Finding(name="auc", value=None, low=None, high=None, resolvable=False, note=note)
    reached = [found("tpr_at_fpr", 0.2, 0.05, 0.01), found("auc", 0.7, 0.05)]
    differences = [difference("tpr_at_fpr", -0.31, 0.06, 0.01), difference("auc", -0.2, 0.05)]
    return GroupFrontier(
        group=group,
        curves=curves,
        at_accuracies=[
            AtAccuracy(method=m, accuracy=0.94 - d, below=d, leakage=[missing, lost] if m == "weak" else reached)
            for m in slopes
            for d in (0.01, 0.05)
        ],
        differences=[
            EqualAccuracy(subject="dpsgd", baseline="relaxloss", accuracy=0.925, differences=differences),
            EqualAccuracy(
                subject="weak", baseline="dpsgd", accuracy=None, note="every setting of dpsgd is more accurate"
            ),
        ],
    )


def frontier_record() -> AuditRecord:
    """The full record with the curves of three methods, for all units and for the worst canaries."""
    curves = Frontier(
        reference="undefended", confidence=0.95, method="bootstrap",
        groups=[strength_group("all"), strength_group("worst", "mislabelled")],
    )  # fmt: skip
    return compare_record().model_copy(update={"frontier": curves, "tuning": [tuning()]})


def tuning() -> TuningSummary:
    """How one subject's numbers were chosen."""
    trial = Trial(
        settings={"alpha": 0.3}, validation_accuracy=0.9, fitted_loss=0.2, validation_loss=0.3, gap=0.1, within=True
    )
    return TuningSummary(
        subject="mixup", method="mixup", criterion="the smallest gap", tolerance=0.01, fitted_units=70,
        validation_units=20, undefended_accuracy=0.9, grid={"alpha": [0.3, 0.6], "beta": [1]}, grid_size=2,
        trials=[trial], chosen={"alpha": 0.3}, unsuited=1, held=["gamma"], note="None was within the tolerance.",
    )  # fmt: skip


def guaranteed_record(slack: float = 40.0) -> AuditRecord:
    """The full record with a formal guarantee on its last subject."""
    record = compare_record()
    *others, last = record.subjects
    changed = guaranteed(last, slack)
    comparisons = [
        c.model_copy(update={"subject": "dpsgd"}) if c.subject == last.name else c for c in record.comparisons
    ]
    return record.model_copy(update={"subjects": [*others, changed], "comparisons": comparisons})


def predictions_record() -> AuditRecord:
    """A table of predictions: one subject, one target, no references, no utility interval."""
    result = attack("loss", 1.1, targets=1).model_copy(update={"per_target": {}, "references_per_target": 0})
    only = Subject(
        name="predictions.csv",
        artefact="predictions only: neither the model nor its training was seen",
        defence=DefenceSummary(name="unknown", family="unknown", reference=""),
        guarantee=GuaranteeSummary(status="none", statement="none, because only predictions were given"),
        attacks=[result],
        strongest="loss",
        not_run=[NotRun(attack="lira-online", reasons=["It needs reference models.", "None were given."])],
        utility=[Finding(name="accuracy", value=0.9, low=None, high=None, method="one model")],
    )
    return compare_record().model_copy(
        update={
            "kind": "predictions",
            "title": "A table of predictions",
            "subjects": [only],
            "comparisons": [],
            "checks": [],
            "verdict": Verdict(
                status="no thresholds given", sentence="Tested with one attack; found nothing above chance."
            ),
            "notices": [],
            "inversion": None,
        }
    )


def empty_record() -> AuditRecord:
    """As little as a record can hold: one subject on which nothing ran, and nothing else."""
    only = Subject(
        name="model",
        artefact="the released module itself",
        defence=DefenceSummary(name="none", family="none", reference=""),
        guarantee=GuaranteeSummary(status="none", statement="none, because its training was not seen"),
    )
    return AuditRecord(
        kind="release",
        title="Nothing measured",
        data=DataSummary(
            name="x", kind="table", records=0, units=0, unit="record", classes=0, shape=[], fingerprint="",
            game_units=0, public_units=0,
        ),
        design=Design(name="none", models=0, targets=0, references_per_target=0),
        subjects=[only],
        verdict=Verdict(status="unknown", sentence="Nothing could be tested."),
        provenance=Provenance(created="", command="", seed=0, seconds=0.0, versions={}, machine={}),
    )  # fmt: skip


def hostile_record() -> AuditRecord:
    """The full record with every text replaced by one that tries to break out, but for the few that are enumerated."""
    record = guaranteed_record()
    first, second, *others = record.subjects
    changes = {
        "subjects": [first, random_subject(second), *others],
        "frontier": frontier_record().frontier,
        "tuning": [tuning()],
    }
    plain = record.model_copy(update=changes).model_dump(mode="json")
    hostile = AuditRecord.model_validate(_poison(plain))
    assert hostile.title == HOSTILE
    return hostile


_KEPT = {"kind", "status", "severity", "outcome", "threat", "game", "level", "more"}


def _poison(value: Any, key: str = "") -> Any:
    if isinstance(value, dict):
        return {_poisoned_key(k, key): _poison(v, k) for k, v in value.items()}
    if isinstance(value, list):
        return [_poison(item, key) for item in value]
    if isinstance(value, str) and key not in _KEPT and value not in ("auc", "tpr_at_fpr"):
        return HOSTILE
    return value


def _poisoned_key(name: str, inside: str) -> str:
    """Keys of free-form dictionaries are text of others too."""
    free = ("settings", "recipe", "citations", "versions", "machine", "quantiles")
    return f"{name}{HOSTILE}" if inside in free else name


def large_record(subjects: int = 4, attacks: int = 15, targets: int = 32) -> AuditRecord:
    """As many recipes, attacks and targets as one run is expected to hold."""
    base = compare_record()
    many = [
        base.subjects[0].model_copy(
            update={
                "name": f"recipe number {s}",
                "attacks": [attack(f"attack-{a}", 1.1 + 0.1 * a + 0.05 * s, targets) for a in range(attacks)],
                "strongest": f"attack-{attacks - 1}",
            }
        )
        for s in range(subjects)
    ]  # fmt: skip
    return base.model_copy(update={"subjects": many})
