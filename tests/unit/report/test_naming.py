import re

import numpy as np

from sfumato.report.naming import marked
from sfumato.report.render import html, markdown, model_card

TEXT = "How its phases alternate is not known to us."


def renamed(record, new):
    """The record whose subject "mixup" is called otherwise, and is a reconstruction."""
    text = record.model_dump_json().replace('"mixup"', f'"{new}"').replace("mixup: ", f"{new}: ")
    record = type(record).model_validate_json(text)
    subjects = [
        s.model_copy(update={"defence": s.defence.model_copy(update={"reconstruction": TEXT})}) if s.name == new else s
        for s in record.subjects
    ]
    return record.model_copy(update={"subjects": subjects})


def test_a_reconstruction_is_called_so_in_every_table_of_page_markdown_and_card(examples):
    record = renamed(examples.compare_record(), "mist")
    record = record.model_copy(update={"title": "made up: " + ", ".join(s.name for s in record.subjects)})
    page = html(record)
    assert "mist-reconstruction</h1>" in page
    cells = [re.sub("<[^>]+>", "", cell).strip() for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", page)]
    assert sum("mist-reconstruction" in cell for cell in cells) >= 8
    assert [cell for cell in cells if re.match(r"mist(?!-rec|, a rec)\b", cell)] == []
    assert "mist, a reconstruction" in cells
    for text in (markdown(record), model_card(record)):
        rows = [line for line in text.replace("\\-", "-").splitlines() if line.startswith("|")]
        assert any("mist-reconstruction" in row for row in rows)
        assert [row for row in rows if re.search(r"\| mist(?!-rec|, a rec| \(empirical\), a rec)\b", row)] == []


def test_curves_of_a_reconstruction_bear_the_word_before_the_strength(examples):
    record = examples.frontier_record()
    subjects = [
        s.model_copy(
            update={"name": f"relaxloss@{i}", "defence": s.defence.model_copy(update={"reconstruction": TEXT})}
        )
        for i, s in enumerate(record.subjects, start=1)
    ]
    verdict = record.verdict.model_copy(update={"against": ["relaxloss@1: leaks.", "nothing of relaxloss@1: here"]})
    changed = record.model_copy(update={"subjects": subjects, "verdict": verdict})
    found = marked(changed.with_arrays({"a": np.zeros(1)}))
    group = found.frontier.group("all")
    assert [curve.method for curve in group.curves] == ["relaxloss-reconstruction", "dpsgd", "weak"]
    assert {row.method for row in group.at_accuracies} == {"relaxloss-reconstruction", "dpsgd", "weak"}
    assert group.differences[0].baseline == "relaxloss-reconstruction"
    assert {p.subject for p in group.curves[0].points} == {f"relaxloss-reconstruction@{i}" for i in (1, 2, 3)}
    assert found.verdict.against[0] == "relaxloss-reconstruction@1: leaks."
    assert list(found.arrays) == ["a"]


def test_other_records_and_names_that_say_it_stay_as_they_are(examples):
    record = examples.compare_record()
    assert marked(record) is record
    said = renamed(record, "pptp-reconstruction+mixup")
    assert marked(said) is said
