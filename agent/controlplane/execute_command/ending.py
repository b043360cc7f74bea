"""How a session ends: whatever ends it raises ``Ended`` in its group of tasks."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from agent.controlplane.execute_command.agent_link import AgentLost
from agent.controlplane.execute_command.sessions import AgentAbsent
from agent.controlplane.execute_command.transcript import TranscriptFailed
from agent.errors import AgentError, leaves

if TYPE_CHECKING:
    from agent.controlplane.execute_command.sessions import Session


IDLE_S: Final = 20 * 60.0
"""A session without input and output ends after this time, as on Amazon ECS."""


class Ended(AgentError):
    """The session is over; the text tells its client why, empty if there is nothing to say."""


class ClientGone(Ended):
    """The client has left, or does not follow the protocol: it is told nothing."""


ENDINGS = (Ended, AgentLost, AgentAbsent, TranscriptFailed)
"""What may end the group of tasks of a session."""


class Idle:
    """Ends a session in which nothing has passed for a while."""

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._active_at = asyncio.get_running_loop().time()

    def passed(self) -> None:
        """Take note of input or output."""
        self._active_at = asyncio.get_running_loop().time()

    async def watch(self) -> None:
        """Raise ``Ended`` when nothing has passed for too long."""
        loop = asyncio.get_running_loop()
        while (left_s := self._active_at + self._limit_s - loop.time()) > 0:  # noqa: ASYNC110 - once a limit
            await asyncio.sleep(left_s)
        raise Ended(f"nothing was typed or shown for {self._limit_s / 60:g} minutes")


async def control_stops(session: Session) -> None:
    """Raise ``Ended`` when control ends the session."""
    raise Ended(await asyncio.shield(session.stopped))


def first(errors: BaseExceptionGroup[BaseException]) -> AgentError:
    """Return what ended a session; that its client has left goes before what followed from it."""
    found = list(leaves(errors))
    gone = next((one for one in found if isinstance(one, ClientGone)), None)
    cause = gone or found[0]
    if not isinstance(cause, AgentError):
        raise cause
    return cause
