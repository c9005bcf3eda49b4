import pytest

from sfumato.audit.record import CheckResult, Finding, QueryRisk
from sfumato.audit.verdict import describe, headline, status, strongest, strongest_row, verdict


@pytest.fixture
def subject(compared):
    return compared.run.record.subjects[0].model_copy(update={"strongest": "loss"})


def auc(low, high):
    return Finding(name="auc", value=(low + high) / 2, low=low, high=high)


def rate(at, low):
    if low is None:
        return Finding(name="tpr_at_fpr", value=None, low=None, high=None, at=at, resolvable=False)
    return Finding(name="tpr_at_fpr", value=low + 0.01, low=low, high=low + 0.02, at=at)


def result(subject, name, *findings):
    return subject.attacks[0].model_copy(update={"name": name, "findings": list(findings)})


def check(outcome):
    return CheckResult(name="c", condition="auc at most 1", outcome=outcome, explanation=f"it {outcome}")


def test_strongest_goes_by_the_least_rate_that_all_resolve(subject):
    wide = result(subject, "wide", auc(0.8, 0.9), rate(0.01, 0.02), rate(0.001, None))
    sharp = result(subject, "sharp", auc(0.6, 0.7), rate(0.01, 0.2), rate(0.001, 0.1))
    assert strongest([wide, sharp]) == "sharp"
    blind = result(subject, "blind", auc(0.5, 0.6), rate(0.01, None))
    assert strongest([sharp, wide, blind]) == "wide"  # no common rate: by the lower end of the AUC
    assert strongest([]) == ""


def test_a_rate_above_one_per_cent_does_not_choose(subject):
    loud = result(subject, "loud", auc(0.6, 0.7), rate(0.1, 0.5))
    better = result(subject, "better", auc(0.7, 0.8), rate(0.1, 0.4))
    assert strongest([loud, better]) == "better"


def asked(k, *findings, group="all"):
    threat = "one query" if k == 1 else "many queries"
    return QueryRisk(
        attack="loss", k=k, noise="fresh", average="statistic", threat=threat, group=group, findings=list(findings)
    )


def test_a_random_model_is_judged_by_the_attacker_who_asks_most(subject):
    once = result(subject, "loss", auc(0.48, 0.55), rate(0.01, 0.0))
    rows = [asked(1, auc(0.48, 0.55), rate(0.01, 0.0)), asked(16, auc(0.7, 0.8), rate(0.01, 0.2))]
    rows.append(asked(16, auc(0.9, 0.95), rate(0.01, 0.5), group="canary=mislabelled"))
    random = subject.model_copy(update={"attacks": [once], "strongest": "loss", "query_risk": rows})
    assert strongest_row(random) is rows[1]
    found = verdict([random], [])
    assert "(loss, 16 answers)" in found.sentence
    assert "loss, 16 answers does better than chance" in found.against[0]
    quiet = random.model_copy(update={"query_risk": rows[:1]})
    assert strongest_row(quiet) is once
    assert "no attack tried was shown" in verdict([quiet], []).in_favour[0]


def test_a_subject_without_attacks_has_no_strongest_row(subject):
    assert strongest_row(subject.model_copy(update={"attacks": [], "strongest": ""})) is None


def test_headline_is_the_least_resolvable_rate(subject):
    assert headline(result(subject, "a", auc(0.5, 0.6), rate(0.1, 0.2), rate(0.01, 0.1))).at == 0.01
    assert headline(result(subject, "a", auc(0.5, 0.6), rate(0.1, 0.2), rate(0.01, None))).at == 0.1
    assert headline(result(subject, "a", auc(0.5, 0.6), rate(0.01, None))).name == "auc"


@pytest.mark.parametrize(
    ("outcomes", "expected"),
    [
        ([], "no thresholds given"),
        (["passed", "passed"], "passed"),
        (["passed", "unknown"], "unknown"),
        (["unknown", "failed", "passed"], "failed"),
    ],
)
def test_status_follows_from_the_checks_alone(outcomes, expected):
    assert status([check(outcome) for outcome in outcomes]) == expected


def test_evidence_stands_on_its_side(subject):
    hit = subject.model_copy(update={"attacks": [result(subject, "loss", auc(0.6, 0.7))]})
    held = subject.model_copy(update={"name": "held", "attacks": [result(subject, "loss", auc(0.45, 0.55))]})
    found = verdict([hit, held], [check("failed"), check("passed")])
    assert found.status == "failed"
    assert [text.partition(":")[0] for text in found.against] == ["undefended", "c"]
    assert [text.partition(":")[0] for text in found.in_favour] == ["held", "c"]
    assert "could not have been seen" in found.in_favour[0]


def test_a_high_auc_fails_nothing_by_itself(subject):
    hit = subject.model_copy(update={"attacks": [result(subject, "loss", auc(0.98, 0.99))]})
    assert verdict([hit], []).status == "no thresholds given"


def test_a_subject_that_no_attack_reached_is_not_evidence_in_favour(subject):
    found = verdict([subject.model_copy(update={"attacks": [], "strongest": ""})], [])
    assert found.in_favour == []
    assert "nothing is known" in found.against[0]
    assert "nothing could be tested" in found.sentence


def test_words_for_findings():
    assert describe(rate(0.01, 0.1)).startswith("11.0% [10.0%, 12.0%]")
    assert describe(auc(0.5, 0.6)) == "auc 0.550 [0.500, 0.600]"
    assert "could not be resolved" in describe(rate(0.01, None))
