"""What accepts calls: the agents' protocols, the APIs, and the addresses where they are served."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Self

from agent.controlplane.agents.amazon.wire import EcsWire
from agent.controlplane.agents.longpoll.http import AgentWire
from agent.controlplane.front import sites
from agent.controlplane.front.applications import Applications
from agent.controlplane.front.sites import Front
from agent.controlplane.monitoring.calls import Monitoring
from agent.controlplane.monitoring.reader_tokens import ReaderTokens
from agent.controlplane.server.operator_access import OperatorAccess

if TYPE_CHECKING:
    import contextlib
    from collections.abc import Mapping

    from agent.controlplane.front import address as address_file
    from agent.controlplane.front.forward_targets import Target
    from agent.controlplane.front.forwarder import Forwarder
    from agent.controlplane.parts import Parts
    from agent.controlplane.server.opening import Opened
    from agent.controlplane.server.settings import ControlSettings


class Doors(NamedTuple):
    """Calls are answered while these are open."""

    wire: AgentWire
    ecs: EcsWire
    applications: Applications
    access: OperatorAccess
    readers: ReaderTokens
    front: Front

    @classmethod
    async def open(
        cls, settings: ControlSettings, opened: Opened, cleanup: contextlib.AsyncExitStack
    ) -> Self:
        """Open all addresses; ``cleanup`` closes them.

        Raises:
            ListenFailure: an address cannot be bound.
            ConfigError: keys or tokens cannot be used, or calls of a service that is served here are to be
                sent on.
        """
        wire, ecs = AgentWire(opened.agent_parts), EcsWire(opened.agent_parts)
        readers = await ReaderTokens.open(settings.metrics_token_file)
        applications = await Applications.open(
            opened.parts,
            wire,
            ecs,
            Monitoring(opened.parts, readers, opened.wakeups),
            forwarder=await _forwarder(opened.parts, settings.forward, cleanup),
            console=settings.console,
            has_keys=settings.keys_file is not None,
        )
        access = await OperatorAccess.open(settings, opened)
        front = await Front.open(
            settings,
            opened.certificates.context if opened.certificates is not None else None,
            applications,
            access.operators,
            own_names_only=access.own_names_only,
        )
        doors = cls(wire, ecs, applications, access, readers, front)
        cleanup.push_async_callback(front.close)
        cleanup.callback(doors.end_held_calls)
        front.warn(opened.agent_tokens, is_open=settings.keys_file is None)
        return doors

    def address(self, settings: ControlSettings) -> address_file.Address:
        """Return what programs on this host need to call the APIs."""
        return sites.address(settings, *self.front.operators, self.applications.endpoint_variables)

    def end_held_calls(self) -> None:
        """Answer held polls, and end streams and sessions."""
        self.wire.close()
        self.ecs.close()
        self.applications.close()


async def _forwarder(
    parts: Parts, targets: Mapping[str, Target], cleanup: contextlib.AsyncExitStack
) -> Forwarder | None:
    """Return what sends calls on, which ``cleanup`` closes; None if no calls are."""
    if not targets:
        return None
    from agent.controlplane.front.forwarder import Forwarder  # noqa: PLC0415 - rarely needed

    forwarder = await Forwarder.open(parts, targets)
    cleanup.push_async_callback(forwarder.close)
    return forwarder
