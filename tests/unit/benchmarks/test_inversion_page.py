"""The page of inversion: every number from records, the whole question answered, and nothing hidden."""

import sys
from pathlib import Path

import pytest

from sfumato.audit.record import Notice

ROOT = Path(__file__).parents[3]
COMMAND = "sfumato compare {data} --config docs/results/inversion_{name}.toml --out /tmp/x --store S --gallery"


@pytest.fixture(scope="module")
def made():
    sys.path[:0] = [str(ROOT / "benchmarks"), str(ROOT / "tests")]
    import inversion_page
    import report_examples

    return inversion_page, report_examples


def record_of(examples, name="owners", data="fashion-mnist", **more):
    record = examples.guaranteed_record()
    where = record.provenance.model_copy(update={"command": COMMAND.format(name=name, data=data)})
    return record.model_copy(update={"provenance": where, **more})


def section(text, title):
    return text.split(f"### {title}\n")[1].split("###")[0]


def test_each_network_has_unit_epsilon_accuracy_and_both_levels(made):
    page, examples = made
    record = record_of(examples)
    text = page.page({"one": record}, "python benchmarks/inversion_page.py OUT/one --page docs/results")
    answer = section(text, "The answer")
    assert "| network | unit | epsilon | accuracy | training-accuracy | class-level | record-level |" in answer
    for subject, row in zip(record.subjects, page.answer_rows(record), strict=True):
        numbers = subject.guarantee.numbers
        assert row["epsilon"] == ("no guarantee" if numbers is None else f"{numbers.epsilon:.3g}")
        for level in ("class", "record"):
            tried = [m for result in subject.inversions if (m := page.first(result, level)) is not None]
            count = sum(m.difference is not None and m.difference.low > 0 for m in tried)
            assert row[f"{level}-level"] == f"found by {count} of {len(tried)}"
    assert {row["epsilon"] for row in page.answer_rows(record)} > {"no guarantee"}


def test_commands_come_from_the_configuration_that_ran_and_name_no_folder(made):
    page, examples = made
    faces = record_of(examples, name="faces", data="olivetti:/somewhere/olivetti-faces.zip")
    text = page.page({"any name": faces}, "last")
    console = text.split("```console\n")[1].split("```")[0].splitlines()
    assert console == [
        "python benchmarks/inversion_features.py --data olivetti:PATH --out features.safetensors",
        "sfumato compare olivetti:PATH --config docs/results/inversion_faces.toml --gallery",
        "last",
    ]
    assert "30 people are private" in text
    assert "/tmp" not in text
    with pytest.raises(SystemExit, match="configuration in docs/results"):
        page.page({"faces": record_of(examples, name="nothing")}, "last")


def test_what_the_record_warns_of_is_on_the_page(made):
    page, examples = made
    notices = [
        Notice(severity="critical", text="Each class is one unit.", remedy="Choose."),
        Notice(severity="negligible", text="A small thing."),
    ]
    text = page.page({"one": record_of(examples, notices=notices)}, "last")
    assert "> Each class is one unit. Choose." in text
    assert "A small thing." not in text


def test_verdicts_of_the_evaluator_stand_beside_those_who_dispute_them(made):
    page, examples = made
    [row, *_] = page.describing_rows(examples.compare_record().subjects[0])
    assert {"`disputed_successes`", "`knowledge_accuracy`", "`fid`"} < set(row)
    measure = examples.measure("fid", "none", 12.3, 4.5, "lower")
    assert page.with_control(measure) == "12.3 (4.5)"
    assert page.with_control(None) == "-"


def test_minutes_stand_for_each_attack(made):
    page, examples = made
    record = record_of(examples)
    rows = page.cost_rows([record])
    assert [row["attack"] for row in rows] == [page.label(one) for one in record.subjects[0].inversions]
    for row, one in zip(rows, record.subjects[0].inversions, strict=True):
        assert float(row["minutes each"]) == pytest.approx(one.seconds / 60, rel=0.05)


def test_what_cells_would_repeat_stands_once_below_the_table(made):
    page, _ = made
    rows = [
        {"network": "a", "attacked": "not measured: Too few.", "note": "Long."},
        {"network": "b", "attacked": "1", "note": "Long."},
    ]
    assert page.noted(rows) == [
        "| network | attacked | note |", "|---|---|---|", "| a | not measured (1) | (2) |", "| b | 1 | (2) |", "",
        "- (1) Too few.", "- (2) Long.", "",
    ]  # fmt: skip
    assert page.noted(rows[:1]) == ["Not measured, for any network: Too few.", ""]
    assert page.noted([{"network": "b", "attacked": "1"}])[-1] == ""
