import http.client
import json
import threading

import pytest

from sfumato.errors import UsageError
from sfumato.report.view import listing, serve, viewer


@pytest.fixture
def folder(examples, tmp_path):
    inside = tmp_path / "inside"
    examples.compare_record().save(inside / "first" / "record.json")
    examples.predictions_record().save(inside / "second.json")
    (inside / "damaged.json").write_text('{"schema_version": 1}')
    (inside / "newer").mkdir()
    (inside / "newer" / "record.json").write_text('{"schema_version": 99}')
    (inside / "notes.json").write_text('{"a": 1}')
    examples.empty_record().save(tmp_path / "outside" / "record.json")
    (inside / "link.json").symlink_to(tmp_path / "outside" / "record.json")
    return inside


@pytest.fixture
def ask(folder):
    """Asks a running viewer; returns status, headers and text."""
    with viewer(folder) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

        def ask_(path, method="GET", host=None):
            port = server.server_address[1]
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
            connection.request(
                method, path.replace("TOKEN", server.token), headers={"Host": host or f"127.0.0.1:{port}"}
            )
            answer = connection.getresponse()
            text = answer.read().decode()
            connection.close()
            return answer.status, dict(answer.getheaders()), text

        yield ask_
        server.shutdown()


def keys(folder):
    return {entry.name: entry.key for entry in listing(folder).records}


def test_listing_names_records_and_what_it_could_not_read(folder):
    found = listing(folder)
    assert [entry.name for entry in found.records] == ["first/record.json", "second.json"]
    assert [name for name, _ in found.unreadable] == ["damaged.json", "newer/record.json"]
    assert all("Expected" in reason for _, reason in found.unreadable)
    assert found.others == 1


def test_index_compares_all_subjects(ask):
    status, _, text = ask("/TOKEN/")
    assert status == 200
    for word in ("undefended", "label-smoothing", "mixup", "predictions.csv", "second.json", "damaged.json"):
        assert word in text
    assert "outside" not in text


def test_a_record_opens_by_its_key(ask, folder):
    status, headers, text = ask(f"/TOKEN/record/{keys(folder)['second.json']}")
    assert status == 200
    assert "A table of predictions" in text
    assert headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert headers["Cache-Control"] == "no-store"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"


@pytest.mark.parametrize(
    "path",
    ["/", "/wrong/", "/wrong/record/x", "", "/TOKEN/record/../../etc/passwd", "/TOKEN/record/second.json",
     "/TOKEN/../outside/record.json", "/TOKEN/record/%2e%2e%2foutside", "/TOKEN/other/x", "/TOKENx/", "/t%C3%B6ken/"],
)  # fmt: skip
def test_everything_else_is_not_found(ask, path):
    status, _, text = ask(path or "/favicon.ico")
    assert status == 404
    assert "Nothing measured" not in text


@pytest.mark.parametrize("host", ["example.org", "127.0.0.1", "127.0.0.1:1", "evil.localhost:80", "localhost.evil:80"])
def test_requests_under_another_name_are_refused(ask, host):
    status, _, text = ask("/TOKEN/", host=host)
    assert status == 421
    assert "undefended" not in text


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_only_reading_is_possible(ask, method):
    assert ask("/TOKEN/", method=method)[0] == 501


def test_head_has_no_body(ask):
    status, headers, text = ask("/TOKEN/", method="HEAD")
    assert (status, text) == (200, "")
    assert int(headers["Content-Length"]) > 1000


def test_a_record_that_cannot_be_drawn_gets_a_reason(ask, folder):
    plain = json.loads((folder / "second.json").read_text())
    plain["subjects"][0]["attacks"][0]["curve"]["low"] = []
    (folder / "second.json").write_text(json.dumps(plain))
    status, headers, text = ask(f"/TOKEN/record/{keys(folder)['second.json']}")
    assert status == 422
    assert "Expected a curve" in text
    assert headers["Content-Type"].startswith("text/plain")


def test_server_is_bound_to_loopback_with_a_long_random_token(folder):
    with viewer(folder) as one, viewer(folder) as two:
        assert one.server_address[0] == "127.0.0.1"
        assert one.token != two.token
        assert len(one.token) >= 32
        with pytest.raises(UsageError, match="free port"):
            viewer(folder, port=one.server_address[1])


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(UsageError, match="Expected a folder"):
        viewer(tmp_path / "nowhere")


def test_serve_announces_its_address_and_ends_on_interrupt(folder, monkeypatch):
    def interrupted(self):
        raise KeyboardInterrupt

    monkeypatch.setattr("sfumato.report.view.Viewer.serve_forever", interrupted)
    told = []
    serve(folder, announce=told.append)
    assert told[0].startswith("http://127.0.0.1:")
