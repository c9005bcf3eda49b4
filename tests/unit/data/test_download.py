import gzip
import hashlib
import io
from pathlib import Path
from urllib.error import URLError

import pytest

from sfumato.data.download import cache_folder, download_gzip
from sfumato.errors import DataError, UsageError

CONTENT = b"some records" * 100
DIGEST = hashlib.sha256(CONTENT).hexdigest()
URL = "https://data.example/set.gz"


def answering(data: bytes):
    return lambda url: io.BytesIO(data)


def fetch(target: Path, data: bytes, url=URL, **more) -> Path:
    return download_gzip(url, target, **{"sha256": DIGEST, "size": len(CONTENT), "open_url": answering(data), **more})


def test_what_the_checksum_names_is_stored(tmp_path):
    target = fetch(tmp_path / "new" / "set", gzip.compress(CONTENT, mtime=0))
    assert target.read_bytes() == CONTENT
    assert [path.name for path in target.parent.iterdir()] == ["set"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (gzip.compress(CONTENT[:-1] + b"x", mtime=0), "Expected SHA-256"),
        (gzip.compress(CONTENT + b"x", mtime=0), "Expected SHA-256"),
        (gzip.compress(CONTENT, mtime=0)[:-9], "Expected to download"),
        (b"<html>not found</html>", "Expected to download"),
    ],
)
def test_anything_else_leaves_nothing_behind(tmp_path, data, message):
    with pytest.raises(DataError, match=message):
        fetch(tmp_path / "set", data)
    assert list(tmp_path.iterdir()) == []


def test_a_bomb_is_not_unpacked(tmp_path):
    with pytest.raises(DataError, match="SHA-256"):
        fetch(tmp_path / "set", gzip.compress(bytes(10_000_000), mtime=0), size=10)


def test_a_host_that_does_not_answer(tmp_path):
    def fail(url):
        raise URLError("no route")

    with pytest.raises(DataError, match=r"no route.*Check the connection"):
        fetch(tmp_path / "set", b"", open_url=fail)


@pytest.mark.parametrize("url", ["http://data.example/set.gz", "file:///etc/passwd"])
def test_only_https_is_asked(tmp_path, url):
    with pytest.raises(UsageError, match="https"):
        fetch(tmp_path / "set", gzip.compress(CONTENT, mtime=0), url=url)


def test_a_failed_write_leaves_the_old_file_and_no_rest(tmp_path, monkeypatch):
    (tmp_path / "set").write_bytes(b"old")

    def fail(*args):
        raise OSError("disk full")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="disk full"):
        fetch(tmp_path / "set", gzip.compress(CONTENT, mtime=0))
    assert [path.name for path in tmp_path.iterdir()] == ["set"]
    assert (tmp_path / "set").read_bytes() == b"old"


def test_the_cache_is_the_users(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder("x") == tmp_path / "sfumato" / "x"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder("x") == Path.home() / ".cache" / "sfumato" / "x"
