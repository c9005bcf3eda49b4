import base64
import io
import re
import stat

import numpy as np
import pytest
from PIL import Image

from sfumato.audit.inversion.gallery import Gallery, GalleryRow
from sfumato.report import gallery as module
from sfumato.report.gallery import MOST_BYTES, gallery_html, png_uri, write_gallery

HOSTILE = "</td><script>alert('x')</script><img src=x onerror=alert(1)>"


def row(subject="undefended", attack="gmi", question="person-03", shape=(1, 8, 8), seed=0, **more):
    drawn = np.random.default_rng(seed).random((4, *shape), dtype=np.float32)
    names = ("target", "reconstruction", "nearest", "control")
    return GalleryRow(subject, attack, question, **{**dict(zip(names, drawn, strict=True)), **more})


def pictures(page):
    found = re.findall(r'src="data:image/png;base64,([^"]+)"', page)
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(text)))) for text in found]


def test_grey_and_colour_are_drawn_to_the_byte():
    grey, colour = row(shape=(1, 5, 7)), row(shape=(3, 4, 6), attack="ppa")
    found = pictures(gallery_html(Gallery([grey, colour])))
    assert [p.shape for p in found] == [(5, 7)] * 4 + [(4, 6, 3)] * 4
    assert np.array_equal(found[1], np.round(grey.reconstruction[0] * 255).astype(np.uint8))
    assert np.array_equal(found[6], np.round(colour.nearest.transpose(1, 2, 0) * 255).astype(np.uint8))


def test_values_outside_the_range_are_held_at_its_ends():
    uri = png_uri(np.array([[[-1.0, 0.5, 7.0]]], dtype=np.float32))
    image = Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))
    assert np.asarray(image).tolist() == [[0, 128, 255]]


def test_rows_are_grouped_by_subject_and_attack_in_their_order():
    rows = [row(), row("dpsgd"), row(question="person-04", seed=1), row(attack="ppa")]
    page = gallery_html(Gallery(rows))
    assert re.findall(r'<h2 id="group-\d+-title">([^<]+)', page) == ["undefended: gmi", "dpsgd: gmi", "undefended: ppa"]
    assert re.findall(r'<th scope="row">([^<]+)', page) == ["person-03", "person-04", "person-03", "person-03"]
    assert re.findall(r'alt="([^"]+)"', page)[:4] == [
        "Target, person-03", "Reconstruction, person-03", "Nearest, person-03", "Control, person-03",
    ]  # fmt: skip


def test_it_says_on_top_that_it_shows_people_and_stays_here():
    for found in (Gallery([row()]), Gallery([])):
        page = gallery_html(found)
        assert page.index("shows people from the training data. It stays on this machine") < page.index("<main")
    assert "No attack made anything to look at." in gallery_html(Gallery([]))
    assert "It holds no data records" not in gallery_html(Gallery([row()]))


def test_tables_are_listed_as_numbers_and_missing_controls_are_named():
    page = gallery_html(Gallery([row(shape=(50,), control=np.full(50, np.nan)), row(shape=(3,), seed=1)]))
    assert pictures(page) == []
    assert page.count("and 10 more") == 3
    assert '<span class="where">none</span>' in page
    broken = gallery_html(Gallery([row(reconstruction=np.array([[[0.1, np.nan]]]))]))
    assert "0.100, undefined" in broken


def test_the_file_stays_below_three_megabytes_and_counts_what_is_left_out(tmp_path):
    rows = [row(shape=(3, 64, 64), question=f"{i}", seed=i) for i in range(60)]
    rows += [row("dpsgd", shape=(3, 64, 64), question=f"{i}", seed=i) for i in range(30)]
    path = write_gallery(Gallery(rows), tmp_path / "gallery.html")
    page = path.read_text()
    assert 0.9 * MOST_BYTES < len(page.encode()) <= MOST_BYTES
    kept = len(pictures(page)) // 4
    told = re.search(r'gallery-left-out">(\d+) rows left out', page)
    assert told is not None
    assert int(told[1]) + kept == 90
    first, second = (re.findall(r'<th scope="row">(\d+)', part) for part in page.split('id="group-1"'))
    assert abs(len(first) - 2 * len(second)) <= 2  # the same share of both
    assert (first[0], first[-1]) == ("0", "59")
    gaps = np.diff([int(question) for question in first])
    assert gaps.max() - gaps.min() <= 1


def test_large_pictures_are_shrunk_and_that_is_said():
    page = gallery_html(Gallery([row(shape=(1, 300, 600))]))
    assert [p.shape for p in pictures(page)] == [(96, 192)] * 4
    assert "shrunk to 192 pixels" in page
    assert "shrunk to" not in gallery_html(Gallery([row()]))


def test_names_of_others_are_text(tmp_path):
    page = gallery_html(Gallery([row(HOSTILE, HOSTILE, HOSTILE)] * 40))
    assert "<script>alert" not in page
    assert page.count("<img") == 160
    assert page.count("<script") == 1


def test_hostile_lengths_stay_within_the_budget():
    rows = [row("<" * 5000, "a", "&" * 5000, seed=i) for i in range(300)]
    assert len(gallery_html(Gallery(rows)).encode()) <= MOST_BYTES


def test_the_policy_is_that_of_the_report_and_nothing_comes_from_outside():
    page = gallery_html(Gallery([row()])).replace("&#39;", "'")
    assert "default-src 'none'" in page
    assert "unsafe" not in page
    sources = re.findall(r'(?:src|href|action|srcset)="([^"]*)"', page)
    assert [s for s in sources if not s.startswith(("data:", "#"))] == []


def test_only_the_owner_reads_it_and_it_is_whole_or_absent(tmp_path, monkeypatch):
    path = write_gallery(Gallery([row()]), tmp_path / "gallery.html")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    before = path.read_text()
    monkeypatch.setattr(module, "gallery_html", lambda gallery: "new")
    monkeypatch.setattr("os.replace", lambda *a: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        write_gallery(Gallery([]), path)
    assert [p.read_text() for p in tmp_path.iterdir()] == [before]
