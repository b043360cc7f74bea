"""Keeps one child process running: restarts it with backoff, and stops it on request.

Owns only the process that it starts. A child that exits with ``ExitCode.TERMINAL`` is never started
again. If the caller says so, neither is one that has never been ready.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from agent.errors import AgentError, ExitCode

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from agent.supervision.held_sockets import HeldSockets

FIRST_WAIT_S = 0.5
LONGEST_WAIT_S = 15.0
STEADY_AFTER_S = 60.0
"""The backoff starts again from the beginning after a child ran this long."""


class ChildGaveUp(AgentError):
    """A child ended and must not be started again."""

    def __init__(self, name: str, exit_code: int) -> None:
        super().__init__(
            f"the {name} failed with exit code {exit_code} and is not restarted; see its messages above"
        )
        self.exit_code = exit_code


def backoff_s(failures: int, *, spread: float) -> float:
    """Return how long to wait after ``failures`` in a row; ``spread`` is -1 to 1. Pure."""
    wait_s = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2.0 ** min(failures - 1, 16))
    return wait_s * (1 + 0.1 * spread)


@dataclass
class Child:
    """One supervised process; used from one event loop."""

    name: str
    """Name for messages, such as "agent"."""
    arguments: Sequence[str]
    environment: Mapping[str, str]
    say: Callable[[str], None]
    must_start: bool = True
    """Give up if the child ends before ``was_ready`` is set."""
    stop_limit_s: float = 20.0
    sockets: HeldSockets | None = None
    """Listening sockets that outlive the child; each one is handed the same."""
    was_ready: asyncio.Event = field(default_factory=asyncio.Event)
    _process: asyncio.subprocess.Process | None = None
    _stopping: bool = False

    async def run(self) -> None:
        """Keep the child running until ``stop`` is called.

        Cancelling this does not end the process: the caller does that with ``stop``.

        Raises:
            ChildGaveUp: the child ended and a restart cannot help.
        """
        loop = asyncio.get_running_loop()
        failures = 0
        while True:
            begun = loop.time()
            exit_code = await self._run_once()
            if self._stopping:
                return
            if exit_code == ExitCode.TERMINAL or (self.must_start and not self.was_ready.is_set()):
                raise ChildGaveUp(self.name, exit_code if exit_code > 0 else ExitCode.ERROR)
            failures = 1 if loop.time() - begun > STEADY_AFTER_S else failures + 1
            wait_s = backoff_s(failures, spread=random.uniform(-1, 1))  # noqa: S311 - no secret
            self.say(f"the {self.name} {_ended(exit_code)}; restarting it in {wait_s:.1f} s")
            await asyncio.sleep(wait_s)

    async def stop(self) -> None:
        """Ask the child to stop, kill it after ``stop_limit_s``; returns when it has ended."""
        self._stopping = True
        process = self._process
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(self.stop_limit_s):
                await process.wait()
        except TimeoutError:
            self.say(f"the {self.name} did not stop within {self.stop_limit_s:g} s; killing it")
            self.kill()
            await process.wait()

    def kill(self) -> None:
        """Kill the child at once; does nothing if it has ended."""
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()

    async def _run_once(self) -> int:
        module = ["-sP", "-m", "agent.cli.child", str(os.getpid())]
        # An installed agent finds its libraries through sys.path, not next to the interpreter.
        libraries = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        handed_on, descriptors = self.sockets.for_child() if self.sockets else ({}, [])
        # Own session: Ctrl-C on the terminal only reaches the parent, which stops the child in order.
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *module,
            *self.arguments,
            env={**self.environment, **libraries, **handed_on},
            pass_fds=descriptors,
            stdin=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )
        self._process = process
        if self._stopping:
            process.terminate()
        return await process.wait()


def _ended(exit_code: int) -> str:
    if exit_code < 0:
        return f"was killed by signal {-exit_code}"
    return f"ended with exit code {exit_code}"
