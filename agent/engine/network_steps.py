"""The steps for sandboxes: claim a task's, replace a lost one, release it; create containers in one.

As in ``steps``, they access the network but never the record: each returns a function that records
its outcome.

Tests: ``tests/unit/engine/test_steps.py``, ``tests/unit/engine/test_engine_trouble.py``.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import structlog

from agent.engine import container_body, ports, static_address, warm_network
from agent.engine.settle import forget_creation
from agent.errors import EngineRefused, NoSuchContainer, SandboxLost
from agent.model.status import ContainerStatus, NetworkMode
from agent.network.container_sandboxes.kinds import Kind
from agent.runtime.protocol import joined

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from agent.engine.container_body import ContainerContext
    from agent.engine.live import LiveState
    from agent.engine.tools import Outcome, RecordWriter, StepTools
    from agent.model.payload import Container
    from agent.model.task import AgentContainer, AgentTask
    from agent.runtime.protocol import ContainerState

T = TypeVar("T")

_log = structlog.get_logger()


class NetworkSteps:
    """The sandbox of one task."""

    def __init__(
        self, record: AgentTask, live: LiveState, tools: StepTools, writer: RecordWriter
    ) -> None:
        self._record = record
        self._live = live
        self._tools = tools
        self._writer = writer

    async def claim(self, _key: str) -> Outcome:
        """Give the task a sandbox."""
        if self._live.network_doubtful and not await self._tools.network_alive(self._record.arn):
            # The sandbox of an earlier try may be dead by now.
            await self._tools.release_network(self._record.arn)
        payload = self._record.payload
        interface = next(
            (a for a in payload.attachments if a.attachment_type == "ElasticNetworkInterface"), None
        )
        attachment_id = interface.attachment_arn.rsplit("/", 1)[-1] if interface else ""
        interfaces = payload.elastic_network_interfaces
        if interfaces and self._tools.claim_eni is not None:
            network = await self._tools.claim_eni(self._record.arn, attachment_id, interfaces)
        else:
            groups = interface.security_groups if interface else ()
            network = await self._tools.claim_network(
                self._record.arn, attachment_id, groups, static_address.asked_for(payload)
            )
            if payload.alias_ports and self._tools.lead_alias_ports is not None:
                await self._tools.lead_alias_ports(network, payload.alias_ports)

        def outcome(_now: float) -> None:
            self._record.network = network
            self._record.network_held = True

        return outcome

    async def renew(self, key: str) -> Outcome:
        """Claim another sandbox for a task that has started nothing in the lost one.

        Containers that were created in the lost sandbox are created again; the create step finds
        the old ones by their names.
        """
        record, live = self._record, self._live

        def forget(_now: float) -> None:
            for container in record.containers.values():
                if container.known is ContainerStatus.CREATED:
                    forget_creation(container, live)

        self._writer.post(forget)
        await self._writer.saved()
        await self._tools.release_network(record.arn)
        claimed = await self.claim(key)

        def outcome(now: float) -> None:
            _log.warning("sandbox of a task replaced", task=record.arn, reason=live.network_lost)
            claimed(now)
            live.network_lost = ""
            live.networks_replaced += 1

        return outcome

    async def release(self, _key: str) -> Outcome:
        """Release the task's sandbox."""
        self._live.release_tried = True  # a failing release must not delay the final report
        await self._tools.release_network(self._record.arn)

        def outcome(_now: float) -> None:
            self._record.network_held = False
            self._live.network_doubtful = False
            self._live.network_lost = ""

        return outcome

    def is_of_lost_one(self, seen: ContainerState) -> bool:
        """Return whether a container never ran and was created in a sandbox that was lost since."""
        network = self._record.network
        if network is None or seen.running or seen.started_at:
            return False
        own = {network.sandbox_id, *(each.namespaces for each in self._live.prepared.values()), ""}
        modes = (seen.network_mode, seen.pid_mode, seen.ipc_mode)
        return any(joined(mode) not in own for mode in modes)

    def choose(self, definition: Container, around: ContainerContext) -> str:
        """Return the engine id of a ready sandbox for a container; empty to leave it to the engine.

        A container whose ports were picked already keeps them, and the sandbox that it has by now.

        Raises:
            PayloadError: the container cannot be created as ordered.
        """
        record, sandboxes = self._record, self._tools.container_sandboxes
        if warm_network.why_not_in_task(record.payload, definition):
            return ""
        picked, bindings, published = {}, {}, None
        if record.payload.mode is NetworkMode.BRIDGE:
            picked = ports.stand_ins(definition)
            bindings = ports.port_bindings(definition, picked)
            published = ports.ready_ports(definition)
        was_picked = not picked.keys().isdisjoint(record.host_ports)
        if was_picked and not sandboxes.of(record.arn, definition.name):
            return ""
        body = container_body.body(record.payload, definition, replace(around, host_ports=picked))
        mode = record.payload.mode.value
        if warm_network.why_not(body, mode, bindings):
            return ""
        return sandboxes.take(record.arn, definition.name, Kind(mode, published or ()))

    async def create(
        self,
        sandbox: str,
        body: dict[str, Any],
        make: Callable[[dict[str, Any]], Awaitable[str]],
    ) -> str:
        """Create a container, in a ready sandbox if it has one; return its engine id.

        Args:
            sandbox: what ``choose`` returned.
            body: its create body, with a network from the engine.
            make: creates it; raises ``RuntimeFailure``.
        """
        if sandbox:
            try:
                return await make(warm_network.joined(body, sandbox))
            except (EngineRefused, NoSuchContainer):
                if self._tools.container_sandboxes.is_alive(sandbox):
                    raise
        return await self.within(make(body))

    def bindings(self, seen: ContainerState) -> Mapping[str, list[int]]:
        """Return the host ports of a container or of its sandbox, by ``port/protocol``."""
        return seen.port_bindings or self._tools.container_sandboxes.bindings(
            joined(seen.network_mode)
        )

    def can_never_start(self, container: AgentContainer) -> bool:
        """Return whether it never ran, and the sandbox of its own that it joined is gone."""
        if container.started_at or container.name in self._live.restarting:
            return False
        sandboxes = self._tools.container_sandboxes
        sandbox = sandboxes.of(self._record.arn, container.name)
        return bool(sandbox) and not sandboxes.is_alive(sandbox)

    async def within(self, call: Awaitable[T]) -> T:
        """Make a call that needs the task's sandbox; raises ``SandboxLost`` if that is gone."""
        try:
            return await call
        except (EngineRefused, NoSuchContainer) as error:
            network = self._record.network
            if network is None or await self._tools.network_alive(self._record.arn):
                raise
            raise SandboxLost(
                f"the task's network sandbox {network.any_address} is gone: {error}"
            ) from None
