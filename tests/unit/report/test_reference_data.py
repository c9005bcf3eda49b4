"""How the report shows the privacy of reference data."""

import pytest

from sfumato.audit.record import ReferenceRisk
from sfumato.report.render import html, markdown, model_card
from sfumato.report.sections.reference_data import ReferenceDataSection


def visible(page: str) -> str:
    """The page without the record that it carries for machines."""
    return page.split('<script type="application/json"')[0]


def having(record, risks, needs=("reference data: 30% of the units of each training set",)):
    """The record with these risks on its second subject."""
    first, second, *others = record.subjects
    defence = second.defence.model_copy(update={"needs": list(needs)})
    changed = second.model_copy(update={"reference_risk": risks, "defence": defence})
    return record.model_copy(update={"subjects": [first, changed, *others]})


@pytest.fixture
def record(examples):
    unresolved = examples.found("tpr_at_fpr", 0.0, 0.0, 0.01).model_copy(
        update={"value": None, "low": None, "high": None, "resolvable": False, "n_nonmembers": 640}
    )
    fit = [examples.found("auc", 0.734, 0.021), examples.found("tpr_at_fpr", 0.083, 0.012, 0.01)]
    risks = [
        ReferenceRisk(role="fit", attack="lira-online", units=213.5, findings=fit),
        ReferenceRisk(
            role="reference",
            attack="lira-online",
            units=91.5,
            findings=[examples.found("auc", 0.587, 0.03), unresolved],
        ),
    ]
    return having(examples.compare_record(), risks)


def test_each_use_stands_with_its_interval_on_page_file_and_card(record):
    for text in (visible(html(record)), markdown(record), model_card(record)):
        own = text.split("Records set aside as reference data", 1)[1]
        for told in ("0.734", "0.713 to 0.755", "0.587", "0.557 to 0.617", "213.5", "91.5", "lira-online"):
            assert told in own
        assert "a network was fitted to them" in own
        assert "set aside as reference data" in own
        assert "not resolvable with 640 non-members" in own
        assert "Intervals hold for all uses of one subject at once." in own


def test_rows_and_strips_are_those_of_the_record(record):
    page = visible(html(record))
    table = page.split('data-testid="reference-data"')[1].split("</table>")[0]
    assert table.count("<tr>") == 3
    assert table.count("<svg") >= 2
    context = ReferenceDataSection().context(record)
    assert [row.units for row in context["rows"]] == ["213.5", "91.5"]
    assert context["unmeasured"] == []
    assert context["methods"] == [
        "AUC: 95\u00a0% interval, cluster bootstrap over targets and units",
        "TPR at FPR 1\u00a0%: 95\u00a0% interval, cluster bootstrap over targets and units",
    ]


def test_what_is_not_known_is_said(examples):
    note = "Which records it kept aside is not known."
    risks = [ReferenceRisk(role="reference", attack="loss", findings=[], note=note)]
    for text in (
        visible(html(having(examples.compare_record(), risks))),
        markdown(having(examples.compare_record(), risks)),
    ):
        assert note in text
        assert "not measured" in text.split("Records set aside", 1)[1]


def test_reference_data_without_a_measurement_is_told(examples):
    record = having(examples.compare_record(), [])
    name = record.subjects[1].name
    for text in (visible(html(record)), markdown(record)):
        assert f"their privacy was not measured apart, for {name}." in text
        assert "No defence here sets reference data aside." not in text


def test_without_such_a_defence_one_sentence_says_so(examples):
    for text in (visible(html(examples.compare_record())), markdown(examples.compare_record())):
        assert "No defence here sets reference data aside." in text


def test_text_of_a_record_stays_text(examples):
    risks = [ReferenceRisk(role=examples.HOSTILE, attack=examples.HOSTILE, findings=[], note=examples.HOSTILE)]
    record = having(examples.compare_record(), risks)
    assert "<script>alert" not in html(record)
    assert "<img src=x" not in markdown(record)
