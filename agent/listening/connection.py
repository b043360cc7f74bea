"""One HTTP connection from an unknown sender, with time limits and one-line error logs.

aiohttp reads requests and writes responses; this module adds the limits that aiohttp lacks:

- The first head must be complete ten seconds after the connection, later ones ten seconds after
  their first byte.
- Until the sender is proven, the connection serves one request, and answers are rate-limited.
- A sender that does not read its answers is disconnected; it is looked at while something is unsent.
- Anything that is not HTTP gets a 400 and a rate-limited log line, without a traceback.

Bodies are passed on as they were sent; nothing is decompressed here. A request that is repeated may wait without being
read anew (``repeats``).
"""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any, cast

from aiohttp import EMPTY_PAYLOAD, HttpVersion11, web

from agent.listening.repeats import HEAD_END, Repeated

if TYPE_CHECKING:
    from aiohttp import StreamReader
    from aiohttp.web_request import BaseRequest

    from agent.listening.limits import Limits
    from agent.listening.rates import RateLimits
    from agent.listening.repeats import Waiting
    from agent.listening.table import ConnectionTable, OpenConnection
    from agent.throttle import LogThrottle

_MAX_HEADERS = 64
_READ_BUFFER_BYTES = 64 * 1024
_LOOKS_OF_A_STALL = 3
_LEAST_PROGRESS_BYTES = 1024
_CAUSE_LIMIT = 200
"""Characters of an error text that are logged."""
_QUOTED = re.compile(r"""\n|b?['"]|when reading""")
"""Where an error text begins to quote what was sent."""


class Shared:
    """What all connections of one server have in common."""

    def __init__(
        self, limits: Limits, table: ConnectionTable, log: LogThrottle, rates: RateLimits
    ) -> None:
        self.limits = limits
        self.table = table
        self.log = log
        self.rates = rates


def prove(request: web.BaseRequest) -> None:
    """Mark the sender of a request as known, so that its connection is closed after others.

    Call it once per verified request, before anything is done for it. Has no effect on servers without a
    connection table.

    Raises:
        CancelledError: the connection was closed, because a call is in progress on as many as there may be.
    """
    protocol = request.protocol
    if isinstance(protocol, Connection):
        protocol.prove()


def wait_for_reader(request: web.BaseRequest) -> None:
    """Keep the connection of a verified sender that does not read for a while: a person may stop the output.

    Whoever answers must bound what is under way to it.
    """
    protocol = request.protocol
    if isinstance(protocol, Connection):
        protocol.wait_for_reader()


def repeat(request: web.BaseRequest, waiting: Waiting) -> None:
    """Have the same request, should it come next on its connection, wait with ``waiting`` without being read anew."""
    protocol = request.protocol
    if isinstance(protocol, Connection) and request.version >= HttpVersion11:
        protocol.repeat(waiting)


def waited_s(request: web.BaseRequest) -> float | None:
    """Return for how long a request has waited before it was read; None for one that has just come."""
    protocol = request.protocol
    return protocol.waited_s if isinstance(protocol, Connection) else None


