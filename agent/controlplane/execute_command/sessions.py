"""Sessions that were begun, the tokens that open them, and the orders by which agents connect for them.

::

    begun ──token──► open ──order to the agent──► joined ──► ended
      └── nobody comes within five minutes: forgotten

Only in memory: a session does not outlive the process that carries it. A token opens one session once, and
only its digest is kept. For one event loop.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
import time
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from agent.controlplane.authorization.open_calls import OpenCalls
from agent.errors import AgentError
from agent.model.wire import CommandOrder

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiohttp import web

    from agent.controlplane.authorization.caller import Caller
    from agent.controlplane.authorization.open_calls import AllowedCall

TOKEN_S: Final = 300.0
"""How long a token may be used."""
SESSIONS_MOST: Final = 1000
"""Begun and open ones."""
BEGUN_MOST: Final = 64
"""Begun ones of one caller: an older one that nobody has opened is forgotten for a newer one."""
AGENT_S: Final = 30.0
"""How long the agent may take to connect."""
TOLD_AGAIN_S: Final = 5.0
"""After which an order that an agent did not follow is sent again: its answer may have been lost."""
STOPS: Final = "control stops; the command was ended"
HOST_REVOKED: Final = "the identity of the host was revoked; the command was ended"
REVOKED: Final = (
    "whoever began the session may not do so any more: the key was revoked, or a policy was changed; "
    "the command was ended"
)


class TooManySessions(AgentError):
    """No more sessions can be begun now."""


class TokenRefused(AgentError):
    """A token does not open the session."""


class AgentAbsent(AgentError):
    """The agent did not connect."""


class CommandTarget(Struct, frozen=True, kw_only=True):
    """What to run, and where."""

    task_arn: str
    instance_id: str
    container: str
    words: list[str]
    log_group: str = ""
    """The group of control's logs in which output is kept; empty for none."""


class Begun(Struct, frozen=True):
    """What its client gets of a new session."""

    id: str
    token: str


class Session:
    """One session, from its token to its end."""

    def __init__(
        self,
        session_id: str,
        target: CommandTarget,
        caller: Caller,
        digest: bytes,
        expires_at: float,
    ) -> None:
        self.id = session_id
        self.target = target
        self.caller = caller
        """Who began it."""
        self.digest = digest
        self.expires_at = expires_at
        """By the monotonic clock."""
        self.over = asyncio.Event()
        """Set at its end."""
        self.stopped: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        """Why control ends it, once it does."""
        self.joined: asyncio.Future[web.WebSocketResponse] = (
            asyncio.get_running_loop().create_future()
        )
        """The WebSocket of the agent."""
        self.told_at = -TOLD_AGAIN_S
        self.release: Callable[[], None] = lambda: None
        """Has the rights of its caller be looked at no more."""

    def stop(self, why: str) -> None:
        """Have it end; the client is told why. Only the first time counts."""
        if not self.stopped.done():
            self.stopped.set_result(why)


