import pytest

from sfumato.audit.alarm import BROKEN, above, alarm_checks, alarms, broken_bounds, shared_low
from sfumato.audit.checks import exit_code, run_checks
from sfumato.audit.inverted import InversionResult, Measure, ReconstructionBound
from sfumato.audit.record import (
    EpsilonAt,
    EpsilonFinding,
    Finding,
    GuaranteeNumbers,
    GuaranteeSummary,
    PermittedCurve,
    QueryRisk,
)
from sfumato.audit.verdict import verdict


def promise(tpr, epsilon=1.0):
    numbers = GuaranteeNumbers(
        epsilon=epsilon, delta=1e-5, adjacency="ADD_OR_REMOVE_ONE", unit="person", accountant="pld", audit_only=True,
        mechanisms=[], profile=[EpsilonAt(epsilon=epsilon, delta=1e-5)],
        permitted=PermittedCurve(fpr=[0.01, 0.1, 1.0], tpr=[tpr / 5, tpr, 1.0], group_size=2),
    )  # fmt: skip
    return GuaranteeSummary(status="formal", statement=f"epsilon {epsilon:g} at delta 1e-05", numbers=numbers)


def rate(at, value, low):
    return Finding(name="tpr_at_fpr", value=value, low=low, high=2 * value - low, at=at)


@pytest.fixture
def subject(compared):
    """One attack with one rate of 0.3 to 0.4 at 10 % FPR."""
    base = compared.run.record.subjects[0]
    attack = base.attacks[0].model_copy(update={"findings": [rate(0.1, 0.35, 0.3)]})
    return base.model_copy(update={"attacks": [attack], "strongest": attack.name, "epsilon": []})


def promising(subject, tpr, **more):
    return subject.model_copy(update={"guarantee": promise(tpr, **more)})


@pytest.mark.parametrize(("tpr", "broken"), [(0.25, True), (0.299, True), (0.301, False), (0.9, False)])
def test_the_lower_end_of_an_interval_decides(subject, tpr, broken):
    assert bool(above(promising(subject, tpr))) == broken
    assert bool(alarms([promising(subject, tpr)])) == broken


def test_without_a_guarantee_there_is_nothing_to_break(subject):
    assert above(subject) == []


def asked(k, found, group="all"):
    return QueryRisk(
        attack="loss", k=k, noise="fresh", average="statistic", threat="many queries", group=group, findings=[found]
    )


@pytest.mark.parametrize("group", ["all", "canary=mislabelled"])
def test_many_answers_break_a_guarantee_as_any_attack_does(subject, group):
    """One answer stays below the curve, 256 do not."""
    asked_often = promising(subject, 0.4).model_copy(
        update={"query_risk": [asked(1, rate(0.1, 0.2, 0.1)), asked(256, rate(0.1, 0.9, 0.8), group)]}
    )
    (one,) = above(asked_often)
    where = "" if group == "all" else f" ({group})"
    assert one.text.startswith(f"loss, 256 answers{where} finds at least")
    assert above(promising(subject, 0.4)) == []
    assert verdict([asked_often], alarm_checks([asked_often])).status == "failed"


def test_many_attacks_share_the_level(subject):
    findings = [rate(0.1, 0.35, 0.3)] * 20
    several = subject.attacks[0].model_copy(update={"findings": findings})
    crowded = promising(subject.model_copy(update={"attacks": [several]}), 0.29)
    assert above(promising(subject, 0.29))
    assert above(crowded) == []
    assert shared_low(findings[0], 1) == pytest.approx(0.3)
    assert shared_low(findings[0], 20) == pytest.approx(0.35 - 0.05 * 3.0233 / 1.9600, abs=1e-4)


def test_rates_off_the_curves_grid_and_unresolved_ones_do_not_count(subject):
    findings = [rate(0.2, 0.9, 0.9), rate(0.1, 0.9, 0.9).model_copy(update={"resolvable": False})]
    other = subject.attacks[0].model_copy(update={"findings": findings})
    assert above(promising(subject.model_copy(update={"attacks": [other]}), 0.2)) == []


@pytest.mark.parametrize(("value", "delta", "broken"), [(1.2, 1e-5, True), (0.8, 1e-5, False), (1.2, 1e-3, False)])
def test_a_measured_lower_bound_above_epsilon_breaks_it_too(subject, value, delta, broken):
    bound = EpsilonFinding(method="one run", value=value, ceiling=5, confidence=0.95, delta=delta)
    assert bool(above(promising(subject.model_copy(update={"epsilon": [bound]}), 0.9))) == broken


def test_the_alarm_is_loud(compared, subject):
    broken = promising(subject, 0.2)
    record = compared.run.record.model_copy(update={"subjects": [broken]})
    (notice,) = alarms([broken])
    assert notice.severity == "critical"
    assert BROKEN in notice.text
    assert "at most 0.2" in notice.text
    checks = run_checks(record, ())
    assert [check.outcome for check in checks] == ["failed"]
    assert exit_code(checks) == 2
    told = verdict([broken], checks)
    assert told.status == "failed"
    assert told.sentence.startswith(f"undefended: {BROKEN}.")
    assert any(BROKEN in line for line in told.against)
    assert alarm_checks([subject]) == []
    assert BROKEN not in verdict([subject], ()).sentence


def rebuilt(permitted, *, game="label", rows=1, applies=True):
    """Attacks on reconstruction that find 0.30 at least, where so much is permitted."""
    share = Finding(name="planted_label", value=0.35, low=0.30, high=0.40)
    bound = ReconstructionBound(
        prior=0.1, permitted=permitted, measured="planted_label", unit="person", method="made up", applies=applies
    )
    measure = Measure(name="planted_label", level="record", more="higher", attacked=share)
    one = InversionResult(
        name="planted-label", game=game, access="scores", measures=[measure], bounds=[bound], targets=2, questions=9,
        guesses=1,
    )  # fmt: skip
    return [one] * rows


@pytest.mark.parametrize(
    ("given", "broken"),
    [
        (rebuilt(0.29), True),
        (rebuilt(0.31), False),
        (rebuilt(0.29, rows=9), False),  # many bounds share the level
        (rebuilt(0.20, rows=9), True),
        (rebuilt(0.20, game="class"), False),  # success without the class is not known
        (rebuilt(0.20, applies=False), False),
    ],
)
def test_a_reconstruction_above_its_bound_breaks_the_guarantee(subject, given, broken):
    one = promising(subject, 0.9).model_copy(update={"inversions": given})
    assert bool(above(one)) == broken
    assert bool(alarm_checks([one])) == broken
    assert bool(broken_bounds(one)) == broken