class Connection(web.RequestHandler):
    """The protocol of one connection."""

    __slots__ = (
        "_answered",
        "_body",
        "_entry",
        "_head_bytes",
        "_head_due",
        "_is_broken",
        "_is_patient",
        "_look",
        "_raw",
        "_repeated",
        "_rest_bytes",
        "_shared",
        "_stalled",
        "_unsent",
        "_waited_since",
        "_wire",
    )

    def __init__(
        self, manager: web.Server, shared: Shared, entry: OpenConnection, *, lingering_s: float
    ) -> None:
        limits = shared.limits
        super().__init__(
            manager,
            loop=asyncio.get_running_loop(),
            keepalive_timeout=limits.idle_s,
            access_log=None,  # type: ignore[arg-type] # as in AppRunner
            lingering_time=lingering_s,
            read_bufsize=_READ_BUFFER_BYTES,
            auto_decompress=False,
            max_headers=_MAX_HEADERS,
        )
        self._shared = shared
        self._entry = entry
        self._wire: asyncio.Transport | None = None
        self._look: asyncio.TimerHandle | None = None
        self._head_due: float | None = None
        self._head_bytes = 0
        self._rest_bytes = 0
        self._answered = 0
        self._body: StreamReader | None = None
        self._is_broken = False
        self._is_patient = False
        self._unsent = 0
        self._stalled = 0
        self._raw = b""
        """The request that is being answered, if it could be repeated."""
        self._repeated: Repeated | None = None
        self._waited_since: float | None = None

    @property
    def waited_s(self) -> float | None:
        """For how long the request that is being answered has waited before it was read; None for most."""
        since = self._waited_since
        return None if since is None else self._loop.time() - since

    def repeat(self, waiting: Waiting) -> None:
        """Have the request that is being answered wait with ``waiting`` when it comes again."""
        if self._raw:
            self._repeated = Repeated(
                self._raw, waiting, write=self._send, read=self._resume, is_gone=self._is_ending
            )

    def prove(self) -> None:
        """Mark the sender as known; raises ``CancelledError`` if the connection was closed to make room."""
        self._shared.table.prove(self._entry)
        # Nobody would get the answer, and whoever asks again needs the time.
        if not self._entry.is_open:
            raise asyncio.CancelledError

    def wait_for_reader(self) -> None:
        """Do not end the connection because its sender does not read."""
        self._is_patient = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start to wait for a request."""
        self._wire = cast("asyncio.Transport", transport)
        self._entry.close = self._wire.abort
        super().connection_made(transport)
        self._await_head()
        if not self._entry.is_open:  # It was closed to make room while it was being set up.
            self._wire.abort()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Remove the connection from the table."""
        self._shared.table.leave(self._entry)
        if self._look is not None:
            self._look.cancel()
        if self._repeated is not None:
            self._repeated.drop()
            self._repeated = None
        self._wire = None
        super().connection_lost(exc)
        # Release the received data now: it is part of reference cycles, and a full garbage
        # collection comes only after some tens of thousands of objects, however large they are.
        self._body = None
        self._messages.clear()

    def data_received(self, data: bytes) -> None:
        """Receive bytes, valid HTTP or not."""
        if self._repeated is not None:
            if self._repeated.is_waiting:
                self._repeated.interrupt()
            elif self._waits_again(self._repeated, data):
                return
            self._repeated = None
        self._take(data)

    def _take(self, data: bytes) -> None:
        heads = self._request_count
        is_between = self._answered == heads
        is_rest = is_between and self._body is not None and not self._body.is_eof()
        self._shared.table.received(self._entry, len(data))
        if is_rest:
            self._rest_bytes += len(data)
            is_much = self._rest_bytes > self._shared.limits.lingering_bytes
            if is_much and not self._entry.is_proven:
                self._abort()
        if not self._entry.is_open or self._is_broken:
            return
        is_start = is_between and not is_rest and self._head_bytes == 0
        super().data_received(data)
        self._look_for_the_end()
        if is_start:
            self._raw = data if self._is_whole(data, heads) else b""
        if self._request_count > heads:
            self._head_due = None
            self._head_bytes = self._rest_bytes = 0
            self._shared.table.begin(self._entry)
        elif data and is_between and not is_rest:
            self._take_head(len(data))

    def _is_whole(self, data: bytes, heads: int) -> bool:
        """Return whether data was one request without a body, and nothing more."""
        return (
            self._request_count == heads + 1
            and len(self._messages) == 1
            and self._messages[0][1] is EMPTY_PAYLOAD
            and data.endswith(HEAD_END)
        )

    def _waits_again(self, repeated: Repeated, data: bytes) -> bool:
        """Return whether data is the request that was answered last, and waits."""
        if self._answered != self._request_count or not self._entry.is_proven:
            return False
        if not repeated.begin(data, self._loop.time()):
            return False
        self._shared.table.begin(self._entry)
        return True

    def _is_ending(self) -> bool:
        return (
            self._wire is None or self._wire.is_closing() or bool(self._close or self._force_close)
        )

    def _send(self, answer: bytes) -> None:
        """Send the answer to a request that was not read."""
        if self._wire is not None:
            self._next_keepalive_close_time = self._loop.time() + self._shared.limits.idle_s
            self._wire.write(answer)
            self._shared.table.end(self._entry)
            self._watch_reader()

    def _resume(self, request: bytes) -> None:
        """Handle a request that has waited."""
        repeated, self._repeated = self._repeated, None
        self._waited_since = repeated.since if repeated is not None else None
        self._take(request)

    def _process_keepalive(self) -> None:
        """Close a connection that is idle for long, as aiohttp does; one whose request waits is not."""
        if self._repeated is not None and self._repeated.is_waiting:
            self._next_keepalive_close_time = self._loop.time() + self._shared.limits.idle_s
        super()._process_keepalive()

    def _look_for_the_end(self) -> None:
        """Stop reading after data that is not HTTP.

        aiohttp would store an error for each further chunk, and the chunk with its traceback.
        """
        error = getattr(self._messages[-1][0], "exc", None) if self._messages else None
        if error is not None:
            error.__traceback__ = None
            self._is_broken = True

    def _take_head(self, size: int) -> None:
        """Count the bytes of an incomplete head."""
        self._shared.table.begin(self._entry)
        self._head_bytes += size
        if self._head_due is None:
            self._await_head()
        if self._head_bytes > self._shared.limits.head_bytes:
            self._note("request head too large")
            self._abort()

    async def finish_response(
        self, request: BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Send an answer; one to a stranger may be delayed, and is its last."""
        if not self._entry.is_proven and not resp.prepared:
            resp.force_close()
            if not self._shared.rates.take(self._entry.address):
                await asyncio.sleep(self._shared.limits.answer_delay_s)
        if not self._entry.is_proven:
            self._message_tail = b""  # A stranger has only one request: ignore what follows it.
        sent = await super().finish_response(request, resp, start_time)
        self._answered += 1
        self._raw, self._waited_since = b"", None
        if not resp.keep_alive:
            self._repeated = None
        if not self._messages:
            self._shared.table.end(self._entry)
        self._body = request.content if self._wire is not None else None
        self._watch_reader()
        return sent

    def pause_writing(self) -> None:
        """Take note that the sender reads more slowly than it is answered."""
        super().pause_writing()
        self._watch_reader()

    def handle_error(
        self,
        request: BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Return the error response to invalid HTTP, or to a request whose handler failed.

        Raises:
            ConnectionError: part of another response has already been sent.
        """
        if status >= 500:  # A bug of ours: log the traceback.
            self._shared.log.note("request failed", peer=self._entry.address, exc_info=exc)
        else:
            self._note("not an HTTP request", cause=_shown(exc))
        if request.writer.output_size > 0:
            raise ConnectionError("part of the answer has already been sent")
        text = "not an HTTP request\n" if status < 500 else "internal server error\n"
        answer = web.Response(status=status, text=text)
        answer.force_close()
        return answer

    def log_exception(self, *args: Any, **kw: Any) -> None:
        """Log a connection error in one line, rate-limited."""
        self._note("connection error", cause=_shown(kw.get("exc_info")))

    def _watch_reader(self) -> None:
        """Look whether the sender reads, if something is unsent; a connection that only waits costs no timer."""
        if self._look is None and self._wire is not None and self._wire.get_write_buffer_size():
            self._unsent = self._stalled = 0
            self._arm(self._shared.limits.stall_s)

    def _await_head(self) -> None:
        self._head_due = self._loop.time() + self._shared.limits.head_s
        self._arm(self._shared.limits.head_s)

    def _arm(self, delay_s: float) -> None:
        if self._look is not None:
            self._look.cancel()
        self._look = self._loop.call_later(delay_s, self._look_at_it)

    def _look_at_it(self) -> None:
        """Close the connection if its time is up, else schedule the next check if one is needed."""
        self._look = None
        wire, now = self._wire, self._loop.time()
        if wire is None:
            return
        if self._head_due is not None and now >= self._head_due:
            self._note("request not complete in time")
            self._abort()
            return
        unsent = wire.get_write_buffer_size()
        moved = self._unsent - unsent >= _LEAST_PROGRESS_BYTES
        self._stalled = self._stalled + 1 if unsent and not moved else 0
        self._unsent = unsent
        is_awaited = self._is_patient or self._entry.is_trusted
        if self._stalled >= _LOOKS_OF_A_STALL and not is_awaited:
            self._note("answer not read")
            self._abort()
            return
        due_s = self._shared.limits.stall_s if unsent else None
        if self._head_due is not None:
            due_s = min(due_s or self._shared.limits.head_s, self._head_due - now)
        if due_s is not None:
            self._arm(due_s)

    def _abort(self) -> None:
        if self._wire is not None:
            self._wire.abort()

    def _note(self, event: str, **values: object) -> None:
        self._shared.log.note(f"connection closed: {event}", peer=self._entry.address, **values)


def _shown(error: object) -> str:
    """Return an error in short form for the log, without control characters.

    What the sender sent is left out, which parsers quote or put on lines of its own: it may be a token.
    """
    text = str(getattr(error, "message", "") or error)
    return ascii(_QUOTED.split(text, maxsplit=1)[0].rstrip(" :"))[1:-1][:_CAUSE_LIMIT]
