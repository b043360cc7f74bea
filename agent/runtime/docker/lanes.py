"""Bounded lanes of threads, to make blocking calls to the engine from asyncio.

A lane is a fixed number of daemon threads with one queue. The deadline of a call starts when it is
requested, so neither a queue nor a hanging engine can hold a caller longer. When the deadline
passes or the caller is cancelled, the caller continues at once, and closing the socket wakes the
thread. A thread that does not wake counts as lost until it does. If all threads of a lane are lost,
it refuses calls with ``EngineUnavailable`` instead of queueing them.

Threads start when they are needed, never on import. Those that a burst of calls needed end when they
have not been needed for a while, since each keeps 40 KiB of stack and a connection; one stays. All end with
``Lane.close``.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import socket
import threading
import time
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import structlog

from agent.errors import EngineTimeout, EngineUnavailable
from agent.model import reasons

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

log = structlog.get_logger(__name__)

_WAKING_S = 1.0
"""How long a thread may take to notice that its socket was closed."""
_IDLE_S = 60.0
"""How long a thread is kept that is not needed."""


class CallAborted(Exception):
    """Raised in a thread whose caller has left."""


class BlockingCall:
    """One blocking call as its thread sees it: its deadline and the socket that it waits on.

    The loop calls ``abort``; everything else belongs to the thread. No lock is needed: ``abort``
    sets the mark before it reads the socket, and the thread stores the socket before it reads the
    mark, so one of the two always sees the other.
    """

    def __init__(self, limit_s: float, *, operation: str = "") -> None:
        self.limit_s = limit_s
        self.operation = operation
        self.aborted = False
        self.read_timeout_s: float | None = None
        """Longest silence on the socket; None means until the deadline."""
        self._deadline = time.monotonic() + limit_s
        self._socket: socket.socket | None = None

    def remaining_s(self) -> float:
        """Return the seconds until the deadline, never less than a millisecond."""
        return max(self._deadline - time.monotonic(), 0.001)

    def socket_timeout_s(self) -> float:
        """Return how long the socket may be silent now."""
        remaining = self.remaining_s()
        return remaining if self.read_timeout_s is None else min(remaining, self.read_timeout_s)

    def limit_silence(self, seconds: float) -> None:
        """Limit the silence on the socket from now on."""
        self.read_timeout_s = seconds
        if self._socket is not None:
            self._socket.settimeout(self.socket_timeout_s())

    def attach(self, sock: socket.socket | None) -> None:
        """Set the socket that the thread waits on from now on.

        Raises:
            CallAborted: the caller has already left.
        """
        self._socket = sock
        if self.aborted:
            raise CallAborted

    def detach(self) -> bool:
        """Forget the socket; return False if it may be shut down and must not be used again."""
        self._socket = None
        return not self.aborted

    def abort(self) -> None:
        """Wake the thread by ending its read. Never blocks."""
        self.aborted = True
        sock = self._socket
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)


_current = threading.local()


def current_call() -> BlockingCall | None:
    """Return the call that this thread is making."""
    call: BlockingCall | None = getattr(_current, "call", None)
    return call


def make_current(call: BlockingCall | None) -> None:
    """Set the call that this thread is making."""
    _current.call = call


class _Job(Generic[T]):
    """A call on its way through a lane."""

    def __init__(self, work: Callable[[BlockingCall], T], call: BlockingCall) -> None:
        self.work = work
        self.call = call
        self.loop = asyncio.get_running_loop()
        self.future: asyncio.Future[T] = self.loop.create_future()
        self.running = False
        self.lost = False


class Lane:
    """A bounded set of threads for one kind of call.

    All methods belong to the event loop.

    Args:
        name: name of the threads, and of the lane in errors.
        size: number of concurrent calls.
        thread_ended: called in each thread when it ends, to release what the thread owns.
        call_ended: called in the thread after each call, with False if its socket is unusable.
        idle_s: how long a thread is kept that is not needed.
    """

    def __init__(
        self,
        name: str,
        size: int,
        *,
        call_ended: Callable[[bool], None] = lambda _: None,
        thread_ended: Callable[[], None] = lambda: None,
        idle_s: float = _IDLE_S,
    ) -> None:
        self.name = name
        self._size = size
        self._call_ended = call_ended
        self._thread_ended = thread_ended
        self._idle_s = idle_s
        self._queue: queue.SimpleQueue[_Job[Any] | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._kept = 0
        """How many of them were not told to end."""
        self._started = 0
        self._most = 0
        """How many were needed at once since the last look."""
        self._look: asyncio.TimerHandle | None = None
        self._jobs: set[_Job[Any]] = set()
        self._lost = 0
        self._all_lost_since = 0.0
        self._closed = False

    @property
    def free(self) -> int:
        """How many more calls could run now."""
        return self._size - len(self._jobs) - self._lost

    @property
    def lost(self) -> int:
        """How many threads still hang in a call without a waiting caller."""
        return self._lost

    async def run(self, work: Callable[[BlockingCall], T], *, limit_s: float, operation: str) -> T:
        """Run ``work`` in a thread; return what it returns or raise what it raises.

        Args:
            work: a blocking function; gets its ``BlockingCall``.
            limit_s: deadline from now, including time in the queue.
            operation: what the call does, in ECS words, for errors.

        Raises:
            EngineTimeout: the deadline passed; the outcome is unknown.
            EngineUnavailable: the lane is closed or all its threads hang.
        """
        if self._closed:
            raise EngineUnavailable("the connection to the engine is closed", operation=operation)
        if self._hangs():
            text = f"all {self._size} threads for {self.name} hang in calls to the engine"
            raise EngineUnavailable(text, operation=operation)
        job = _Job(work, BlockingCall(limit_s, operation=operation))
        self._jobs.add(job)
        try:
            needed = min(len(self._jobs) + self._lost, self._size)
            self._most = max(self._most, needed)
            if self._kept < needed:
                self._start_thread()
            self._queue.put(job)
            async with asyncio.timeout(limit_s):
                return await job.future
        except TimeoutError:
            text = f"Could not transition to {operation}; timed out after waiting {reasons.duration(limit_s)}"
            raise EngineTimeout(text, operation=operation, limit_s=limit_s) from None
        finally:
            self._leave(job)

    async def close(self, *, limit_s: float = 2.0) -> int:
        """End all calls with ``EngineUnavailable``, and all threads; return how many still hang."""
        self._closed = True
        if self._look is not None:
            self._look.cancel()
        for job in list(self._jobs):
            job.call.abort()
            if not job.future.done():
                error = EngineUnavailable("the connection to the engine was closed")
                job.future.set_exception(error)
                # The caller may be cancelled before it sees the error.
                job.future.exception()
        for _ in self._threads:
            self._queue.put(None)
        return await join_all(self._threads, limit_s=limit_s)

    def _hangs(self) -> bool:
        """Tell whether all threads are lost permanently; most end once their socket is closed."""
        all_lost = self._lost >= self._size
        return all_lost and time.monotonic() - self._all_lost_since > _WAKING_S

    def _start_thread(self) -> None:
        name = f"engine-{self.name}-{self._started}"
        thread = threading.Thread(target=self._serve, name=name, daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            if not self._kept:
                raise EngineUnavailable(f"cannot start a thread for {self.name}: {error}") from None
            log.warning("cannot start more threads", lane=self.name, threads=self._kept)
        else:
            self._threads.append(thread)
            self._kept += 1
            self._started += 1

    def _end_idle(self) -> None:
        """End the threads that were not needed since the last look, but for one."""
        needed = max(self._most, 1)
        for _ in range(self._kept - needed):
            self._queue.put(None)
        self._kept = min(self._kept, needed)
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        self._most = min(len(self._jobs) + self._lost, self._size)
        self._look = None
        self._look_later()

    def _look_later(self) -> None:
        if self._look is None and not self._closed and self._kept > 1:
            self._look = asyncio.get_running_loop().call_later(self._idle_s, self._end_idle)

    def _leave(self, job: _Job[Any]) -> None:
        self._jobs.discard(job)
        job.call.abort()
        if job.running:
            # Its thread has not returned yet, so it counts as lost until it does.
            job.lost = True
            self._lost += 1
            if self._lost == self._size:
                self._all_lost_since = time.monotonic()
        self._look_later()

    def _returned(self, job: _Job[Any], settle: Callable[..., None], value: Any) -> None:
        job.running = False
        if job.lost:
            job.lost = False
            self._lost -= 1
        elif not job.future.done():
            settle(value)

    def _serve(self) -> None:
        try:
            while (job := self._queue.get()) is not None:
                self._perform(job)
                del job  # a waiting thread must not keep the last answer alive
        finally:
            self._thread_ended()

    def _perform(self, job: _Job[Any]) -> None:
        job.running = True
        make_current(job.call)
        settle: Callable[..., None]
        value: Any
        try:
            job.call.attach(None)
            value = job.work(job.call)
            settle = job.future.set_result
        except BaseException as error:  # noqa: BLE001 - every error is passed to the caller
            value, settle = error, job.future.set_exception
        make_current(None)
        try:
            self._call_ended(job.call.detach())
        except Exception as error:  # noqa: BLE001 - clean-up must not lose the answer or the thread
            log.warning("an engine connection did not close", lane=self.name, error=repr(error))
        with contextlib.suppress(RuntimeError):  # the loop is closed
            job.loop.call_soon_threadsafe(self._returned, job, settle, value)


async def join_all(threads: list[threading.Thread], *, limit_s: float) -> int:
    """Wait for threads that were told to end; return how many still run."""
    end = time.monotonic() + limit_s
    pause_s = 0.001
    while (alive := sum(thread.is_alive() for thread in threads)) and time.monotonic() < end:
        await asyncio.sleep(pause_s)
        pause_s = min(pause_s * 2, 0.05)
    return alive
