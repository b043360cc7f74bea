"""The real task engine with the real store, on a container engine in memory."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Any

import msgspec

from agent.cgroups.groups import TaskGroups
from agent.engine.clock import Clock
from agent.engine.engine import Engine
from agent.engine.namespace_holders import NamespaceHolders
from agent.engine.network_reconnect import NetworkReconnect
from agent.engine.planner import Policy
from agent.engine.restored import HeldNetworks, RestoredTasks
from agent.engine.settings import EngineCallbacks, EngineSettings
from agent.engine.tools import StepSettings, StepTools
from agent.errors import NetworkFailure, NoSuchImage, PayloadError, StateFailure
from agent.images import ExecutionRole, Obtained, Progress
from agent.model import payload as payloads
from agent.model import reasons
from agent.model.resources import Gpu, HostResources
from agent.model.task import TaskNetwork
from agent.model.wire import Assignment, Assignments
from agent.network.names.hosts_files import HostsFiles
from agent.network.names.resolv_files import ResolvFiles
from agent.resources.ledger import Ledger
from agent.resources.role_credentials import RoleCredentials
from agent.state import Batch, StateStore
from tests.support.host_access import RELAY, container_sandboxes, holder_parts
from tests.support.memory_engine import MemoryEngine
from tests.support.task_aws import FakeAws, FakeControl
from tests.support.tasks import ARN, payload

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Iterable
    from pathlib import Path

    from agent.engine.host_policy_gate import HostPolicyGate
    from agent.model.changes import TaskChange
    from agent.model.payload import Container
    from agent.model.task import AgentContainer, AgentTask
    from agent.network.container_sandboxes.sandboxes import ContainerSandboxes
    from agent.runtime.protocol import EngineEvent

CONTROL = "control-1"
INSTANCE = "arn:aws:ecs:us-east-1:123456789012:container-instance/default/i1"
OWNER = "owner-1"
PATIENCE_S = 8.0


class FlakyStore(StateStore):
    """The store itself, on a disk that a test can fill up."""

    broken = False
    slow_s = 0.0

    def commit(self, batch: Batch) -> asyncio.Future[None]:
        if not self.broken and self.slow_s:
            return asyncio.ensure_future(self._commit_slowly(batch))
        if not self.broken:
            return super().commit(batch)
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        future.set_exception(StateFailure("disk full"))
        return future

    async def _commit_slowly(self, batch: Batch) -> None:
        await asyncio.sleep(self.slow_s)
        await super().commit(batch)


class Networks:
    """Claims and releases, durable like the real ones."""

    def __init__(self) -> None:
        self.held: set[str] = set()
        self.security_groups: dict[str, tuple[str, ...]] = {}
        self.asked: dict[str, str] = {}
        self.released: list[str] = []
        self.failures = 0
        self.made = 0
        self._alive: set[str] = set()

    async def claim(
        self,
        task_arn: str,
        attachment_id: str,
        security_groups: Collection[str] = (),
        address: str = "",
    ) -> TaskNetwork:
        self.asked[task_arn] = address
        self.security_groups[task_arn] = tuple(security_groups)
        if self.failures:
            self.failures -= 1
            raise NetworkFailure("no address is free")
        if task_arn not in self.held:
            self.made += 1
            self._alive.add(task_arn)
        elif task_arn not in self._alive:
            raise NetworkFailure("the task's network sandbox has died")
        self.held.add(task_arn)
        return TaskNetwork(
            attachment_id=attachment_id or "eni-1",
            mac="0a:00",
            ipv4="10.0.0.2",
            prefix_len=24,
            gateway="10.0.0.1",
            hostname="ip-10-0-0-2",
            sandbox_id=f"sandbox-{self.made}",
            sandbox_pid=4242,
        )

    async def release(self, task_arn: str) -> None:
        self.held.discard(task_arn)
        self._alive.discard(task_arn)
        self.released.append(task_arn)

    async def is_alive(self, task_arn: str) -> bool:
        return task_arn in self._alive

    def die(self) -> None:
        """Have all sandboxes die; who holds one still does."""
        self._alive.clear()


class Ports:
    """Dynamic host ports from 40000 on; one life long, as in the agent."""

    def __init__(self) -> None:
        self.held: set[int] = set()

    def pick(self, protocol: str, count: int = 1) -> list[int]:
        assert protocol in ("tcp", "udp")
        first = max(self.held, default=39_999) + 1
        picked = list(range(first, first + count))
        self.held.update(picked)
        return picked

    def hold(self, protocol: str, ports: Iterable[int]) -> None:
        assert protocol in ("tcp", "udp")
        self.held.update(ports)

    def release(self, protocol: str, ports: Iterable[int]) -> None:
        assert protocol in ("tcp", "udp")
        self.held.difference_update(ports)

    size = 20_000

    def offers(self, port: int) -> bool:
        return port >= 40_000


class TaskHost:
    """One host that carries tasks; ``crash`` and ``start`` give it another life."""

    def __init__(
        self,
        path: Path,
        *,
        cleanup_wait_s: float = 3600.0,
        confirmation_wait_s: float = 0.0,
        cpu_units: int = 4096,
    ) -> None:
        self.runtime = MemoryEngine()
        self.networks = Networks()
        self.reported: list[TaskChange] = []
        """Everything that left the outbox, of all lives."""
        self.store: FlakyStore
        self.engine: Engine
        self.namespaces: NamespaceHolders
        self.container_sandboxes: ContainerSandboxes
        self.sandboxes_kept = 0
        """How many sandboxes of containers are kept ready for a mode in use."""
        self.ledger: Ledger
        self.ports = Ports()
        self.role_credentials = RoleCredentials()
        self.host_policy: HostPolicyGate | None = None
        """What the host refuses in its next life."""
        self.aws = FakeAws()
        self.control = FakeControl()
        self.clock_off_s = 0.0
        """How far the wall clock is set ahead of the true time; the steady one goes on."""
        self.on_listed: Callable[[list[str]], Awaitable[None]] = _nothing
        """What is called when control has said what it wants of this host."""
        self.pull_script: list[tuple[float, Progress]] = []
        """What is told of each pull before it is tried, and for how long that is how it stands."""
        self.path = path
        self._policy = Policy(
            cleanup_wait_s=cleanup_wait_s, confirmation_wait_s=confirmation_wait_s
        )
        self._resources = HostResources(
            cpu_units=cpu_units, memory_mib=4096, gpus=(Gpu(uuid="GPU-0"),)
        )
        self._task: asyncio.Task[None] | None = None

    # -- lives ------------------------------------------------------------------------------------

    async def start(self, networks: dict[str, TaskNetwork] | None = None) -> None:
        """Begin a life: open the store, restore, compare networks if they are given, run."""
        opened = await FlakyStore.open(self.path)
        assert isinstance(opened, FlakyStore)
        self.store = opened
        self.ledger = Ledger(self._resources)
        self.ports = Ports()
        self.role_credentials = RoleCredentials()
        restored = await RestoredTasks.open(self.store)
        if networks is not None:
            restored = restored.with_networks(HeldNetworks(networks, lost=()))
        self.namespaces = NamespaceHolders(
            self.runtime, records=restored.records, **holder_parts(self.runtime)
        )
        self.container_sandboxes = container_sandboxes(
            self.runtime, least=self.sandboxes_kept, ports=self.ports
        )
        if self.sandboxes_kept:
            await self.container_sandboxes.take_over(
                await restored.container_sandboxes(self.runtime, OWNER), restored.stopped()
            )
        self.engine = Engine(
            store=self.store,
            ledger=self.ledger,
            tools=StepTools(
                runtime=self.runtime,
                claim_network=self.networks.claim,
                release_network=self.networks.release,
                network_alive=self.networks.is_alive,
                container_sandboxes=self.container_sandboxes,
                ensure_image=self._ensure_image,
                ports=self.ports,
                resolv_files=ResolvFiles(
                    self.path.parent / "resolv", proc=self.path.parent / "proc"
                ),
                hosts_files=HostsFiles(self.path.parent / "hosts"),
                reconnecter=NetworkReconnect(self.runtime),
                groups=TaskGroups.off(),
                namespaces=self.namespaces,
                role_credentials=self.role_credentials,
                aws=self.aws,
                control_secrets=self.control.secrets,
                log_relay=RELAY,
                endpoint_variables=lambda _arn, _name: {},
            ),
            settings=EngineSettings(
                steps=StepSettings(cluster="default", owner=OWNER, host_policy=self.host_policy),
                policy=self._policy,
            ),
            restored=restored,
            callbacks=EngineCallbacks(listed=self._listed, engine_event=self._take_note_of),
            clock=Clock(wall=lambda: time.time() + self.clock_off_s),
        )
        self._task = asyncio.create_task(self._run())

    def _take_note_of(self, event: EngineEvent) -> None:
        self.namespaces.take_note_of(event)
        self.container_sandboxes.take_note_of(event)

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self.engine.run())
            group.create_task(self.namespaces.run(self.engine.namespaces_lost))
            group.create_task(self.container_sandboxes.run(self.engine.container_network_lost))

    async def crash(self) -> None:
        """End a life without a word: nothing is flushed."""
        assert self._task is not None
        task, self._task = self._task, None
        if task.done():
            await task  # raises what killed it
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        self.namespaces.close()
        self.container_sandboxes.close()
        await self.store.close()

    async def leave(self) -> None:
        """End a life as a SIGTERM does."""
        assert self._task is not None
        task, self._task = self._task, None
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        self.namespaces.close()
        self.container_sandboxes.close()
        await self.engine.flush()
        await self.store.close()

    async def close(self) -> None:
        if self._task is not None:
            await self.crash()

    async def _listed(self, arns: list[str]) -> None:
        await self.on_listed(arns)

    async def _ensure_image(
        self,
        container: Container,
        *,
        role: ExecutionRole,
        on_progress: Callable[[Progress], None] | None = None,
    ) -> Obtained:
        on_progress = on_progress or (lambda _: None)
        for seconds, progress in self.pull_script:
            on_progress(msgspec.structs.replace(progress, next_try=time.monotonic() + seconds))
            await asyncio.sleep(seconds)
        try:
            await self.runtime.pull_image(
                container.image, on_progress=lambda line: on_progress(Progress(line))
            )
        except NoSuchImage as error:
            raise PayloadError(str(error), name=reasons.CANNOT_PULL) from None
        return Obtained(f"sha256:{container.image}")

    # -- control ----------------------------------------------------------------------------------

    async def order(self, *containers: Container, arn: str = ARN, **fields: Any) -> None:
        """Order one task to run."""
        await self.send(assignment(*containers, arn=arn, **fields))

    async def stop(self, arn: str = ARN, reason: str = "enough") -> None:
        """Order one task to stop."""
        await self.send(
            Assignment(
                task_arn=arn,
                desired_status="STOPPED",
                stopped_reason=reason,
                stop_code="UserInitiated",
            )
        )

    async def send(
        self,
        *tasks: Assignment,
        full: bool = False,
        control_id: str = CONTROL,
        instance: str = INSTANCE,
    ) -> None:
        """Send an answer of control."""
        answer = Assignments(revision=1, full=full, tasks=list(tasks))
        async with asyncio.timeout(PATIENCE_S):
            await self.engine.apply(answer, control_id, instance)

    async def deliver(self) -> list[TaskChange]:
        """Take everything out of the outbox and acknowledge it; returns what came now."""
        rows = await self.store.outbox.peek(1000)
        self.store.outbox.settle([seq for seq, _ in rows])
        changes = [change for _, change in rows]
        self.reported.extend(changes)
        return changes

    async def unsent(self) -> list[TaskChange]:
        """Look at the outbox."""
        return [change for _, change in await self.store.outbox.peek(1000)]

    # -- looking ----------------------------------------------------------------------------------

    def record(self, arn: str = ARN) -> AgentTask:
        return self.engine._runners[arn].record

    def container(self, name: str, arn: str = ARN) -> AgentContainer:
        return self.record(arn).containers[name]

    async def until(self, what: Callable[[], object], patience_s: float = PATIENCE_S) -> None:
        """Return as soon as something is true; fail if it takes too long or the engine died."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + patience_s
        while not what():
            if self._task is not None and self._task.done():
                await self._task
            if loop.time() > deadline:
                records = [r.record for r in self.engine._runners.values()]
                waits = [r.waits for r in self.engine._runners.values()]
                raise AssertionError(f"waited in vain; records {records}; waits {waits}")
            await asyncio.sleep(0.005)

    async def until_known(self, status: str, arn: str = ARN) -> None:
        """Return when a task has a status, PENDING, RUNNING or STOPPED, and its report is saved."""
        await self.until(lambda: self.record(arn).known.wire() == status)
        await self.engine._runners[arn].saved()


async def _nothing(_arns: list[str]) -> None:
    pass


def assignment(*containers: Container, arn: str = ARN, **fields: Any) -> Assignment:
    """An order to run a task of these containers."""
    raw = payloads.encode(payload(*containers, arn=arn, **fields))
    return Assignment(task_arn=arn, desired_status="RUNNING", payload=msgspec.Raw(raw))
