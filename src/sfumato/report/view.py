"""A reader for a folder of records: on this machine only, read-only, each record by the report's own template."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from sfumato.audit.record import AuditRecord
from sfumato.errors import SfumatoError, UsageError
from sfumato.report.naming import marked
from sfumato.report.page import page_parts
from sfumato.report.render import html, html_environment
from sfumato.report.sections.verdict import Headline, headline
from sfumato.report.wording import Shown, shown

_HOST = "127.0.0.1"
_LARGEST = 64_000_000  # bytes of a JSON file that is still read


class Line(NamedTuple):
    """One subject in the comparison list."""

    headline: Headline
    utility: Shown | None
    guarantee: str


class Entry(NamedTuple):
    """One record: `key` names it in addresses, `name` is its path inside the folder."""

    key: str
    name: str
    record: AuditRecord
    rows: list[Line]


class Listing(NamedTuple):
    """What a folder holds: records, files that claim to be records but cannot be read, and how many others."""

    records: list[Entry]
    unreadable: list[tuple[str, str]]
    others: int


class Viewer(ThreadingHTTPServer):
    """The server, bound to the loopback address. Addresses carry a random token; paths in them never reach the disk."""

    daemon_threads = True

    def __init__(self, folder: Path, port: int, token: str) -> None:
        super().__init__((_HOST, port), _Handler)
        self.folder = folder
        self.token = token

    @property
    def url(self) -> str:
        """Where the list of records is."""
        return f"http://{_HOST}:{self.server_address[1]}/{self.token}/"


def viewer(folder: Path, *, port: int = 0) -> Viewer:
    """A server for `folder` that is bound but not yet answering; `port` 0 takes any free one.

    Raises:
        UsageError: if the folder does not exist or the port is taken.
    """
    folder = Path(folder).resolve()
    if not folder.is_dir():
        raise UsageError(f"Expected a folder with records, got {folder}.", remedy="Give the folder of an audit.")
    try:
        return Viewer(folder, port, secrets.token_urlsafe(24))
    except (OSError, OverflowError) as error:
        raise UsageError(
            f"Expected a free port, got {port}: {error}.", remedy="Choose another, or 0 for any."
        ) from error


def serve(folder: Path, *, port: int = 0, announce: Callable[[str], None] = lambda url: None) -> None:
    """Show the records below `folder` until interrupted; `announce` is told the address, token included."""
    with viewer(folder, port=port) as server:
        announce(server.url)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            return


def listing(folder: Path) -> Listing:
    """The records below `folder`, by path; links that lead out of it are not followed."""
    records: list[Entry] = []
    unreadable: list[tuple[str, str]] = []
    others = 0
    for path in sorted(folder.rglob("*.json")):
        if not path.is_file() or not path.resolve().is_relative_to(folder):
            continue
        name = path.relative_to(folder).as_posix()
        if not _claims_to_be_record(path):
            others += 1
            continue
        try:
            records.append(_entry(name, _read(path)))
        except SfumatoError as error:
            unreadable.append((name, str(error)))
    return Listing(records, unreadable, others)


def index(folder: Path) -> str:
    """The page that lists and compares all records."""
    found = listing(folder)
    return html_environment().get_template("index.html").render(
        page=page_parts(),
        folder=folder.name,
        subjects=max((len(entry.record.subjects) for entry in found.records), default=0),
        records=found.records,
        unreadable=found.unreadable,
        others=found.others,
    )  # fmt: skip


def _entry(name: str, record: AuditRecord) -> Entry:
    rows = [
        Line(headline(i, s), shown(s.utility[0]) if s.utility else None, s.guarantee.statement)
        for i, s in enumerate(marked(record).subjects)
    ]
    return Entry(hashlib.sha256(name.encode()).hexdigest()[:16], name, record, rows)


def _claims_to_be_record(path: Path) -> bool:
    if path.stat().st_size > _LARGEST:
        return path.name == "record.json"
    return path.name == "record.json" or b'"schema_version"' in path.read_bytes()


def _read(path: Path) -> AuditRecord:
    if path.stat().st_size > _LARGEST:
        raise UsageError(f"Expected a record of at most {_LARGEST:,} bytes, got {path.stat().st_size:,}.")
    return AuditRecord.load(path)


class _Handler(BaseHTTPRequestHandler):
    """Answers GET and HEAD for the list and for records; everything else is refused."""

    server_version = "sfumato"
    sys_version = ""

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: addresses carry the token."""

    def _answer(self, with_body: bool) -> None:
        status, page = self._page()
        body = page.encode()
        self.send_response(status)
        self.send_header(
            "Content-Type", "text/html; charset=utf-8" if status == HTTPStatus.OK else "text/plain; charset=utf-8"
        )
        self.send_header("Content-Length", str(len(body)))
        for name, value in _headers().items():
            self.send_header(name, value)
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def _page(self) -> tuple[HTTPStatus, str]:
        server = self.server
        assert isinstance(server, Viewer)
        port = server.server_address[1]
        # A page elsewhere whose name was pointed at this address (DNS rebinding) sends its own name.
        if self.headers.get("Host") not in (f"{_HOST}:{port}", f"localhost:{port}"):
            return HTTPStatus.MISDIRECTED_REQUEST, "Expected a request to this machine by its own name.\n"
        token, _, rest = urlsplit(self.path).path.lstrip("/").partition("/")
        if not hmac.compare_digest(token.encode(), server.token.encode()):
            return HTTPStatus.NOT_FOUND, "Not found. Use the address that was printed at the start.\n"
        if not rest:
            return HTTPStatus.OK, index(server.folder)
        kind, _, key = rest.partition("/")
        entry = next((e for e in listing(server.folder).records if kind == "record" and e.key == key), None)
        if entry is None:
            return HTTPStatus.NOT_FOUND, "Not found. Go back to the list of records.\n"
        try:
            return HTTPStatus.OK, html(entry.record)
        except SfumatoError as error:
            return HTTPStatus.UNPROCESSABLE_ENTITY, f"This record cannot be shown. {error}\n"


def _headers() -> dict[str, str]:
    return {
        "Content-Security-Policy": f"{page_parts().policy}; frame-ancestors 'none'",
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-store",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Cross-Origin-Opener-Policy": "same-origin",
    }
