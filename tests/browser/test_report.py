"""The report as a reader meets it: in headless Chromium, from a file."""

import re
import shutil
import subprocess
import threading

import pytest

from sfumato.report.render import html, sections
from sfumato.report.view import viewer
from sfumato.report.wording import shown

pytestmark = pytest.mark.browser

CONTRAST = """
(() => {
  const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
  const rgba = (text) => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = text; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data].map((v, i) => i < 3 ? v : v / 255); };
  const light = (c) => c.slice(0, 3).map(v => v / 255).map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
  const behind = (element) => { for (let e = element; e; e = e.parentElement) {
    const c = rgba(getComputedStyle(e).backgroundColor); if (c[3] > .99) return c; } return [255, 255, 255, 1]; };
  const bad = []; let checked = 0;
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.textContent.trim() || element.closest("script,style,desc")) continue;
    if (element.tagName === "title" || !element.getClientRects().length) continue;
    const style = getComputedStyle(element);
    const ink = light(rgba(element instanceof SVGElement ? style.fill : style.color)), paper = light(behind(element));
    const ratio = (Math.max(ink, paper) + .05) / (Math.min(ink, paper) + .05);
    checked += 1;
    if (ratio < 4.5) bad.push([element.outerHTML.slice(0, 120), ratio]);
  }
  return {bad, checked};
})()
"""
REACHABLE = """
(() => { const shown = (e) => e.checkVisibility();
  return [...document.querySelectorAll("a[href], button, input, summary, [tabindex='0']")].filter(shown).length; })()
"""


@pytest.fixture
def opened(tab, examples, tmp_path):
    """Opens a record's page from disk and returns the tab."""

    def open_(record, width=1280):
        path = tmp_path / "report.html"
        path.write_text(html(record), encoding="utf-8")
        tab.size(width)
        tab.open(path.as_uri())
        return tab

    return open_


def complaints(tab):
    """Console errors and warnings, exceptions, and messages of the browser's log (policy violations among them)."""
    console = [c for c in tab.named("Runtime.consoleAPICalled") if c["type"] in ("error", "warning", "assert")]
    return [*console, *tab.named("Runtime.exceptionThrown"), *tab.named("Log.entryAdded")]


@pytest.mark.parametrize("name", ["compare", "random", "predictions", "empty", "hostile"])
def test_opens_from_disk_without_a_request_or_a_complaint(opened, examples, name):
    tab = opened(getattr(examples, f"{name}_record")())
    requests = [r["request"]["url"] for r in tab.named("Network.requestWillBeSent")]
    assert [url for url in requests if not url.startswith(("file:", "data:"))] == []
    assert len([url for url in requests if url.startswith("file:")]) == 1
    assert complaints(tab) == []
    present = tab.evaluate("[...document.querySelectorAll('main > section')].map(s => s.dataset.testid)")
    assert present == [section.testid for section in sections()]


def test_the_policy_blocks_scripts_and_requests_that_are_not_ours(opened, examples):
    tab = opened(examples.compare_record())
    tab.evaluate(
        "(() => { const s = document.createElement('script'); s.textContent = 'taken = 1'; document.body.append(s); "
        "const i = new Image(); i.src = 'http://127.0.0.1:9/x.png'; document.body.append(i); })()"
    )
    tab.settle()
    assert tab.evaluate("window.taken === undefined")
    assert [failed["blockedReason"] for failed in tab.named("Network.loadingFailed")] == ["csp"]
    assert len(complaints(tab)) >= 2  # so the other tests would see a violation


def test_slider_prints_the_values_of_the_record(opened, examples):
    record = examples.compare_record()
    tab = opened(record)
    order = tab.evaluate(
        "[...document.querySelectorAll('#readout thead th[data-fpr]')].map(h => Number(h.dataset.fpr))"
    )
    assert order == sorted(examples.FPRS)
    for fpr in (0.1, 0.01, 1e-5, 0.001, 0.01):
        tab.evaluate(
            f"(() => {{ const s = document.querySelector('#fpr'); s.value = {order.index(fpr)}; "
            "s.dispatchEvent(new Event('input', {bubbles: true})); })()"
        )
        rows = tab.evaluate(
            "[...document.querySelectorAll('#readout tbody tr')].filter(r => r.checkVisibility()).map(r => "
            "[...r.cells].filter(c => c.checkVisibility()).map(c => c.innerText.replaceAll('\\n', ' ').trim()))"
        )
        wanted = [shown(s.attack(s.strongest).finding("tpr_at_fpr", fpr)) for s in record.subjects]
        assert [row[2] for row in rows] == [f"{w.value} {w.interval}".strip() for w in wanted]
        assert f"{100 * fpr:g}" in tab.evaluate("document.querySelector('#fpr-value').textContent")


