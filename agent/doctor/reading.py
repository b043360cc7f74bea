"""How checks access the host: files, programs and Unix sockets, each with a deadline.

Nothing here changes the host. A read that cannot be interrupted (a dead network file system, a
hanging driver) runs in its own thread, which is left behind at the deadline and does not keep the
process from ending. A program is killed at its deadline. Something missing is reported as a value,
not as an exception, because that is usually what a check wants to know.

Tests: ``tests/unit/doctor/test_examine.py``.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import os
import socket
import threading
from typing import TYPE_CHECKING, Any, TypeVar

import aiohttp
import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator, Mapping
    from pathlib import Path

T = TypeVar("T")

PROGRAM_LIMIT_S = 10.0
ANSWER_LIMIT_S = 10.0
NAME_LIMIT_S = 6.0
_KILL_LIMIT_S = 1.0
_PART = 65536
OUTPUT_BYTES = 4 * 1024 * 1024
"""Limit for the output of a program; only the end is kept."""


_refused: contextvars.ContextVar[list[str] | None] = contextvars.ContextVar("refused", default=None)


@contextlib.contextmanager
def noting_refusals() -> Iterator[list[str]]:
    """Collect what exists but could not be read in this context: ``path (why)`` each.

    Most checks treat what they cannot read as empty; these notes report it anyway.
    """
    notes: list[str] = []
    token = _refused.set(notes)
    try:
        yield notes
    finally:
        _refused.reset(token)


def note_refusal(path: object, error: OSError) -> None:
    """Note something that could not be read; missing files are not noted."""
    notes = _refused.get()
    if notes is None or isinstance(error, FileNotFoundError | NotADirectoryError):
        return
    note = f"{path} ({error.strerror})"
    if note not in notes:
        notes.append(note)


class Output(msgspec.Struct, frozen=True, kw_only=True):
    """How a program ended."""

    code: int
    """Exit code; 127 if the program is not installed, 124 if it exceeded its deadline."""
    out: str = ""
    err: str = ""

    @property
    def missing(self) -> bool:
        """Tell whether the program is not installed."""
        return self.code == 127

    @property
    def trouble(self) -> str:
        """Return why it failed, in one line; empty if it did not."""
        if self.code == 0:
            return ""
        lines = (self.err.strip() or self.out.strip()).splitlines()
        return lines[-1][:300] if lines else f"exit code {self.code}"


async def blocking(work: Callable[[], T]) -> T:
    """Return what blocking work returns; a cancelled wait leaves its thread behind."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[T] = loop.create_future()

    def deliver(settle: Callable[[], None]) -> None:
        if not answer.done():
            settle()

    def run() -> None:
        settle: Callable[[], None]
        try:
            settle = functools.partial(answer.set_result, work())
        except Exception as error:  # noqa: BLE001 - passed to the waiting caller
            settle = functools.partial(answer.set_exception, error)
        with contextlib.suppress(RuntimeError):  # the loop ended before the work did
            loop.call_soon_threadsafe(deliver, settle)

    context = contextvars.copy_context()
    threading.Thread(target=lambda: context.run(run), name="doctor", daemon=True).start()
    return await answer


async def look_up(host: str, port: int) -> tuple[str, ...]:
    """Return the addresses of a name; raises ``OSError`` (no such name) or ``TimeoutError``."""
    async with asyncio.timeout(NAME_LIMIT_S):
        rows = await blocking(lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
    return tuple(dict.fromkeys(str(row[4][0]) for row in rows))


def text_of(path: Path, *, limit: int = OUTPUT_BYTES) -> str:
    """Return the beginning of a file as text; empty if it cannot be read. Blocks.

    A file that exists but cannot be read is noted, see ``noting_refusals``.
    """
    kept = b""
    try:
        with path.open("rb", buffering=0) as file:
            # In small parts: the kernel refuses large reads below /proc/sys.
            while len(kept) < limit and (part := file.read(_PART)):
                kept += part
    except OSError as error:
        note_refusal(path, error)
        return ""
    return kept[:limit].decode("utf-8", errors="replace")


async def program(
    *command: str, limit_s: float = PROGRAM_LIMIT_S, environment: Mapping[str, str] | None = None
) -> Output:
    """Run a program without a shell and return its output; raises only on cancellation.

    The output is in English, whatever the host's language. ``environment`` is added to ours.
    """
    together = {**os.environ, "LC_ALL": "C", "PATH": _path(), **(environment or {})}
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=together,
        )
    except FileNotFoundError:
        return Output(code=127, err=f"{command[0]} is not installed")
    except OSError as error:
        return Output(code=126, err=f"{command[0]} cannot be run: {error.strerror}")
    try:
        async with asyncio.timeout(limit_s):
            out, err = await asyncio.gather(_tail(process.stdout), _tail(process.stderr))
            code = await process.wait()
    except TimeoutError:
        return Output(code=124, err=f"{command[0]} did not end within {limit_s:g} s")
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            # Its output too is waited for, or a pipe would outlive the event loop. A child of it may hold that open.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_KILL_LIMIT_S):
                    await process.communicate()
    return Output(code=code, out=_decoded(out), err=_decoded(err))


async def get(socket_path: str, path: str, *, limit_s: float = ANSWER_LIMIT_S) -> bytes:
    """Return the body of ``GET path`` over a Unix socket.

    Raises:
        OSError: nothing listens there, or access is denied.
        TimeoutError: no answer within ``limit_s``.
        ValueError: the answer is not a success; the text contains its status.
    """
    async with asyncio.timeout(limit_s):
        connector = aiohttp.UnixConnector(path=socket_path)
        try:
            async with (
                aiohttp.ClientSession(connector=connector) as session,
                session.get(f"http://localhost{path}") as response,
            ):
                body = await response.read()
                if response.status != 200:
                    text = body[:200].decode("utf-8", errors="replace")
                    raise ValueError(f"{path} was answered {response.status}: {text}")
                return body
        except aiohttp.ClientConnectorError as error:
            raise error.os_error from None
        except aiohttp.ClientError as error:
            raise ValueError(f"{path}: {error!r}") from None


class Once:
    """Reads that several checks share; each is made once, on first use."""

    def __init__(self) -> None:
        self._tasks: dict[str, asyncio.Task[Any]] = {}

    async def of(self, name: str, read: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Return the result of ``read``; cancelling one caller does not affect the others."""
        if name not in self._tasks:
            self._tasks[name] = asyncio.create_task(read(), name=f"read {name}")
        shared: T = await asyncio.shield(self._tasks[name])
        return shared

    async def close(self) -> None:
        """Cancel reads that are still running."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)


async def _tail(stream: asyncio.StreamReader | None) -> bytes:
    assert stream is not None  # noqa: S101 - both are pipes
    kept = b""
    while part := await stream.read(_PART):
        kept = (kept + part)[-OUTPUT_BYTES:]
    return kept


def _decoded(raw: bytes) -> str:
    return raw.decode("utf-8", errors="replace")


def _path() -> str:
    """Return the search path with the system directories, which a user's path may lack."""
    return f"{os.environ.get('PATH', '')}:/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin"
