"""Sessions that end because their host may not be spoken to any more."""

from __future__ import annotations

import pytest

from agent.controlplane.authorization.caller import Caller
from agent.controlplane.authorization.open_calls import AllowedCall
from agent.controlplane.execute_command.sessions import (
    HOST_REVOKED,
    CommandSessions,
    CommandTarget,
    Session,
    TokenRefused,
)


class _Host:
    """One instance, and sessions on it."""

    def __init__(self, commands: CommandSessions, instance_id: str) -> None:
        self._commands = commands
        self._target = CommandTarget(
            task_arn=f"arn:aws:ecs:us-east-1:000000000000:task/default/{instance_id}",
            instance_id=instance_id,
            container="main",
            words=["sh"],
        )
        self._call = AllowedCall(Caller(type="ROOT", name="root"))

    def begun(self) -> tuple[str, str]:
        begun = self._commands.begin(self._target, self._call)
        return begun.id, begun.token

    def opened(self) -> Session:
        return self._commands.open(*self.begun())


async def test_sessions_on_a_revoked_host_end_and_others_go_on() -> None:
    commands = CommandSessions()
    stolen, other = _Host(commands, "stolen"), _Host(commands, "other")
    ended, goes_on = stolen.opened(), other.opened()
    unused, usable = stolen.begun(), other.begun()

    commands.end_on("stolen")

    assert ended.stopped.result() == HOST_REVOKED
    assert not goes_on.stopped.done()
    with pytest.raises(TokenRefused):
        commands.open(*unused)
    assert commands.open(*usable).id == usable[0]
