"""Carries out the steps of a plan: one coroutine per kind, each idempotent and safe to cancel.

A step accesses the container engine, the network or the images, but never the record. It returns a
function that the runner calls with the time to record the outcome. What must be recorded before a
step can continue also goes to the runner, through ``RecordWriter``. Failures are raised as
``AgentError`` and judged by ``failures``.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import msgspec
import structlog

from agent.engine import (
    container_body,
    loopback_only,
    observe,
    ports,
    shared_namespaces,
)
from agent.engine.container_body import ContainerContext
from agent.engine.firelens import order as firelens
from agent.engine.firelens.configuration import PORT as FORWARD_PORT
from agent.engine.hiding import hidden, without
from agent.engine.image_steps import ImageSteps
from agent.engine.labels import LABEL_OWNER, LABEL_TASK
from agent.engine.live import LiveState, Step, StepKind
from agent.engine.mounted_files import MountedFiles
from agent.engine.network_steps import NetworkSteps
from agent.engine.port_steps import PortSteps
from agent.engine.preparations import table as preparations
from agent.engine.preparations.contract import HostAccess, Provision
from agent.engine.settle import forget_creation
from agent.errors import (
    AgentError,
    EngineRefused,
    NameConflict,
    NoSuchContainer,
    NoSuchImage,
    PayloadError,
    PortTaken,
    RuntimeFailure,
    StartForgotten,
)
from agent.model import ids, reasons
from agent.model.status import ContainerStatus, DesiredStatus, NetworkMode

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from agent.engine.tools import MetadataFile, Outcome, RecordWriter, StepSettings, StepTools
    from agent.model.payload import Container
    from agent.model.task import AgentContainer, AgentTask
    from agent.runtime.protocol import ContainerState

ROUTER_ADDRESS_S: Final = 60.0
"""How long a container waits for the address of its log router."""
ROUTER_LOOK_S: Final = 0.5
OTHER_PORTS_TRIES: Final = 3
"""How often the containers of a task get other ports: whoever takes them all does not do so by chance."""

_log = structlog.get_logger()


class Steps:
    """The steps of one task."""

    def __init__(
        self,
        record: AgentTask,
        live: LiveState,
        tools: StepTools,
        settings: StepSettings,
        writer: RecordWriter,
    ) -> None:
        self._record = record
        self._live = live
        self._tools = tools
        self._settings = settings
        self._access = HostAccess(
            runtime=tools.runtime,
            owner=settings.owner,
            groups=tools.groups,
            namespaces=tools.namespaces,
            credentials=tools.role_credentials,
            aws=tools.aws,
            control_secrets=tools.control_secrets,
            firelens=settings.firelens,
            efs=settings.efs,
            host_policy=settings.host_policy,
            log_relay=tools.log_relay,
        )
        self._writer = writer
        self._files = MountedFiles(record, tools)
        self._other_ports = 0
        """How often a container got other ports, since those picked for it were taken."""
        self._made_here: set[str] = set()
        """Containers that this process has created."""
        self._network = NetworkSteps(record, live, tools, writer)
        self._images = ImageSteps(record, live, tools, writer)
        self._ports = PortSteps(record, tools.ports, writer)
        self._methods: dict[StepKind, Callable[[str], Awaitable[Outcome]]] = {
            StepKind.CLAIM_NETWORK: self._network.claim,
            StepKind.RELEASE_NETWORK: self._network.release,
            StepKind.RENEW_NETWORK: self._network.renew,
            StepKind.PREPARE: self._prepare,
            StepKind.PULL: lambda name: self._images.pull(self._definition(name)),
            StepKind.CREATE: self._create,
            StepKind.START: self._start,
            StepKind.STOP: self._stop,
            StepKind.INSPECT: self._inspect,
            StepKind.CLEAN: self._clean,
        }

    async def do(self, step: Step) -> Outcome:
        """Do one step and return the function that records its outcome; raises ``AgentError``."""
        try:
            return await self._methods[step.kind](step.key)
        except RuntimeFailure as error:
            error.args = (self._shown(step.key, str(error)),)
            raise

    # -- preparations of the task -----------------------------------------------------------------

    async def _prepare(self, key: str) -> Outcome:
        preparation = preparations.of_step(key)
        provision = await preparation.prepare(self._record.payload, self._access)

        def outcome(_now: float) -> None:
            self._live.prepared[key] = provision

        return outcome

    # -- one container ------------------------------------------------------------------------

    async def _create(self, name: str) -> Outcome:
        record = self._record
        definition = self._definition(name)
        resolv_conf = await self._files.resolv_conf(definition)
        region, image_variables = await self._images.region(definition)
        file = await self._metadata_file(name)
        around = ContainerContext(
            cluster=ids.task_cluster(record.arn, self._settings.cluster),
            owner=self._settings.owner,
            sandbox_id=record.network.sandbox_id if record.network else "",
            resolv_conf=resolv_conf,
            provision=Provision.merged(self._live.prepared.values()),
            image=record.containers[name].image_name,
            image_variables=image_variables,
            region=region,
            environment={
                **self._tools.endpoint_variables(record.arn, name),
                **(file.variables if file else {}),
                **await self._router_variables(definition),
            },
            binds=(file.bind,) if file else (),
            gpus=self._settings.gpus,
        )
        sandbox = self._network.choose(definition, around)
        if sandbox:
            bindings = self._tools.container_sandboxes.bindings(sandbox)
            await self._ports.have(definition, bindings)
        else:
            await self._ports.pick(definition)
            certain = ports.certain_ports(record.payload, definition)
            await self._tools.container_sandboxes.give_way(certain)
        around = replace(around, host_ports=record.host_ports)
        body = await self._without_network(
            name, container_body.body(record.payload, definition, around)
        )
        engine_name = container_body.engine_name(record.payload, name)
        container = record.containers[name]
        make = partial(self._make, definition, engine_name, around)
        try:
            runtime_id = await self._network.create(sandbox, body, make)
        except NameConflict:
            seen = await self._adopt(engine_name)
            if not self._network.is_of_lost_one(seen):
                return self._see(name, seen)
            await self._tools.runtime.remove_container(seen.id, force=True)
            runtime_id = await self._network.create(sandbox, body, make)

        self._made_here.add(name)

        def outcome(now: float) -> None:
            container.engine_name = engine_name
            observe.created(container, runtime_id, now)

        return outcome

    async def _metadata_file(self, name: str) -> MetadataFile | None:
        files = self._tools.metadata_files
        return await files.write(self._record.payload, name) if files is not None else None

    async def _router_variables(self, definition: Container) -> dict[str, str]:
        """Return where a container in bridge mode finds its log router, which runs already."""
        payload = self._record.payload
        router = firelens.router_of(payload)
        if payload.mode is not NetworkMode.BRIDGE or router is None:
            return {}
        if not firelens.is_routed(definition):
            return {}
        try:
            async with asyncio.timeout(ROUTER_ADDRESS_S):
                address = await self._address_of(container_body.engine_name(payload, router.name))
        except TimeoutError:
            text = f"the log router {router.name} had no address within {ROUTER_ADDRESS_S:g} s"
            raise EngineRefused(text, operation="created") from None
        return {"FLUENT_HOST": address, "FLUENT_PORT": str(FORWARD_PORT)} if address else {}

    async def _address_of(self, engine_name: str) -> str:
        """Return the address of a container as soon as it has one; empty if it does not run."""
        while True:
            seen = await self._tools.runtime.inspect_container(engine_name)
            if seen.ipv4 or not seen.running:
                return seen.ipv4
            await asyncio.sleep(ROUTER_LOOK_S)

    async def _make(
        self,
        definition: Container,
        engine_name: str,
        around: ContainerContext,
        body: dict[str, Any],
    ) -> str:
        """Create the container; if its image was removed after the pull, pull it again."""
        runtime, limit_s = self._tools.runtime, self._settings.create_limit_s
        await self._ask_host_policy(definition.name, around, body)
        try:
            return await runtime.create_container(engine_name, body, limit_s=limit_s)
        except NoSuchImage:
            _log.warning(
                "an image was removed after its pull; pulling again", container=engine_name
            )
            again = await self._images.ensure(definition)
        body = {**body, "Image": again.local_name or body["Image"]}
        around = replace(around, image=again.local_name)
        await self._ask_host_policy(definition.name, around, body)
        return await runtime.create_container(engine_name, body, limit_s=limit_s)

    async def _ask_host_policy(
        self, name: str, around: ContainerContext, body: dict[str, Any]
    ) -> None:
        """Have the host's own policy decide about a request that nothing changes any more."""
        if self._settings.host_policy is not None:
            await self._settings.host_policy.check_create(
                self._record, name, body, around, self._tools
            )

    async def _without_network(self, name: str, body: dict[str, Any]) -> dict[str, Any]:
        """Return the body with the engine's network left out, if the container has only a loopback."""
        if loopback_only.why_not(body):
            return body
        file = await self._files.hosts(name)
        return loopback_only.left_out(body, str(file))

    async def _adopt(self, engine_name: str) -> ContainerState:
        """Take over the container that an earlier process of this agent created with this name."""
        seen = await self._tools.runtime.inspect_container(engine_name)
        if not self._is_ours(seen):
            text = f"the container name {engine_name} is used by a container of another owner"
            raise EngineRefused(text, operation="created")
        return seen

    def _is_ours(self, seen: ContainerState) -> bool:
        owner = seen.labels.get(LABEL_OWNER)
        return seen.labels.get(LABEL_TASK) == self._record.arn and owner == self._settings.owner

    async def _start(self, name: str) -> Outcome:
        container = self._record.containers[name]
        if name in self._live.restarting:
            await self._files.write(self._definition(name))
        elif name not in self._made_here:
            await self._files.write_lost(self._definition(name))
        payload = self._record.payload
        if self._settings.host_policy is not None:
            await self._settings.host_policy.check_start(payload)
        if shared_namespaces.needs_holder(payload):
            await self._tools.namespaces.ensure(payload)  # the engine may have stopped it
        start = partial(
            self._tools.runtime.start_container,
            container.runtime_id,
            limit_s=self._settings.start_limit_s,
        )
        try:
            await self._network.within(start())
        except (EngineRefused, NoSuchContainer) as error:
            return await self._after_refusal(name, error, start)
        return self._started(name)

    async def _after_refusal(
        self, name: str, error: AgentError, start: Callable[[], Awaitable[None]]
    ) -> Outcome:
        """Start a container once more that was not started, or have it made anew; else raise ``error``."""
        container, definition = self._record.containers[name], self._definition(name)
        has_run = bool(container.started_at) or name in self._live.restarting
        if isinstance(error, StartForgotten):
            if has_run or not self._tools.groups.are_there:
                raise error  # what it has written would go, or what is left of it cannot be found
            await self._tools.groups.end_forgotten(self._record.arn, container.runtime_id)
            return await self._make_anew(container)
        if isinstance(error, PortTaken):
            is_fixed = has_run or not self._ports.picked(definition)
            if is_fixed or self._other_ports >= OTHER_PORTS_TRIES:
                raise error
            return await self._make_with_other_ports(definition)
        if self._network.can_never_start(container):
            return await self._make_anew(container)
        if not await self._files.write_lost(definition):
            raise error
        await self._network.within(start())
        return self._started(name)

    async def _make_with_other_ports(self, definition: Container) -> Outcome:
        """Have a container made anew whose ports are taken, by an engine that has forgotten who has them, say."""
        forgotten = await self._make_anew(self._record.containers[definition.name])
        self._other_ports += 1

        def outcome(now: float) -> None:
            self._ports.give_up(definition)
            forgotten(now)

        return outcome

    async def _make_anew(self, container: AgentContainer) -> Outcome:
        """Have a container that has never run removed and created once more."""
        await self._tools.runtime.remove_container(container.runtime_id, force=True)
        return lambda _now: forget_creation(container, self._live)

    def _started(self, name: str) -> Outcome:
        container, payload = self._record.containers[name], self._record.payload

        def outcome(now: float) -> None:
            observe.running(container, self._live, now)
            self._ports.show(self._definition(name))
            if payload.mode is NetworkMode.BRIDGE:
                self._live.recheck.add(name)  # to get its process id, for network metrics

        return outcome

    async def _stop(self, name: str) -> Outcome:
        container = self._record.containers[name]
        again = container.known is ContainerStatus.STOPPED
        timeout_s = self._definition(name).stop_timeout or self._settings.stop_timeout_s
        await self._tools.runtime.stop_container(container.runtime_id, timeout_s=timeout_s)
        try:
            seen = await self._tools.runtime.inspect_container(container.runtime_id)
        except NoSuchContainer:
            return lambda now: observe.vanished(container, self._live, now)
        if seen.running:
            text = "the engine reported the container as stopped, but it is running"
            raise EngineRefused(text, operation="stopped")
        if again:
            return lambda now: observe.stopped_again(container, self._live, now)
        return self._see(name, seen)

    async def _inspect(self, name: str) -> Outcome:
        record, live = self._record, self._live
        container = record.containers[name]
        target = container.runtime_id or container_body.engine_name(record.payload, name)
        # Removed first, so that events during the inspect cause another one.
        live.recheck.discard(name)
        try:
            seen = await self._tools.runtime.inspect_container(target)
            lost = ""
            if self._is_cut_off(container, seen):
                lost = await self._tools.reconnecter.reconnect(record.payload, name, seen)
        except NoSuchContainer:
            return lambda now: observe.vanished(container, live, now)
        except BaseException:
            live.recheck.add(name)
            raise
        if not container.runtime_id and not self._is_ours(seen):
            return lambda now: observe.vanished(container, live, now)  # another owner has the name
        return self._cut_off(name, seen, lost) if lost else self._see(name, seen)

    def _is_cut_off(self, container: AgentContainer, seen: ContainerState) -> bool:
        """Return whether somebody disconnected a container that should run from its network."""
        is_wanted = container.desired is not ContainerStatus.STOPPED
        in_bridge_mode = self._record.payload.mode is NetworkMode.BRIDGE
        return bool(seen.running and seen.cut_off_from and in_bridge_mode and is_wanted)

    def _cut_off(self, name: str, seen: ContainerState, lost: str) -> Outcome:
        """Record that a container has lost its network, which ends its task."""
        record, written = self._record, self._see(name, seen)

        def outcome(now: float) -> None:
            written(now)
            record.reason = record.reason or reasons.named(reasons.NETWORKING, lost)
            record.desired = DesiredStatus.STOPPED

        return outcome

    def _see(self, name: str, seen: ContainerState) -> Outcome:
        """Record what the engine says about a container."""
        record = self._record
        container = record.containers[name]
        seen = msgspec.structs.replace(seen, error=self._shown(name, seen.error))

        def outcome(now: float) -> None:
            container.engine_name = seen.name
            moved = self._ports.take_over(self._definition(name), self._network.bindings(seen))
            observe.state(record, container, seen, self._live, now)
            if container.known is ContainerStatus.RUNNING and (moved or not container.bindings):
                self._ports.show(self._definition(name))

        return outcome

    def _shown(self, name: str, text: str) -> str:
        """Return an engine's text without secrets; ``name`` is a container's, or the task's step."""
        definition = self._record.payload.container(name)
        secrets = Provision.merged(self._live.prepared.values()).secrets()
        return hidden(definition, secrets, text) if definition else without(secrets, text)

    # -- the end ------------------------------------------------------------------------------

    async def _clean(self, _key: str) -> Outcome:
        record, runtime = self._record, self._tools.runtime
        for container in record.containers.values():
            target = container.runtime_id or container_body.engine_name(
                record.payload, container.name
            )
            await runtime.remove_container(target, force=True)
            await self._files.remove(container.name)
        if self._tools.metadata_files is not None:
            await self._tools.metadata_files.remove(record.arn)
        for preparation in preparations.wanted(record.payload).values():
            await preparation.undo(record.payload, self._access)

        def outcome(now: float) -> None:
            record.cleaned_at = now
            self._live.astray.clear()

        return outcome

    def _definition(self, name: str) -> Container:
        definition = self._record.payload.container(name)
        if definition is None:
            raise PayloadError(f"container {name} is not part of its task")
        return definition