class CommandSessions:
    """All sessions of one control."""

    def __init__(
        self,
        *,
        wake: Callable[[str], None] = lambda _: None,
        open_calls: OpenCalls | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take what to work with.

        Args:
            wake: wakes the held poll of an instance.
            open_calls: tells when the caller who began a session may not do so any more.
            clock: a monotonic one.
        """
        self._wake = wake
        self._open_calls = open_calls or OpenCalls()
        self._clock = clock
        self._begun: dict[str, Session] = {}
        self._open: dict[str, Session] = {}
        self._called: dict[str, dict[str, Session]] = {}
        """Open ones whose agent is to connect, by its instance and their ids."""
        self._is_closing = False

    def begin(self, target: CommandTarget, call: AllowedCall) -> Begun:
        """Begin a session that its token opens; raises ``TooManySessions``.

        Args:
            target: what to run.
            call: of ExecuteCommand; the session ends when its caller may not make it any more.
        """
        now = self._clock()
        for old in [one for one in self._begun.values() if one.expires_at <= now]:
            self._forget(old)
        own = [one for one in self._begun.values() if one.caller == call.caller]
        for old in own[: max(len(own) - BEGUN_MOST + 1, 0)]:
            self._forget(old)
        if self._is_closing or len(self._begun) + len(self._open) >= SESSIONS_MOST:
            raise TooManySessions(f"{SESSIONS_MOST} sessions are open or begun; end one of them")
        token = secrets.token_urlsafe(48)
        session_id = f"ecs-execute-command-{secrets.token_hex(9)[:17]}"
        session = Session(session_id, target, call.caller, _digest(token), now + TOKEN_S)
        self._begun[session_id] = session
        session.release = self._open_calls.hold(call, lambda: self._revoke(session))
        return Begun(session_id, token)

    def open(self, session_id: str, token: str) -> Session:
        """Return the session that a token opens; no token opens it again.

        Raises:
            TokenRefused: it is not the token of this session, was used, or is too old.
        """
        session = self._begun.get(session_id)
        if session is None or not hmac.compare_digest(session.digest, _digest(token)):
            raise TokenRefused("the token does not open this session, or was used already")
        if session.expires_at <= self._clock():
            self._forget(session)
            raise TokenRefused("the token is too old; call ExecuteCommand again")
        del self._begun[session_id]
        self._open[session_id] = session
        return session

    async def call_agent(self, session: Session) -> web.WebSocketResponse:
        """Have the agent connect for an open session, and return its WebSocket.

        Raises:
            AgentAbsent: it did not.
        """
        instance_id = session.target.instance_id
        self._called.setdefault(instance_id, {})[session.id] = session
        try:
            async with asyncio.timeout(AGENT_S):
                while not session.joined.done():
                    self._wake(instance_id)
                    await asyncio.wait({session.joined}, timeout=TOLD_AGAIN_S)
        except TimeoutError:
            raise AgentAbsent("the agent of the task's host did not connect in time") from None
        finally:
            called = self._called[instance_id]
            del called[session.id]
            if not called:
                del self._called[instance_id]
        return session.joined.result()

    def is_calling(self, instance_id: str) -> bool:
        """Return whether an instance is to connect for a session, so that each poll has to look at ``orders``."""
        return bool(self._called.get(instance_id))

    def orders(self, instance_id: str) -> list[CommandOrder]:
        """Return what an instance is told now: sessions that it did not connect for, not told just before."""
        now = self._clock()
        told = [
            one
            for one in self._called.get(instance_id, {}).values()
            if not one.joined.done() and now - one.told_at >= TOLD_AGAIN_S
        ]
        for one in told:
            one.told_at = now
        return [CommandOrder(session_id=one.id, task_arn=one.target.task_arn) for one in told]

    def expected(self, session_id: str, instance_id: str) -> Session | None:
        """Return the session that an instance may connect for; None if there is none of that id."""
        session = self._open.get(session_id)
        if session is None or session.target.instance_id != instance_id:
            return None
        return None if session.joined.done() or session.over.is_set() else session

    def end(self, session: Session) -> None:
        """Take note that a session is over: its agent ends the command. Idempotent."""
        session.over.set()
        session.release()
        self._open.pop(session.id, None)

    def end_on(self, instance_id: str) -> None:
        """End all sessions on an instance whose host may not be spoken to any more."""
        every = [*self._begun.values(), *self._open.values()]
        for session in [one for one in every if one.target.instance_id == instance_id]:
            self._begun.pop(session.id, None)
            session.stop(HOST_REVOKED)

    def close(self) -> None:
        """Tell every client that control stops, and begin no more sessions."""
        self._is_closing = True
        for session in list(self._begun.values()):
            self._forget(session)
        for session in self._open.values():
            session.stop(STOPS)

    def _forget(self, session: Session) -> None:
        session.release()
        del self._begun[session.id]

    def _revoke(self, session: Session) -> None:
        self._begun.pop(session.id, None)
        session.stop(REVOKED)


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
