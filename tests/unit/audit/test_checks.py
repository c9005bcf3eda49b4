import pytest

from sfumato.audit.checks import Check, exit_code, load_checks, run_checks
from sfumato.audit.record import Finding, NotRun, QueryRisk
from sfumato.errors import UsageError


def interval(low, high, name="auc", at=None):
    middle = None if low is None or high is None else (low + high) / 2
    return Finding(name=name, value=middle, low=low, high=high, at=at, resolvable=middle is not None)


@pytest.fixture
def record(compared):
    """Two subjects; `loss` has AUC [0.6, 0.7] in the first and [0.5, 0.55] in the second, which has no utility."""
    record = compared.run.record
    first, second = record.subjects
    attack = first.attack("loss")
    some = [interval(0.6, 0.7), interval(0.2, 0.3, "tpr_at_fpr", 0.1), interval(None, None, "tpr_at_fpr", 0.01)]
    refused = NotRun(attack="rmia", reasons=["needs references"])
    one = first.model_copy(update={"attacks": [attack.model_copy(update={"findings": some})], "not_run": [refused]})
    other = attack.model_copy(update={"findings": [interval(0.5, 0.55)]})
    two = second.model_copy(update={"attacks": [other], "utility": []})
    return record.model_copy(update={"subjects": [one, two]})


def outcome(record, **check):
    return run_checks(record, [Check(**{"name": "c", "finding": "auc", **check})])[0]


@pytest.mark.parametrize(
    ("check", "expected"),
    [
        ({"max": 0.75}, "passed"),
        ({"max": 0.7}, "passed"),
        ({"max": 0.65}, "unknown"),
        ({"max": 0.6}, "unknown"),
        ({"max": 0.59}, "failed"),
        ({"min": 0.5}, "passed"),
        ({"min": 0.52}, "unknown"),
        ({"min": 0.56}, "failed"),
        ({"max": 0.56, "subject": "label-smoothing"}, "passed"),
        ({"max": 0.56, "subject": "undefended"}, "failed"),
        ({"max": 0.35, "finding": "tpr_at_fpr", "at": 0.1, "subject": "undefended"}, "passed"),
        ({"max": 0.35, "finding": "tpr_at_fpr", "at": 0.01, "subject": "undefended"}, "unknown"),
        ({"max": 0.35, "finding": "tpr_at_fpr", "subject": "undefended"}, "unknown"),
    ],
    ids=str,
)
def test_outcomes_follow_from_the_whole_interval(record, check, expected):
    assert outcome(record, **check).outcome == expected


@pytest.mark.parametrize(
    ("check", "said"),
    [
        ({"subject": "undefendd"}, "Did you mean 'undefended'"),
        ({"attack": "los"}, "Did you mean 'loss'"),
        ({"finding": "acu"}, "Did you mean 'auc'"),
        ({"attack": "rmia", "subject": "undefended"}, "could not run: needs references"),
        ({"finding": "tpr_at_fpr", "at": 0.05, "subject": "undefended"}, "at 0.01, 0.1, not at 0.05"),
        ({"finding": "accuracy"}, "label-smoothing has no finding"),  # the first subject alone would pass
        ({"finding": "tpr_at_fpr", "at": 0.1}, "label-smoothing has no finding"),
    ],
    ids=str,
)
def test_what_is_not_in_the_record_never_passes(record, check, said):
    result = outcome(record, **{"max": 1.0, **check})
    assert result.outcome == "unknown"
    assert said in result.explanation
    assert exit_code([result]) == 3


@pytest.mark.parametrize(("attack", "expected"), [(None, "failed"), ("loss", "failed"), ("rmia", "unknown")])
def test_an_attack_on_a_random_model_is_tested_in_every_way_that_it_asked(record, attack, expected):
    often = QueryRisk(
        attack="loss", k=16, noise="fresh", average="statistic", threat="many queries", findings=[interval(0.8, 0.9)]
    )
    canaries = often.model_copy(update={"group": "canary=mislabelled", "findings": [interval(0.95, 0.99)]})
    first = record.subjects[0].model_copy(update={"query_risk": [often, canaries]})
    random = record.model_copy(update={"subjects": [first]})
    result = outcome(random, max=0.75, attack=attack)
    assert result.outcome == expected
    assert outcome(random, max=0.93, attack=attack).outcome != "failed"
    if expected == "failed":
        assert "undefended, loss, 16 answers: 0.85" in result.explanation


def test_a_record_without_subjects_never_passes(record):
    assert outcome(record.model_copy(update={"subjects": []}), max=1.0).outcome == "unknown"


def test_a_value_without_an_interval_never_passes(record):
    first = record.subjects[0]
    bare = Finding(name="log-loss", value=0.1, low=None, high=None, note="one model")
    alone = record.model_copy(update={"subjects": [first.model_copy(update={"utility": [bare]})]})
    result = outcome(alone, finding="log-loss", max=1.0)
    assert result.outcome == "unknown"
    assert "0.1 without an interval (one model)" in result.explanation


def test_exit_codes(record):
    passed, unknown, failed = (outcome(record, max=m) for m in (0.75, 0.65, 0.5))
    assert exit_code([]) == 0
    assert exit_code([passed]) == 0
    assert exit_code([passed, unknown]) == 3
    assert exit_code([unknown, failed, passed]) == 2


def written(tmp_path, text):
    path = tmp_path / "checks.toml"
    path.write_text(text)
    return path


def test_checks_are_read(tmp_path):
    text = '[[check]]\nname = "few"\nfinding = "tpr_at_fpr"\nat = 0.01\nmax = 1\nattack = "loss"\n'
    (check,) = load_checks(written(tmp_path, text))
    assert check.condition == "tpr_at_fpr at 0.01 at most 1"
    assert (check.attack, check.subject) == ("loss", None)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", r"\[\[check\]\]"),
        ("check = []", r"\[\[check\]\]"),
        ("[check]\nname = 'a'", r"\[\[check\]\]"),
        ("[[checks]]\nname = 'a'", "Did you mean 'check'"),
        ("[[check]]\nname = 'a'\nfinding = 'auc'\nmaximum = 0.5", "Did you mean 'max'"),
        ("[[check]]\nname = 'a'\nfinding = 'auc'\nmax = 0.5\natack = 'loss'", "Did you mean 'attack'"),
        ("[[check]]\nname = 'a'\nfinding = 'auc'", "exactly one of"),
        ("[[check]]\nname = 'a'\nfinding = 'auc'\nmin = 0.1\nmax = 0.5", "exactly one of"),
        ("[[check]]\nname = 'a'\nfinding = 'auc'\nmax = true", "max"),
        ("[[check]]\nname = 'a'\nfinding = 'auc'\nmax = '0.5'", "max"),
        ("[[check]]\nname = 'a'\nfinding = 'auc'\nmax = nan", "max"),
        ("[[check]]\nfinding = 'auc'\nmax = 0.5", "name"),
        ("[[check]\n", "Expected checks"),
    ],
)
def test_wrong_files_are_refused_before_anything_runs(tmp_path, text, said):
    with pytest.raises(UsageError, match=said):
        load_checks(written(tmp_path, text))


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(UsageError, match="absent"):
        load_checks(tmp_path / "absent.toml")
