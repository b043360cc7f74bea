"""HAProxy as a child: checks a configuration, starts, reloads and stops it.

It runs in master-worker mode. A reload starts new workers, which take over the listening sockets; the old ones
finish their connections. The kernel ends HAProxy if this process dies, so that its ports are free.

Raises ``ProxyFailure``. For one event loop; one call at a time.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import re
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Final

import structlog

from agent.ingress.runtime import ProxyFailure, RuntimeApi

if TYPE_CHECKING:
    from asyncio.subprocess import Process

CHECK_S: Final = 30.0
START_S: Final = 20.0
_ASK_EVERY_S: Final = 0.02
_KILL_S: Final = 5.0
_PR_SET_PDEATHSIG: Final = 1
_SERIAL: Final = re.compile(r"^description: (\d+)$", re.MULTILINE)
_SHOWN: Final = 2000

_log = structlog.get_logger(__name__)


class Haproxy:
    """One HAProxy, and the file that it reads."""

    def __init__(self, program: Path, file: Path, socket: Path) -> None:
        """Take where the program, its configuration and its runtime API are."""
        self._program = program
        self._file = file
        self.api = RuntimeApi(socket)
        self._process: Process | None = None
        self._output: asyncio.Task[None] | None = None
        self.ended = asyncio.Event()
        """Set when the process has ended by itself; cleared by ``start``."""

    @property
    def is_running(self) -> bool:
        """Whether the process lives."""
        return self._process is not None and self._process.returncode is None

    async def check(self, text: str) -> None:
        """Write a configuration, if HAProxy accepts it.

        Raises:
            ProxyFailure: it does not; the old configuration stays.
        """
        new = self._file.with_suffix(".new")
        await asyncio.to_thread(_write, new, text)
        try:
            done = await asyncio.create_subprocess_exec(
                *(str(self._program), "-c", "-f", str(new)),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
            )
        except OSError as error:
            raise ProxyFailure(f"{self._program} cannot be run: {error.strerror}") from None
        try:
            async with asyncio.timeout(CHECK_S):
                said, _ = await done.communicate()
        except TimeoutError:
            raise ProxyFailure(f"HAProxy did not check {new} within {CHECK_S:g} s") from None
        finally:
            if done.returncode is None:
                done.kill()
                await done.wait()
        if done.returncode:
            told = said.decode("utf-8", "replace").strip()[-_SHOWN:]
            raise ProxyFailure(f"HAProxy refuses the configuration {new}: {told}")
        await asyncio.to_thread(new.replace, self._file)

    async def start(self, serial: int) -> None:
        """Start it with the configuration of this number; returns when it listens.

        Raises:
            ProxyFailure: it does not run.
        """
        try:
            self._process = await asyncio.create_subprocess_exec(
                *(str(self._program), "-W", "-f", str(self._file)),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_end_with_parent,
            )
        except OSError as error:
            raise ProxyFailure(f"{self._program} cannot be run: {error.strerror}") from None
        self.ended.clear()
        self._output = asyncio.create_task(self._follow(self._process), name="HAProxy's output")
        try:
            await self._serves(serial)
        except ProxyFailure:
            await self.stop(0.0)
            raise
        _log.info("HAProxy started", pid=self._process.pid)

    async def reload(self, serial: int) -> None:
        """Have it take the configuration of this number; returns when new connections go by it.

        Raises:
            ProxyFailure: it goes on with the old one.
        """
        if self._process is None or self._process.returncode is not None:
            raise ProxyFailure("HAProxy has ended")
        self._process.send_signal(signal.SIGUSR2)
        await self._serves(serial)

    async def stop(self, within_s: float) -> None:
        """End it: it takes no more connections, and may finish those that it has for a time."""
        process = self._process
        if process is None:
            return
        for number, limit_s in ((signal.SIGUSR1, within_s), (signal.SIGTERM, _KILL_S)):
            if process.returncode is None and limit_s:
                with contextlib.suppress(ProcessLookupError):
                    process.send_signal(number)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(limit_s):
                        await process.wait()
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
        if self._output is not None:
            # A worker that is left holds the pipe open.
            self._output.cancel()
            await asyncio.wait([self._output])
        self._process = self._output = None

    async def is_alone(self) -> bool:
        """Return whether no process from before a reload is left."""
        if self._process is None:
            return True
        return await asyncio.to_thread(_children, self._process.pid) == 1

    async def _serves(self, serial: int) -> None:
        """Return once the workers have the configuration of this number."""
        try:
            async with asyncio.timeout(START_S):
                while True:
                    if not self.is_running:
                        raise ProxyFailure("HAProxy has ended; its output above says why")
                    with contextlib.suppress(ProxyFailure):
                        found = _SERIAL.search(await self.api.ask("show info"))
                        if found is not None and int(found[1]) == serial:
                            return
                    await asyncio.sleep(_ASK_EVERY_S)
        except TimeoutError:
            raise ProxyFailure(
                f"HAProxy has not taken the configuration {self._file} within {START_S:g} s; its output "
                "above says why"
            ) from None

    async def _follow(self, process: Process) -> None:
        """Log what it says, and note its end."""
        waiting = asyncio.create_task(process.wait())
        waiting.add_done_callback(lambda _: self.ended.set())
        try:
            assert process.stdout is not None  # noqa: S101 - it was asked for
            while line := await process.stdout.readline():
                text = line.decode("utf-8", "replace").strip()
                level = "warning" if "[ALERT]" in text else "debug"
                getattr(_log, level)("HAProxy", says=text[:_SHOWN])
            await waiting
        except ValueError:  # a line without an end
            await waiting
        finally:
            waiting.cancel()


def _children(pid: int) -> int:
    """Return how many processes a master has; 0 if the kernel does not tell."""
    try:
        return len(Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split())
    except OSError:
        return 0


def _write(file: Path, text: str) -> None:
    file.write_text(text, "utf-8")
    file.chmod(0o600)


def _end_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