def test_slider_moves_by_the_keyboard(opened, examples):
    tab = opened(examples.compare_record())
    tab.evaluate("document.querySelector('#fpr').focus()")
    before = tab.evaluate("document.querySelector('#fpr-value').textContent")
    tab.press("ArrowRight", 39)
    tab.settle()
    assert (before, tab.evaluate("document.querySelector('#fpr-value').textContent")) == ("1\u00a0%", "10\u00a0%")


def test_tabs_boxes_and_sorting_work(opened, examples):
    record = examples.compare_record()
    tab = opened(record)
    visible = "[...document.querySelectorAll('.curve')].filter(c => getComputedStyle(c).display !== 'none')"
    seen = f"{visible}.map(c => c.dataset.subject + c.dataset.attack)"
    assert tab.evaluate(seen) == ["02", "12", "22"]
    tab.evaluate("[...document.querySelectorAll('.tabs button')].find(b => b.textContent === 'loss').click()")
    assert tab.evaluate(seen) == ["00", "10", "20"]
    tab.evaluate("document.querySelector('.legend input').click()")
    assert tab.evaluate(seen) == ["10", "20"]
    assert (
        tab.evaluate("[...document.querySelectorAll('#readout tbody tr')].filter(r => r.checkVisibility()).length") == 2
    )
    heading = "[...document.querySelectorAll('[data-testid=attacks-table] th button')]"
    heading += ".find(b => b.textContent === 'AUC')"
    rows = "[...document.querySelectorAll('[data-testid=attacks-table] tbody tr')]"
    column = f"{rows}.map(r => Number(r.cells[2].dataset.sort))"
    aucs = sorted(a.finding("auc").value for s in record.subjects for a in s.attacks)
    tab.evaluate(f"{heading}.click()")
    assert tab.evaluate(column) == pytest.approx(aucs)
    tab.evaluate(f"{heading}.click()")
    assert tab.evaluate(column) == pytest.approx(aucs[::-1])


def test_pointer_reads_the_curve(opened, examples):
    tab = opened(examples.compare_record())
    box = tab.evaluate(
        "(() => { const c = document.querySelector('#roc-chart'); c.scrollIntoView({behavior: 'instant'}); "
        "const b = c.getBoundingClientRect(); return [b.x, b.y, b.width, b.height]; })()"
    )
    for share, expected in ((0.9, "TPR"), (0.25, "not resolvable")):
        tab.call("Input.dispatchMouseEvent", type="mouseMoved", x=box[0] + share * box[2], y=box[1] + box[3] / 2)
        told = tab.evaluate("document.querySelector('#roc-hover').innerText")
        assert told.count("undefended (lira-online)") == 1
        assert expected in told


def test_hostile_text_stays_text(opened, examples):
    tab = opened(examples.hostile_record())
    assert tab.evaluate("document.title").startswith("</script><script>alert('x')</script><!--<img")
    assert examples.HOSTILE.split("\n")[0] in tab.evaluate("document.querySelector('.sentence').textContent")
    assert tab.evaluate("document.querySelectorAll('img, main script, iframe').length") == 0
    assert tab.evaluate("JSON.parse(document.querySelector('#record').textContent).title") == examples.HOSTILE
    assert tab.named("Page.javascriptDialogOpening") == []


