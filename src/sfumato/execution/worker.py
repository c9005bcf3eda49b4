"""A worker process: receives bundles through a pipe, trains them, and stores the results itself.

Started by the pool as `python -m sfumato.execution.worker HANDLE PARENT`; it ends when the pipe closes or its parent
dies.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import traceback
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

from sfumato.data.population import Population
from sfumato.errors import SfumatoError
from sfumato.execution.bundles import Bundle, perform
from sfumato.execution.events import EpochDone, Event
from sfumato.execution.store import Store
from sfumato.execution.timing import time_bundle
from sfumato.execution.travel import BundleParcel, plain_error, populations_of, read_population, unpacked

REPORT_EVERY = 0.2


def main(handle: int, parent: int) -> None:
    """Serve requests until there are no more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides what to do
    threading.Thread(target=_die_with, args=(parent,), daemon=True).start()
    connection: Connection[Any, Any] = Connection(handle)
    connection.send(("ready", None))
    populations: dict[str, Population] = {}
    while True:
        try:
            kind, content = _received(connection)
        except EOFError:
            return
        if kind == "stop":
            return
        connection.send(_answer(kind, content, populations, connection))


def _received(connection: Connection[Any, Any]) -> tuple[str, Any]:
    try:
        return connection.recv()
    except EOFError:
        raise
    except Exception as error:  # noqa: BLE001, RUF100 - unpickling imports the user's own modules
        return "unreadable", f"{type(error).__name__}: {error}"


def _answer(
    kind: str, content: Any, populations: dict[str, Population], connection: Connection[Any, Any]
) -> tuple[str, Any]:
    try:
        if kind == "unreadable":
            return "unreadable", content
        torch.set_num_threads(content["threads"])
        bundle = _bundle(content["bundle"], populations)
        if kind == "time":
            return "timed", time_bundle(bundle, content["budget"])
        store = Store(Path(content["root"]), content["limit_bytes"])
        perform(bundle, store, _Reporter(connection))
    except SfumatoError as error:
        return "failed", plain_error(error)
    except Exception as error:  # noqa: BLE001, RUF100 - the parent raises it again
        return "failed", {**plain_error(error), "traceback": traceback.format_exc()}
    return "done", None


def _bundle(parcel: BundleParcel, populations: dict[str, Population]) -> Bundle:
    for folder in populations_of(parcel.jobs):
        if folder not in populations:
            populations[folder] = read_population(Path(folder))
    return unpacked(parcel, populations)


class _Reporter:
    """Sends events to the parent; epochs no more often than somebody can read them."""

    def __init__(self, connection: Connection[Any, Any]) -> None:
        self.connection, self.last = connection, 0.0

    def __call__(self, event: Event) -> None:
        now = time.monotonic()
        if isinstance(event, EpochDone) and now - self.last < REPORT_EVERY:
            return
        self.last = now
        self.connection.send(("event", event))


def _die_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.2)
    os._exit(1)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
