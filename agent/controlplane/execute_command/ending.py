"""How a session ends: whatever ends it raises ``Ended`` in its group of tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.controlplane.execute_command.agent_link import AgentLost
from agent.controlplane.execute_command.sessions import AgentAbsent
from agent.controlplane.execute_command.transcript import TranscriptFailed
from agent.errors import AgentError, leaves

if TYPE_CHECKING:
    from agent.controlplane.execute_command.sessions import Session

STOPS = "control stops; the command was ended"


class Ended(AgentError):
    """The session is over; the text tells its client why, empty if there is nothing to say."""


class ClientGone(Ended):
    """The client has left, or does not follow the protocol: it is told nothing."""


ENDINGS = (Ended, AgentLost, AgentAbsent, TranscriptFailed)
"""What may end the group of tasks of a session."""


async def control_stops(session: Session) -> None:
    """Raise ``Ended`` when control stops."""
    await session.stopped.wait()
    raise Ended(STOPS)


def first(errors: BaseExceptionGroup[BaseException]) -> AgentError:
    """Return what ended a session; that its client has left goes before what followed from it."""
    found = list(leaves(errors))
    gone = next((one for one in found if isinstance(one, ClientGone)), None)
    cause = gone or found[0]
    if not isinstance(cause, AgentError):
        raise cause
    return cause
