import json
import re
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path

import pytest

from sfumato.audit.record import AuditRecord, Finding
from sfumato.errors import UsageError
from sfumato.report.notebook import notebook
from sfumato.report.render import FORMATS, html, markdown, model_card, sections, write
from sfumato.report.wording import label, shown

RECORDS = Path(__file__).parent / "records"
VOID = {"meta", "link", "input", "br", "img", "hr"}
FORBIDDEN = re.compile(r"\b(un)?safe(ly|ty)?\b|\banonym\w*|\b(non-?)?complian\w*", re.IGNORECASE)


class Tree(HTMLParser):
    """Checks nesting and collects what the tests ask about."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.ids, self.testids, self.attributes, self.words, self.tags = [], [], [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]
        self.ids += [value for name, value in attrs if name == "id"]
        self.testids += [value for name, value in attrs if name == "data-testid"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "script"):
            self.words.append(data)

    @property
    def text(self):
        return " ".join("".join(self.words).replace("\u00a0", " ").split())


def plain(text):
    return " ".join(text.replace("\u00a0", " ").split())


def every_finding(record):
    for subject in record.subjects:
        yield from ((None, f) for f in subject.utility)
        yield from ((None, f) for attack in subject.attacks for f in attack.findings)
        yield from ((None, f) for group in subject.groups for f in group.findings)
        for measure in (m for one in subject.inversions for m in one.measures):
            yield from ((None, f) for f in (measure.attacked, measure.control) if f is not None)
            yield from ((measure.name, f) for f in (measure.difference,) if f is not None)
        if subject.vulnerability:
            yield None, subject.vulnerability.worst_decile
    yield from ((c.finding, c.difference) for c in record.comparisons)


def test_page_is_well_formed_with_unique_ids_and_all_sections(any_record):
    tree = Tree(html(any_record))
    assert sorted(set(tree.ids)) == sorted(tree.ids)
    assert [t for t in tree.testids if t.startswith("section-")] == [section.testid for section in sections()]


def test_references_inside_the_page_lead_somewhere(any_record):
    tree = Tree(html(any_record))
    targets = [v for _, name, v in tree.attributes if name == "href" and v.startswith("#")]
    targets += [f"#{v}" for _, name, v in tree.attributes if name in ("aria-labelledby", "aria-describedby", "for")]
    assert {t[1:] for t in targets} <= set(tree.ids)


def test_sections_stand_in_the_stated_order():
    names = [section.name for section in sections()]
    assert names == [
        "verdict", "facts", "threat", "roc", "attacks", "queries", "inversion", "units", "reference-data", "utility",
        "frontier", "guarantee", "epsilon", "limits", "provenance",
    ]  # fmt: skip


def test_page_names_no_source_outside_itself(any_record):
    tree = Tree(html(any_record))
    sources = [
        (tag, name, value) for tag, name, value in tree.attributes if name in ("src", "href", "action", "srcset")
    ]
    assert [s for s in sources if not s[2].startswith(("#", "data:"))] == []
    assert not [name for _, name, _ in tree.attributes if name.startswith("on") or name == "style"]
    css = files("sfumato.report").joinpath("assets", "report.css").read_text()
    assert "@import" not in css
    assert re.findall(r"url\((?!#)", css) == []


def test_policy_allows_exactly_this_style_and_this_script(examples):
    import base64
    import hashlib

    page = html(examples.compare_record())
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]+)"', page)[1].replace("&#39;", "'")
    assert policy.startswith("default-src 'none';")
    for element in ("style", "script"):
        bodies = re.findall(rf"<{element}>(.*?)</{element}>", page, re.S)
        assert len(bodies) == 1
        digest = base64.b64encode(hashlib.sha256(bodies[0].encode()).digest()).decode()
        assert f"{element}-src 'sha256-{digest}'" in policy
    assert "unsafe" not in policy


def test_page_stays_under_its_budget(examples):
    assert len(html(examples.compare_record()).encode()) < 250_000
    assert len(html(examples.large_record()).encode()) < 500_000


def test_every_finding_is_printed(examples):
    record = examples.compare_record()
    text = Tree(html(record)).text
    for difference_of, finding in every_finding(record):
        told = shown(finding, difference_of or "")
        assert plain(told.value) in text
        assert plain(told.interval) in text
        assert plain(told.label) in text


def test_a_finding_that_cannot_be_resolved_is_not_a_number(examples):
    finding = Finding(name="tpr_at_fpr", value=0.0123, low=0.0, high=0.9, at=1e-5, n_nonmembers=250, resolvable=False)
    told = shown(finding)
    assert plain(told.value) == "not resolvable with 250 non-members"
    assert (told.interval, told.sort) == ("", None)


def test_all_texts_of_the_record_reach_the_page(examples):
    record = examples.compare_record()
    text = Tree(html(record)).text
    subject = record.subjects[0]
    expected = [
        record.title, record.verdict.sentence, *record.verdict.in_favour, *record.verdict.against, *record.not_tested,
        subject.artefact, subject.guarantee.statement, subject.not_run[0].reasons[0], record.provenance.command,
        record.notices[1].text, record.notices[1].remedy, record.data.fingerprint, record.citations["carlini2022"],
        record.checks[0].condition, subject.epsilon[0].assumption, subject.vulnerability.note,
    ]  # fmt: skip
    assert [item for item in expected if plain(item) not in text] == []


def test_hostile_text_is_text_everywhere(examples):
    record = examples.hostile_record()
    page = html(record)
    tree = Tree(page)
    assert tree.text.count(plain(examples.HOSTILE)) > 50
    assert "img" not in tree.tags
    assert tree.tags.count("script") == 2
    embedded = re.search(r'<script type="application/json" id="record">(.*?)</script>', page, re.S)[1]
    assert not set("<>&") & set(embedded)
    assert json.loads(embedded)["title"] == examples.HOSTILE


def test_hostile_text_in_markdown_makes_no_markup(examples):
    record = examples.hostile_record()
    for text in (markdown(record), model_card(record)):
        body = re.sub(r"(?ms)^(`{3,})\w*\n.*?^\1$", "", text.partition("\n---\n")[2] or text)
        assert "<script" not in body
        assert "<img" not in body
        assert not re.search(r"(?<!\\)\[a(?<!\\)\]\(", body)
        tables = [line for line in body.splitlines() if line.startswith("|")]
        widths = [len(re.findall(r"(?<!\\)\|", line)) for line in tables]
        heads = [widths[i - 1] for i, line in enumerate(tables) if set(line) <= set("|-")]
        assert set(widths) == set(heads)


def test_embedded_record_can_be_read_back(examples):
    record = examples.compare_record()
    page = html(record)
    embedded = json.loads(re.search(r'id="record">(.*?)</script>', page, re.S)[1])
    back = AuditRecord.model_validate(embedded)
    assert back.subjects[0].attacks[0].findings == record.subjects[0].attacks[0].findings
    assert back.verdict == record.verdict
    kept, whole = back.subjects[0].attacks[0].curve, record.subjects[0].attacks[0].curve
    assert {float(f"{x:.4g}") for x in whole.fpr} >= set(kept.fpr)
    assert (kept.fpr[0], kept.fpr[-1]) == (float(f"{whole.fpr[0]:.4g}"), 1.0)


def test_a_page_too_large_for_its_record_says_what_is_left_out(examples):
    small, large = html(examples.compare_record()), html(examples.large_record(6, 15, 64))
    assert "(curves only as drawn), under" in small
    assert re.search(r"\((no curves|names of subjects|curves only as drawn, no methods)[^)]*\), under", large)


def test_our_own_words_promise_nothing(examples):
    assets = [p for p in files("sfumato.report").joinpath("assets").iterdir() if p.is_file()]
    assets += list(files("sfumato.report").joinpath("assets", "sections").iterdir())
    assert len(assets) > 25
    found = [(p.name, FORBIDDEN.findall(p.read_text())) for p in assets if FORBIDDEN.search(p.read_text())]
    assert found == []
    for make in (lambda r: Tree(html(r)).text, markdown, model_card):
        assert FORBIDDEN.search(make(examples.compare_record())) is None
        assert FORBIDDEN.search(make(examples.empty_record())) is None


def test_markdown_and_card_tell_the_same_numbers_as_the_page(examples):
    record = examples.compare_record()
    page, text, card = Tree(html(record)).text, plain(markdown(record)), plain(model_card(record))
    for subject in record.subjects:
        auc = shown(subject.attack(subject.strongest).finding("auc"))
        assert all(plain(auc.value) in where for where in (page, text, card))
        assert all(plain(auc.interval) in where for where in (page, text, card))
    for difference_of, finding in every_finding(record):
        assert plain(shown(finding, difference_of or "").text) in text


def test_card_has_a_yaml_head_that_hubs_can_read(examples):
    card = model_card(examples.compare_record())
    head = card.split("---\n")[1]
    assert card.startswith("---\ntags:\n- privacy\n")
    assert '- name: "Digits: what three recipes give away"' in head
    values = [float(v) for v in re.findall(r"^      value: (.+)$", head, re.M)]
    assert len(values) == head.count("    metrics:") > 10
    assert 'name: "mixup: AUC by lira-online"' in head


def test_hostile_card_head_stays_a_head(examples):
    head = model_card(examples.hostile_record()).split("\n---\n")[0]
    for line in head.splitlines()[1:]:
        assert re.match(
            r"^(tags:|- \w[\w-]*$|model-index:|- name: \".*\"$|  \w+:|  - task:|\s+[\w]+:( .+)?$|\s+- type: )", line
        )


def test_what_was_not_measured_is_said_so(examples):
    text = Tree(html(examples.empty_record())).text
    for sentence in (
        "No attack ran", "No ROC was measured", "No lower bound was measured", "Utility was not measured",
        "No inversion was tried.", "Risk by unit was not measured for model", "Could not test: no attack ran.",
        "The record names no source",
    ):  # fmt: skip
        assert sentence in text


@pytest.mark.parametrize("path", sorted(RECORDS.glob("*.json")), ids=lambda p: p.stem)
def test_a_record_of_an_older_version_renders(path):
    record = AuditRecord.load(path)
    assert f"schema version {record.schema_version}" in Tree(html(record)).text
    assert record.title in markdown(record)
    assert record.title in model_card(record)


def test_there_is_a_saved_record_of_every_version():
    from sfumato.audit.record import SCHEMA_VERSION

    assert {f"version-{v}" for v in range(1, SCHEMA_VERSION + 1)} <= {p.stem for p in RECORDS.glob("*.json")}


def test_write_makes_the_files_and_leaves_nothing_else(examples, tmp_path):
    paths = write(examples.predictions_record(), tmp_path / "out", ("html", "markdown", "card"))
    assert {name: path.name for name, path in paths.items()} == {k: v[0] for k, v in FORMATS.items()}
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["MODEL_CARD.md", "report.html", "report.md"]
    assert paths["html"].read_text(encoding="utf-8") == html(examples.predictions_record())
    with pytest.raises(UsageError, match="markdown"):
        write(examples.predictions_record(), tmp_path, ("markdwon",))


def test_a_failed_write_keeps_the_old_file(examples, tmp_path, monkeypatch):
    old = write(examples.predictions_record(), tmp_path)["html"].read_text(encoding="utf-8")
    monkeypatch.setattr("os.replace", lambda *a: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        write(examples.compare_record(), tmp_path)
    assert [p.read_text(encoding="utf-8") for p in tmp_path.iterdir()] == [old]


def test_damaged_curves_are_refused_by_name(examples):
    record = examples.predictions_record().model_dump()
    record["subjects"][0]["attacks"][0]["curve"]["low"].pop()
    with pytest.raises(UsageError, match=r"predictions.csv / loss, got lengths \[159, 160\]"):
        html(AuditRecord.model_validate(record))
    record = examples.compare_record().model_dump()
    record["subjects"][1]["vulnerability"]["edges"].pop()
    with pytest.raises(UsageError, match="rising edges"):
        markdown(AuditRecord.model_validate(record))


def test_notebook_shows_verdict_and_roc_in_a_frame_of_its_own(examples):
    frame = notebook(examples.hostile_record())
    assert type(frame) is str
    outer = Tree(frame)
    assert outer.tags == ["iframe"]
    values = {name: value for _, name, value in outer.attributes}
    assert values["sandbox"] is None
    inner = Tree(values["srcdoc"])
    assert [t for t in inner.testids if t.startswith("section-")] == ["section-verdict", "section-roc"]
    assert "script" not in inner.tags
    assert "default-src 'none'" in values["srcdoc"].replace("&#39;", "'")


def test_all_outputs_are_plain_strings(examples):
    record = examples.predictions_record()
    assert {type(make(record)) for make in (html, markdown, model_card, notebook)} == {str}


def test_section_titles_carry_their_labels():
    assert label("tpr_at_fpr", 0.001).replace("\u00a0", " ") == "TPR at FPR 0.1 %"
    assert label("calibration-error") == "Calibration error"
