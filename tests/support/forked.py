"""Agents and controls that are forked from a process which has imported what they run.

The imports take an agent or a control more than a second of a processor, and the tests start hundreds of each.
A forked one goes on from ``agent.cli.main`` with its own arguments, environment and output, as the command
does; only its command line is that of its parent. What is about the start itself has to start the command:
see ``Process.start`` in ``fleet``.

Used by tests as a library, and run by itself as the parent: ``python -P forked.py KIND DESCRIPTOR``.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

KINDS: Final = {
    "run": ("agent.supervision.held_sockets", "agent.upstream.backends", "agent.start"),
    "control": (
        "agent.cli.app",
        "agent.controlplane.front.sites",
        "agent.controlplane.server.serving",
    ),
}
"""The commands that can be forked, and the modules that each imports before it serves."""
LIMIT_S: Final = 120.0
"""For a parent to import everything, beside other tests, and to fork."""
_REQUEST_BYTES: Final = 1 << 20


class Forked:
    """A process that a parent forked; used as ``subprocess.Popen`` is."""

    def __init__(self, pid: int, ends: socket.socket) -> None:
        """``ends`` gets its exit code as a line."""
        self.pid = pid
        self.returncode: int | None = None
        self._ends = ends

    def poll(self) -> int | None:
        """Return its exit code, negative for a signal, or None while it runs."""
        return self._look(0.0)

    def wait(self, timeout: float | None = None) -> int:
        """Return its exit code once it has ended; raises ``subprocess.TimeoutExpired``."""
        code = self._look(timeout)
        if code is None:
            raise subprocess.TimeoutExpired(f"forked process {self.pid}", timeout or 0.0)
        return code

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def _look(self, timeout_s: float | None) -> int | None:
        if self.returncode is None:
            self._ends.settimeout(timeout_s)
            try:
                told = self._ends.recv(32)
            except (BlockingIOError, TimeoutError):
                return None
            assert told, "the parent of forked processes ended"
            self.returncode = int(told)
            self._ends.close()
        return self.returncode


class Parents:
    """One parent for each kind of process, started when it is first needed. For any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._parents: dict[str, tuple[subprocess.Popen[bytes], socket.socket]] = {}

    def start(self, arguments: Sequence[str], environment: dict[str, str], log: Path) -> Forked:
        """Start the command ``ecs-agent`` with arguments; its output is added to a file."""
        # Messages: the process can end before its id is read.
        mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        request = json.dumps([list(arguments), environment, str(log)]).encode()
        with theirs, self._lock:
            socket.send_fds(self._parent(arguments[0]), [request], [theirs.fileno()])
        mine.settimeout(LIMIT_S)
        return Forked(int(mine.recv(32)), mine)

    def _parent(self, kind: str) -> socket.socket:
        if kind not in self._parents:
            mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            number = theirs.fileno()
            command = [sys.executable, "-P", __file__, kind, str(number)]
            with theirs:
                process = subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=[number])
            self._parents[kind] = (process, mine)
        return self._parents[kind][1]

    def close(self) -> None:
        """End the parents. What they forked and nobody ended goes on, as with a command."""
        for process, connection in self._parents.values():
            connection.close()
            process.wait(LIMIT_S)
        self._parents.clear()


_open: list[Parents] = []


@contextlib.contextmanager
def parents() -> Iterator[None]:
    """Have agents and controls forked until the end of the block."""
    _open.append(Parents())
    try:
        yield
    finally:
        _open.pop().close()


def current() -> Parents | None:
    """Return the parents to fork from, if they are to be forked."""
    return _open[-1] if _open else None


# -- in the parent ----------------------------------------------------------------------------


class _Request(NamedTuple):
    arguments: list[str]
    environment: dict[str, str]
    log: str


def _prepare(kind: str) -> None:
    """Import what the command imports, in its way."""
    if kind == "run":
        from agent.cli import lean_imports  # noqa: PLC0415 - only in the parent

        lean_imports.begin()
    for name in KINDS[kind]:
        importlib.import_module(name)
    if kind == "control":
        from agent.controlplane.api.table import APIS  # noqa: PLC0415 - only in the parent of controls
        from agent.controlplane.front.service_model import ApiModel  # noqa: PLC0415 - as above

        for api in APIS:
            if api.named is None:
                ApiModel.load(api.service)  # it is read once per process
    gc.collect()
    gc.freeze()  # to look through it would copy it, for each process


def _fork_all(asked: socket.socket) -> _Request | None:
    """Fork for each request, and tell its exit code; return in each child what it is to be, in the end None."""
    wakes = selectors.DefaultSelector()
    wakes.register(asked, selectors.EVENT_READ)
    running: dict[int, tuple[int, socket.socket]] = {}
    while True:
        for key, _ in wakes.select():
            if key.fileobj is not asked:
                pid, tells = running.pop(key.fd)
                wakes.unregister(key.fd)
                os.close(key.fd)
                _, status = os.waitpid(pid, 0)
                with tells, contextlib.suppress(BrokenPipeError):  # nobody waits for it
                    tells.sendall(str(os.waitstatus_to_exitcode(status)).encode())
                continue
            text, descriptors, _, _ = socket.recv_fds(asked, _REQUEST_BYTES, 1)
            if not text:
                return None
            tells = socket.socket(fileno=descriptors[0])
            request = _Request(*json.loads(text))
            if (pid := os.fork()) == 0:
                wakes.close()
                for number, (_, other) in running.items():
                    os.close(number)
                    other.close()
                tells.close()
                asked.close()
                return request
            tells.sendall(str(pid).encode())
            number = os.pidfd_open(pid)
            running[number] = (pid, tells)
            wakes.register(number, selectors.EVENT_READ)


def _become(request: _Request) -> int:
    """Go on as the command, in a child."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    log = os.open(request.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    os.environ.clear()
    os.environ.update(request.environment)
    time.tzset()
    sys.argv = ["ecs-agent", *request.arguments]
    from agent.cli import main  # noqa: PLC0415 - only in a child

    return main(request.arguments)


def _main() -> int:
    kind, number = sys.argv[1:]
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it ends with the tests
    with socket.socket(fileno=int(number)) as asked:
        _prepare(kind)
        request = _fork_all(asked)
    return 0 if request is None else _become(request)


if __name__ == "__main__":
    sys.exit(_main())
