"""Worker processes of our own: started, fed, watched, replaced when they die, and stopped."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe, wait
from typing import Any, NamedTuple

from sfumato.errors import SfumatoError

START_SECONDS = 120.0


@dataclass(eq=False)
class Worker:
    """One worker process and the pipe to it."""

    process: subprocess.Popen[bytes]
    connection: Connection[Any, Any]

    def send(self, kind: str, content: Any) -> bool:
        """Send a request; False if the worker is gone."""
        try:
            self.connection.send((kind, content))
        except (BrokenPipeError, ConnectionResetError):
            return False
        return True

    def received(self) -> tuple[str, Any]:
        """The next message; ("died", reason) if the worker is gone."""
        try:
            return self.connection.recv()
        except (EOFError, ConnectionResetError):
            return "died", how_it_ended(self.process.wait())

    def kill(self) -> None:
        """End it now."""
        self.process.kill()
        self.process.wait()
        self.connection.close()


class Message(NamedTuple):
    """What a worker said."""

    worker: Worker
    kind: str
    content: Any


def start_workers(count: int) -> list[Worker]:
    """Start `count` workers and wait until each is ready (a few seconds: each imports torch).

    Raises:
        SfumatoError: if one does not come up.
    """
    workers = [_start() for _ in range(count)]
    for worker in workers:
        up = worker.connection.poll(START_SECONDS)
        kind, content = worker.received() if up else ("died", f"it did not come up in {START_SECONDS:.0f} s")
        if kind != "ready":
            stop(workers)
            raise SfumatoError(
                f"Expected a worker process to start, got: {content}.", remedy='Use executor="inline" or "stacked".'
            )
    return workers


def messages(workers: Sequence[Worker]) -> list[Message]:
    """Wait for workers to say something, and return what they said."""
    spoken = wait([worker.connection for worker in workers])
    heard = [worker for worker in workers if worker.connection in spoken]
    return [Message(worker, *worker.received()) for worker in heard]


def stop(workers: Sequence[Worker]) -> None:
    """End all workers now; what they have stored is stored."""
    for worker in workers:
        worker.process.kill()
    for worker in workers:
        worker.kill()


def how_it_ended(code: int) -> str:
    """An exit code in words."""
    if code == -9:
        return "killed by signal 9, perhaps because memory ran out"
    return f"killed by signal {-code}" if code < 0 else f"ended with exit code {code}"


def _start() -> Worker:
    ours, theirs = Pipe()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, "-m", "sfumato.execution.worker", str(theirs.fileno()), str(os.getpid())]
    process = subprocess.Popen(
        command, pass_fds=[theirs.fileno()], env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    theirs.close()
    return Worker(process, ours)
