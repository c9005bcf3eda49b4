"""Inversion in the report, and the gallery, as a reader meets them: in headless Chromium, from a file."""

import numpy as np
import pytest

from sfumato.audit.inversion.gallery import Gallery, GalleryRow
from sfumato.report.gallery import write_gallery
from sfumato.report.render import html

pytestmark = pytest.mark.browser

HOSTILE = "</td></table><script>window.taken = 1</script><img src=http://127.0.0.1:9/x.png>"


def quiet(tab):
    """No request but the file itself, and no complaint of the browser."""
    requests = [r["request"]["url"] for r in tab.named("Network.requestWillBeSent")]
    assert [url for url in requests if not url.startswith(("file:", "data:"))] == []
    assert len([url for url in requests if url.startswith("file:")]) == 1
    console = [c for c in tab.named("Runtime.consoleAPICalled") if c["type"] in ("error", "warning", "assert")]
    assert [*console, *tab.named("Runtime.exceptionThrown"), *tab.named("Log.entryAdded")] == []


def gallery(subjects=("undefended", "dpsgd"), rows=3):
    rng = np.random.default_rng(0)
    return Gallery(
        [
            GalleryRow(subject, "miface", f"person-{i:02d}", *rng.random((4, 1, 16, 16), dtype=np.float32))
            for subject in subjects
            for i in range(rows)
        ]
    )


@pytest.fixture
def report(tab, examples, tmp_path):
    """Opens the page of the record with a guarantee and inversion."""

    def open_(width=1280):
        path = tmp_path / "report.html"
        path.write_text(html(examples.guaranteed_record()), encoding="utf-8")
        tab.size(width)
        tab.open(path.as_uri())
        return tab

    return open_


@pytest.fixture
def pictures(tab, tmp_path):
    """Opens a gallery from disk."""

    def open_(found, width=1280):
        tab.size(width)
        tab.open(write_gallery(found, tmp_path / "gallery.html").as_uri())
        return tab

    return open_


def test_the_section_is_drawn_and_asks_for_nothing(report):
    tab = report()
    quiet(tab)
    charts = "[...document.querySelectorAll('[data-testid=inversion-chart] svg, [data-testid=bound-chart] svg')]"
    assert tab.evaluate(f"{charts}.length") == 6
    assert tab.evaluate(f"{charts}.every(c => c.getBoundingClientRect().width > 200 && c.querySelector('desc'))")
    outside = (
        f"{charts}.flatMap(c => {{ const b = c.getBoundingClientRect(); return [...c.querySelectorAll('text')]"
        ".filter(t => { const r = t.getBoundingClientRect(); return r.left < b.left - 1 || r.right > b.right + 1 || "
        "r.top < b.top - 1 || r.bottom > b.bottom + 1; }).map(t => t.textContent); })"
    )
    assert tab.evaluate(outside) == []


def test_the_tables_of_both_levels_can_be_sorted_and_reached(report):
    tab = report()
    for level in ("class", "record"):
        table = f"document.querySelector('[data-testid=inversion-{level}]')"
        assert tab.evaluate(f"{table}.querySelectorAll('thead button').length") == 6
        assert tab.evaluate(f"{table}.closest('[tabindex]').getAttribute('aria-label').length") > 10
        tab.evaluate(f"[...{table}.querySelectorAll('thead button')][3].click()")
        values = tab.evaluate(f"[...{table}.tBodies[0].rows].map(r => Number(r.cells[3].dataset.sort))")
        assert values == sorted(values)


def test_no_sideways_scrolling_on_a_narrow_screen(report):
    assert report(width=360).evaluate("document.documentElement.scrollWidth") <= 360


def test_the_gallery_opens_without_a_request_and_draws_every_picture(pictures):
    tab = pictures(gallery())
    quiet(tab)
    assert tab.evaluate("[...document.images].filter(i => i.complete && i.naturalWidth === 16).length") == 24
    assert tab.evaluate("[...document.images].every(i => i.alt.includes('person-0'))")
    assert tab.evaluate("document.querySelector('[data-testid=gallery-warning]').getBoundingClientRect().bottom") < 500
    red, green, blue = tab.evaluate(
        "getComputedStyle(document.querySelector('[data-testid=gallery-warning]')).color.match(/\\d+/g).map(Number)"
    )
    assert red > 2 * max(green, blue)


def test_hostile_names_stay_text_in_the_gallery(pictures):
    tab = pictures(gallery(subjects=(HOSTILE,)))
    quiet(tab)
    assert tab.evaluate("window.taken === undefined")
    assert tab.evaluate("document.querySelector('h2').textContent").startswith(HOSTILE)
    assert tab.evaluate("document.images.length") == 12


def test_the_keyboard_reaches_everything_in_the_gallery(pictures):
    tab = pictures(gallery())
    focusable = "[...document.querySelectorAll(\"a[href], button, [tabindex='0']\")].filter(e => e.checkVisibility())"
    wanted = tab.evaluate(f"{focusable}.length")
    assert wanted == 1 + 1 + 2 + 2  # skip link, theme, contents, tables
    tab.evaluate("window.reached = new Set(); document.addEventListener('focusin', e => reached.add(e.target)); 1")
    for _ in range(wanted + 2):
        tab.press("Tab", 9)
    assert tab.evaluate(f"{focusable}.filter(e => !window.reached.has(e)).map(e => e.outerHTML.slice(0, 80))") == []


def test_the_gallery_without_scripts_on_a_narrow_screen_in_the_dark(tab, pictures):
    tab.call("Emulation.setScriptExecutionDisabled", value=True)
    tab.scheme("dark")
    pictures(gallery(), width=360)
    assert tab.evaluate("document.documentElement.scrollWidth") <= 360
    assert tab.evaluate("[...document.images].filter(i => i.naturalWidth === 16).length") == 24
    paper = tab.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")
    assert sum(paper[:3]) < 200
