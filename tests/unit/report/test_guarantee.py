"""How the report shows formal guarantees: numbers, the permitted curve, and the alarm."""

import re

import pytest

from sfumato.errors import UsageError
from sfumato.report.charts import roc_chart
from sfumato.report.render import html, markdown, model_card
from sfumato.report.sections.guarantee import compared, rounded_up, short


def visible(page: str) -> str:
    """The page without the record that it carries for machines."""
    return page.split('<script type="application/json"')[0]


def test_the_guarantee_stands_beside_utility_and_leakage(examples):
    record = examples.guaranteed_record()
    numbers = record.subjects[2].guarantee.numbers
    other = next(point for point in numbers.profile if point.delta != numbers.delta)
    for text in (visible(html(record)), markdown(record), model_card(record)):
        assert "epsilon 1.24 at delta 1e-05, audit run" in text  # beside utility, rounded up
        assert record.subjects[2].guarantee.statement.split(" (")[0] in text
        assert "one unit added or removed" in text
        assert str(rounded_up(other.epsilon, 3)) in text  # epsilon at another delta, rounded up too
    assert [short(s) for s in record.subjects] == ["none", "none", "epsilon 1.24 at delta 1e-05, audit run"]


def test_the_permitted_curve_is_drawn_dashed_labelled_and_told(examples):
    record = examples.guaranteed_record()
    chart = str(roc_chart(record))
    assert chart.count('class="permitted') == 1
    path = re.search(r'<path d="(M[^"]+)" class="permitted s2" data-subject="2"', chart)
    places = [tuple(map(float, pair.split())) for pair in path.group(1)[1:].split("L")]
    assert len(places) > 20
    assert places == sorted(places, key=lambda place: (place[0], -place[1]))  # rises to the right
    assert "Dashed: the most that the formal guarantee permits any attack, of dpsgd." in chart
    page = html(record)
    assert page.count('data-testid="permitted-key"') == 1
    assert "dashed: the most that the guarantee of dpsgd permits" in page
    assert "permitted" not in str(roc_chart(examples.compare_record()))


def test_the_sentence_compares_the_strongest_measurement_with_the_most_permitted(examples):
    strong = examples.guaranteed_record().subjects[2]
    sentence = compared(strong)
    best = max(f.value for a in strong.attacks for f in a.findings if (f.name, f.at) == ("tpr_at_fpr", 0.01))
    assert f"{100 * best:.1f}" in sentence
    assert "40.0\u00a0%" in sentence
    for text in (visible(html(examples.guaranteed_record())), markdown(examples.guaranteed_record())):
        assert sentence.replace("\u00a0", " ") in text.replace("\u00a0", " ")
    assert compared(examples.compare_record().subjects[0]) == ""


@pytest.mark.parametrize("render", [html, markdown, model_card])
def test_a_broken_guarantee_is_shouted_and_a_kept_one_is_not(examples, render):
    words = "dpsgd: the guarantee is broken by this measurement"
    assert words in visible(render(examples.guaranteed_record(slack=1.0)))
    assert words not in visible(render(examples.guaranteed_record(slack=1000.0)))


def test_a_damaged_curve_is_refused(examples):
    record = examples.guaranteed_record()
    numbers = record.subjects[2].guarantee.numbers
    damaged = numbers.model_copy(update={"permitted": numbers.permitted.model_copy(update={"tpr": [0.1]})})
    promise = record.subjects[2].guarantee.model_copy(update={"numbers": damaged})
    subject = record.subjects[2].model_copy(update={"guarantee": promise})
    with pytest.raises(UsageError, match="permitted curve"):
        html(record.model_copy(update={"subjects": [*record.subjects[:2], subject]}))
