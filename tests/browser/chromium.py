"""A small client for the DevTools protocol over a pipe: no package, no port, no network.

Chromium reads commands from file descriptor 3 and writes answers and events to 4, JSON ended by a zero byte.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)
_PATIENCE = 60.0


def find_chromium() -> str | None:
    """The browser's path, or None."""
    return next((p for p in map(shutil.which, ("chromium", "chromium-browser", "google-chrome")) if p), None)


@dataclass
class Pipe:
    """Commands out, answers and events in. Events are kept in order of arrival."""

    write_to: int
    read_from: int
    events: list[dict[str, Any]] = field(default_factory=list)
    _buffer: bytes = b""
    _last: int = 0

    def call(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        """Send a command and wait for its answer."""
        self._last += 1
        message: dict[str, Any] = {"id": self._last, "method": method, "params": params}
        if session:
            message["sessionId"] = session
        os.write(self.write_to, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + _PATIENCE
        while True:
            answer = self.receive(deadline)
            if answer.get("id") == self._last:
                assert "error" not in answer, (method, answer["error"])
                return answer["result"]

    def receive(self, deadline: float) -> dict[str, Any]:
        """The next message; events are also kept."""
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self.read_from], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, "Chromium did not answer in time."
            chunk = os.read(self.read_from, 1 << 20)
            assert chunk, "Chromium closed its pipe."
            self._buffer += chunk
        raw, _, self._buffer = self._buffer.partition(b"\0")
        message = json.loads(raw)
        if "method" in message:
            self.events.append(message)
        return message


@dataclass
class Page:
    """One tab."""

    pipe: Pipe
    session: str

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """A command to this tab."""
        return self.pipe.call(method, self.session, **params)

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression, as JSON; its exceptions fail the test."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def open(self, url: str) -> None:
        """Load `url` and wait until it has loaded and settled."""
        before = len(self.pipe.events)
        self.call("Page.navigate", url=url)
        deadline = time.monotonic() + _PATIENCE
        while not any(e["method"] == "Page.loadEventFired" for e in self.pipe.events[before:]):
            self.pipe.receive(deadline)
        self.settle()

    def settle(self) -> None:
        """Let layout and late requests happen; no script of the page is needed for it."""
        time.sleep(0.1)
        self.call("Page.getLayoutMetrics")

    def size(self, width: int, height: int = 900) -> None:
        """Set the viewport in CSS pixels."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 500
        )

    def scheme(self, name: str) -> None:
        """Prefer the colour scheme "light" or "dark"."""
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": name}])

    def press(self, key: str, code: int) -> None:
        """One key, down and up."""
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code)

    def pdf(self) -> bytes:
        """The page printed on A4."""
        answer = self.call("Page.printToPDF", printBackground=True, paperWidth=8.27, paperHeight=11.69)
        return base64.b64decode(answer["data"])

    def named(self, method: str) -> list[dict[str, Any]]:
        """Parameters of all events of one kind so far."""
        return [e["params"] for e in self.pipe.events if e["method"] == method]


@contextlib.contextmanager
def browser() -> Iterator[Page]:
    """A headless Chromium with a fresh profile and one tab that records requests, errors and console messages."""
    path = find_chromium()
    assert path is not None
    to_browser, from_us = os.pipe(), os.pipe()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        # The shell moves the pipe ends to 3 and 4 for the browser alone; in this process these may be taken.
        command = f'exec "$0" "$@" 3<&{to_browser[0]} 4>&{from_us[1]}'
        process = subprocess.Popen(
            ["/bin/bash", "-c", command, path, *_FLAGS, f"--user-data-dir={profile}", "about:blank"],
            pass_fds=(to_browser[0], from_us[1]),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_browser[0])
        os.close(from_us[1])
        pipe = Pipe(to_browser[1], from_us[0])
        try:
            yield _tab(pipe)
        finally:
            with contextlib.suppress(OSError, AssertionError):
                pipe.call("Browser.close")
            with contextlib.suppress(OSError):
                os.close(to_browser[1])
                os.close(from_us[0])
            _end(process)


def _tab(pipe: Pipe) -> Page:
    target = pipe.call("Target.createTarget", url="about:blank")["targetId"]
    session = pipe.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
    page = Page(pipe, session)
    for domain in ("Page", "Network", "Runtime", "Log", "DOM"):
        page.call(f"{domain}.enable")
    return page


def _end(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(timeout=10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def as_url(path: Path) -> str:
    """The file: address of a path."""
    return path.resolve().as_uri()
