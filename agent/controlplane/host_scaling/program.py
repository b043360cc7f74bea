"""Runs a program of the operator's once: a JSON document on its standard input, at most one run at a time.

The program runs as control's user, in a session of its own, with control's environment but for what the service
manager told control. Its output is only shown if it fails, and only the end of it. If it takes too long, it and what
it started in its session are ended.

A run that outlives control (``kill -9``) is found again by a note in a file, and waited for.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Final

import structlog

from agent import escapes

if TYPE_CHECKING:
    from agent.controlplane.host_scaling.hooks import Hook

KEPT_OUTPUT_BYTES: Final = 4096
SHOWN_OUTPUT: Final = 300
"""Characters of the last line."""
GRACE_S: Final = 5.0
"""Between SIGTERM and SIGKILL."""
_ON_STOP_S: Final = 1.0
"""The same, when control itself stops."""
_OF_SERVICE_MANAGER: Final = frozenset(
    {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"}
)

_log = structlog.get_logger(__name__)


async def run(hook: Hook, document: bytes, note: Path) -> str:
    """Run a program and return what went wrong; empty if it ended with 0.

    Args:
        hook: the program.
        document: for its standard input.
        note: a file that says which process runs; its directory exists.
    """
    await _wait_for_last(note, hook.time_limit_seconds)
    output = _Output()
    try:
        process = await _start(hook, document, output.writer)
    except (OSError, ValueError) as error:
        output.close()
        return f"{hook.command[0]}: {getattr(error, 'strerror', None) or error}"
    try:
        await asyncio.to_thread(_write_note, note, process.pid)
        async with asyncio.timeout(hook.time_limit_seconds):
            code = await process.wait()
    except TimeoutError:
        await _end(process, GRACE_S)
        return f"{hook.command[0]} had not ended after {hook.time_limit_seconds:g} s, and was ended"
    except OSError as error:
        await _end(process, GRACE_S)
        return f"{note}: {error.strerror}"
    finally:
        if process.returncode is None:
            await _end(process, _ON_STOP_S)
        last = output.close()
    if code == 0:
        return ""
    how = f"ended with {code}" if code > 0 else f"was ended by signal {-code}"
    return f"{hook.command[0]} {how}{f': {last}' if last else ''}"


async def _start(hook: Hook, document: bytes, out: int) -> asyncio.subprocess.Process:
    given = await asyncio.to_thread(_in_memory, document)
    try:
        return await asyncio.create_subprocess_exec(
            *hook.command,
            stdin=given,
            stdout=out,
            stderr=out,
            cwd="/",
            env={k: v for k, v in os.environ.items() if k not in _OF_SERVICE_MANAGER},
            start_new_session=True,
        )
    finally:
        os.close(given)
        os.close(out)


def _in_memory(document: bytes) -> int:
    """Return a file with the document, so that a program that does not read it cannot hold up control."""
    handle = os.memfd_create("document")
    with open(handle, "wb", closefd=False) as file:
        file.write(document)
    os.lseek(handle, 0, os.SEEK_SET)
    return handle


class _Output:
    """The end of what a program prints, read as it comes, so that it is never held up."""

    def __init__(self) -> None:
        self._reader, self.writer = os.pipe()
        os.set_blocking(self._reader, False)
        self._tail = b""
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._reader, self._read)

    def _read(self) -> None:
        try:
            data = os.read(self._reader, 65536)
        except BlockingIOError:
            return
        if data:
            self._tail = (self._tail + data)[-KEPT_OUTPUT_BYTES:]
        else:
            self._loop.remove_reader(self._reader)

    def close(self) -> str:
        """Stop to read, and return the last line, safe to show."""
        self._read()
        self._loop.remove_reader(self._reader)
        os.close(self._reader)
        lines = self._tail.decode(errors="replace").strip().splitlines()
        return escapes.shown(lines[-1].strip())[:SHOWN_OUTPUT] if lines else ""


async def _end(process: asyncio.subprocess.Process, grace_s: float) -> None:
    """End a program and what it started in its session."""
    _signal(process.pid, signal.SIGTERM)
    try:
        async with asyncio.timeout(grace_s):
            await asyncio.shield(process.wait())
    except TimeoutError:
        pass
    finally:
        _signal(process.pid, signal.SIGKILL)
    await process.wait()


def _signal(session: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(session, number)


def _write_note(note: Path, pid: int) -> None:
    note.write_text(f"{pid} {_started(pid)}\n")


def _started(pid: int) -> str:
    """Return when a process started, in the kernel's ticks: what tells it from another with its number."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
        return stat.rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


async def _wait_for_last(note: Path, limit_s: float) -> None:
    """Wait for a run of an earlier control; one that takes too long is ended."""
    pid = await asyncio.to_thread(_running, note)
    if pid is None:
        return
    _log.info("a program that an earlier control started still runs; waiting for it", pid=pid)
    try:
        handle = os.pidfd_open(pid)
    except OSError:
        return
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(handle, ended.set)
    try:
        async with asyncio.timeout(limit_s):
            await ended.wait()
    except TimeoutError:
        _signal(pid, signal.SIGKILL)
    finally:
        loop.remove_reader(handle)
        os.close(handle)


def _running(note: Path) -> int | None:
    """Return the process of a note, if it still runs and is not the one that reads it."""
    try:
        pid, started = note.read_text().split()
        number = int(pid)
    except (OSError, ValueError):
        return None
    is_there = bool(started) and _started(number) == started
    return number if is_there and not _has_ended(number) else None


def _has_ended(pid: int) -> bool:
    """Return whether a process is one that only waits to be asked for its end."""
    try:
        handle = os.pidfd_open(pid)
    except OSError:
        return True
    try:
        return bool(select.select([handle], [], [], 0)[0])
    finally:
        os.close(handle)