@pytest.mark.parametrize("name", ["compare", "random", "hostile"])
def test_no_sideways_scrolling_on_a_narrow_screen(opened, examples, name):
    tab = opened(getattr(examples, f"{name}_record")(), width=360)
    assert tab.evaluate("document.documentElement.scrollWidth") <= 360
    outside = tab.evaluate(
        "[...document.querySelectorAll('main *')].filter(e => !e.closest('.wide, pre, svg') && e.checkVisibility() && "
        "e.getBoundingClientRect().right > 361).map(e => e.outerHTML.slice(0, 100))"
    )
    assert outside == []


def test_keyboard_reaches_every_control(opened, examples):
    tab = opened(examples.compare_record())
    wanted = tab.evaluate(REACHABLE)
    tab.evaluate(
        "window.reached = new Set(); document.addEventListener('focusin', e => window.reached.add(e.target)); 1"
    )
    for _ in range(wanted + 5):
        tab.press("Tab", 9)
    assert wanted > 30
    missed = tab.evaluate(
        "[...document.querySelectorAll(\"a[href], button, input, summary, [tabindex='0']\")]"
        ".filter(e => e.checkVisibility() && !window.reached.has(e)).map(e => e.outerHTML.slice(0, 100))"
    )
    assert missed == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_contrast_in_both_schemes(tab, opened, examples, scheme):
    tab.scheme(scheme)
    opened(examples.compare_record())
    tab.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    tab.settle()
    found = tab.evaluate(CONTRAST)
    assert found["bad"] == []
    assert found["checked"] > 300
    paper = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", paper))) > 380) is (scheme == "light")


def test_the_theme_button_overrides_the_system(tab, opened, examples):
    tab.scheme("light")
    opened(examples.compare_record())
    paper = "getComputedStyle(document.body).backgroundColor"
    light = tab.evaluate(paper)
    tab.evaluate("document.querySelector('#theme').click()")
    assert tab.evaluate(paper) != light
    assert tab.evaluate(CONTRAST)["bad"] == []


def test_prints_with_the_verdict_on_the_first_page(opened, examples, tmp_path):
    if shutil.which("pdftotext") is None:
        pytest.skip("No pdftotext (poppler-utils) on this machine.")
    record = examples.compare_record()
    path = tmp_path / "report.pdf"
    path.write_bytes(opened(record).pdf())
    pages = subprocess.run(
        ["pdftotext", "-layout", path, "-"], capture_output=True, text=True, check=True
    ).stdout.split("\f")
    assert len([page for page in pages if page.strip()]) > 1
    flat = [" ".join(page.split()) for page in pages]
    assert record.verdict.sentence in flat[0]
    assert all(item in flat[0] for item in record.verdict.against[-1:])
    everything = " ".join(flat)
    assert "not resolvable with" in everything
    assert "First Principles" in everything  # folds are open in print


def test_without_scripts_the_page_still_tells_everything(tab, opened, examples):
    tab.call("Emulation.setScriptExecutionDisabled", value=True)
    record = examples.compare_record()
    opened(record)
    text = tab.evaluate("document.body.innerText")
    for subject in record.subjects:
        for fpr in examples.FPRS:
            assert shown(subject.attack(subject.strongest).finding("tpr_at_fpr", fpr)).value in text
    assert tab.evaluate("[...document.querySelectorAll('.script-only')].every(e => !e.checkVisibility())")
    assert (
        tab.evaluate(
            "[...document.querySelectorAll('.curve')].filter(c => getComputedStyle(c).display !== 'none').length"
        )
        == 3
    )


def test_the_viewer_lists_and_opens_records(tab, examples, tmp_path):
    examples.compare_record().save(tmp_path / "a" / "record.json")
    examples.hostile_record().save(tmp_path / "b" / "record.json")
    with viewer(tmp_path) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        tab.open(server.url)
        assert tab.evaluate("document.querySelectorAll('tbody tr').length") == 6
        assert tab.evaluate(CONTRAST)["bad"] == []
        tab.open(tab.evaluate("document.querySelector('tbody a').href"))
        assert tab.evaluate("document.querySelectorAll('main > section').length") == len(sections())
        server.shutdown()
    hosts = {
        r["request"]["url"].split("/")[2] for r in tab.named("Network.requestWillBeSent") if "//" in r["request"]["url"]
    }
    assert hosts == {server.url.split("/")[2]}
    assert complaints(tab) == []
