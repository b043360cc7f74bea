"""How calls reach the Docker Engine: lanes of threads, one client, the agent's errors.

Calls are divided into lanes by what may delay them, so that no call waits behind another kind:
quick requests; create and start (the launch path); stop and remove, which may take as long as a
stop timeout; pulls and registry requests; log followers. Every failure is one of the errors in
``agent.errors``; ``faults`` classifies them.
"""

from __future__ import annotations

import contextlib
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from agent.runtime.docker import faults
from agent.runtime.docker.client import EngineClient, socket_path
from agent.runtime.docker.lanes import BlockingCall, CallAborted, Lane

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneSizes:
    """How many calls of each kind are made at the same time."""

    quick: int = 8
    """Quick requests."""
    launches: int = 16
    """Creates and starts."""
    stops: int = 32
    """Stops and removals."""
    pulls: int = 16
    registries: int = 16
    """Questions to registries, and loads."""
    logs: int = 32
    """Log readers; one more is refused, not queued."""


class EngineCalls:
    """Makes calls to one engine. Nothing is opened before the first one.

    Belongs to one event loop; ``do`` may be called concurrently.

    Raises:
        ConfigError: ``docker_host`` is not a ``unix://`` address.
    """

    def __init__(self, docker_host: str, sizes: LaneSizes) -> None:
        self.socket_path = socket_path(docker_host)
        self.quick = self._lane("calls", sizes.quick)
        self.launch = self._lane("launches", sizes.launches)
        self.stop = self._lane("stops", sizes.stops)
        self.pull = self._lane("pulls", sizes.pulls)
        self.registry = self._lane("registries", sizes.registries)
        self.log = self._lane("logs", sizes.logs)
        self._where = docker_host
        self._made: EngineClient | None = None
        self._making = threading.Lock()

    async def close(self) -> None:
        """End all threads; calls in flight fail with ``EngineUnavailable``."""
        lanes = (self.quick, self.launch, self.stop, self.pull, self.registry, self.log)
        for lane in lanes:
            await lane.close()

    async def do(
        self,
        lane: Lane,
        work: Callable[[EngineClient, BlockingCall], T],
        operation: str,
        limit_s: float,
        subject: str = "",
        *,
        negotiate: bool = True,
    ) -> T:
        """Make one call in a lane, and return what ``work`` returns there.

        Args:
            lane: one of the lanes here.
            work: makes the call, in a thread.
            operation: what is done, for errors: ``created``, ``started``, ...
            limit_s: when it is given up.
            subject: the container that the call is about.
            negotiate: whether the API version must be known first.

        Raises:
            RuntimeFailure: as ``faults`` classifies what went wrong.
        """

        def in_thread(call: BlockingCall) -> T:
            with self.translated(call, subject=subject):
                client = self.client()
                if negotiate and not client.negotiated:
                    client.negotiate()
                return work(client, call)

        return await lane.run(in_thread, limit_s=limit_s, operation=operation)

    @contextlib.contextmanager
    def translated(self, call: BlockingCall, *, subject: str) -> Iterator[None]:
        """Raise the agent's errors instead of the SDK's; for use in threads."""
        began = time.monotonic()
        try:
            yield
        except (CallAborted, GeneratorExit):
            raise
        except Exception as error:
            silence_s = call.read_timeout_s or time.monotonic() - began
            raise faults.translate(
                error,
                operation=call.operation,
                limit_s=min(silence_s, call.limit_s),
                where=self._where,
                subject=subject,
            ) from error

    def client(self) -> EngineClient:
        """Return the client; created in the first thread that needs it, because it reads files."""
        with self._making:
            if self._made is None:
                self._made = EngineClient(self.socket_path)
            return self._made

    def _lane(self, name: str, size: int) -> Lane:
        def call_ended(reusable: bool) -> None:
            if self._made is not None:
                self._made.adapter.finish(reusable)

        def thread_ended() -> None:
            if self._made is not None:
                self._made.adapter.close_own()

        return Lane(name, size, call_ended=call_ended, thread_ended=thread_ended)
