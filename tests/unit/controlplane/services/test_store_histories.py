"""Random histories of two controls over one store: neither doubles what the other does.

Hypothesis chooses what operators, agents and the two loops do. What the loops did is read from the history of the
store, one transaction after the other, and held against the promises of the scheduler.
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections import Counter
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.controlplane import records
from agent.controlplane.agents import reports
from agent.controlplane.parts import Parts
from agent.controlplane.records import AliveRecord, InstanceRecord
from agent.controlplane.services import wording
from agent.controlplane.services.loop import ServiceLoop
from agent.controlplane.services.observed import HEALTHY_AFTER_S, SeenTask
from agent.controlplane.services.record import COMPLETED, DAEMON, INACTIVE, REPLICA, ServiceRecord
from agent.controlplane.store.contract import Put
from agent.controlplane.store.sqlite import SqliteStore
from tests.support.control_endpoint import a_report, definition
from tests.unit.controlplane.services.conftest import START
from tests.unit.controlplane.services.test_histories import EXAMPLES, PERCENTAGES
from tests.unit.controlplane.services.test_loop import add_host, call

if TYPE_CHECKING:
    from agent.controlplane.store.contract import Event

ACTIONS = (
    *("scale", "update", "two operators", "restart", "exit", "end stopping"),
    *("lose", "find", "drain", "undrain", "wait", "run", "run", "minute", "minute"),
)
LOOPS = ("none", "one", "other", "both", "both", "both", "die")
"""Which loop works after each of them."""
SHOP = records.service_key("default", "shop")


class Witness:
    """Follows the history of a store and holds each transaction against the promises."""

    def __init__(self, parts: Parts) -> None:
        self._store, self._clock = parts.store, parts.clock
        self._revision = parts.store.revision
        self._watch = parts.store.watch("/", after_revision=self._revision)
        self.service: ServiceRecord | None = None
        self.tasks: dict[str, SeenTask] = {}
        self._alive: set[str] = set()

    async def follow(self) -> None:
        """Look at everything that was committed until now."""
        while self._revision < self._store.revision:
            batch = await anext(self._watch)
            for _, changes in groupby(batch.events, lambda event: event.kv.mod_revision):
                self._look(list(changes))
            self._revision = batch.revision

    async def close(self) -> None:
        await self._watch.aclose()

    def _look(self, changes: list[Event]) -> None:
        service, tasks = self.service, dict(self.tasks)
        for change in changes:
            self._apply(change)
        if service is None or self.service is None:
            return
        new = [task for task_id, task in self.tasks.items() if task_id not in tasks]
        changed = [(old, self.tasks[id_]) for id_, old in tasks.items() if id_ in self.tasks]
        stopped = [old for old, task in changed if self._was_stopped(old, task)]
        counted = [task for old, task in changed if task.counted and not old.counted]
        if new or stopped or counted:
            assert self.service.turn == service.turn + 1, "an act that does not take a turn"
        for task in new:
            assert task.started_by == service.primary.id, "a task of an old deployment is started"
        if new and service.is_daemon:
            places = Counter(task.instance_id for task in self.tasks.values() if task.is_wanted)
            assert max(places.values()) == 1, "two daemons on one host"
        elif new:
            there = [t for t in self.tasks.values() if t.is_wanted and t.instance_id in self._alive]
            assert len(there) <= service.most_running, "too many tasks"
        if self.service.status == "ACTIVE" and not service.is_daemon:
            self._hold_minimum(service, tasks, stopped)

    def _hold_minimum(
        self, service: ServiceRecord, tasks: dict[str, SeenTask], stopped: list[SeenTask]
    ) -> None:
        """Hold that enough tasks are left; which hosts count as lost is known to each loop alone."""
        now = self._clock()
        lost = {
            task.id
            for task in stopped
            if self.tasks[task.id].stopped_reason == wording.lost_reason(task.instance_id)
        }
        before = [
            task
            for task in tasks.values()
            if task.is_running and now >= task.ran_at + HEALTHY_AFTER_S and task.id not in lost
        ]
        gone = {task.id for task in stopped}
        left = [task for task in before if task.id not in gone]
        assert len(left) >= min(len(before), service.least_healthy), (
            "too few healthy tasks are left"
        )

    @staticmethod
    def _was_stopped(old: SeenTask, task: SeenTask) -> bool:
        by_service = task.stop_code == wording.STOP_CODE and task.desired_status == "STOPPED"
        return by_service and old.desired_status == "RUNNING"

    def _apply(self, change: Event) -> None:
        kv, there = change.kv, change.type == "put"
        name = records.last_element(kv.key)
        if kv.key == SHOP and there:
            self.service = records.decode(ServiceRecord, kv)
        elif kv.key.startswith(records.ALIVE):
            (self._alive.add if there else self._alive.discard)(name)
        elif kv.key.startswith(records.TASKS) and there:
            self.tasks[name] = records.decode(SeenTask, kv)


class TwoControls:
    """One store, two loops of services, three hosts whose agents do what a history says."""

    def __init__(self, store: SqliteStore) -> None:
        self.now = START
        self.store = store
        self.parts = self._another()
        self.loops = [ServiceLoop(self._another()), ServiceLoop(self._another())]
        self.witness = Witness(self.parts)
        self.hosts: list[InstanceRecord] = []

    def _another(self) -> Parts:
        return Parts(store=self.store, clock=lambda: self.now)

    async def open(self, **fields: Any) -> None:
        """Make the cluster, its hosts and the service."""
        await call(self.parts, "CreateCluster")
        await call(self.parts, "RegisterTaskDefinition", **definition())
        self.hosts = [await add_host(self.parts) for _ in range(3)]
        await call(self.parts, "CreateService", serviceName="shop", taskDefinition="web", **fields)
        await self.witness.follow()

    async def do(self, action: str, choice: int) -> None:
        """Do one thing."""
        match action:
            case "none":
                return
            case "both":
                await asyncio.gather(*(loop.settle() for loop in self.loops))
            case "one" | "other":
                await self.loops[action == "other"].settle()
            case "die":
                await self._die(choice)
            case "restart":
                self.loops[choice % 2] = ServiceLoop(self._another())
            case "minute" | "wait":
                self.now += 61 if action == "minute" else 400
            case "lose" | "find" | "drain" | "undrain":
                await self._to_a_host(action, self.hosts[choice % 3])
            case "scale" | "update" | "two operators":
                await self._by_operators(action, choice)
            case _:
                await self._by_agents(action, choice)
        await self.witness.follow()

    async def _die(self, choice: int) -> None:
        """End a control somewhere in its work; another takes its place."""
        work = asyncio.create_task(self.loops[choice % 2].settle())
        for _ in range(3 * choice):
            await asyncio.sleep(0)
        work.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await work
        self.loops[choice % 2] = ServiceLoop(self._another())

    async def _by_operators(self, action: str, choice: int) -> None:
        scaled = {"desiredCount": choice % 6}
        force = {"forceNewDeployment": True}
        if action == "update" or (self.witness.service and self.witness.service.is_daemon):
            await call(self.parts, "UpdateService", service="shop", **force)
        elif action == "scale":
            await call(self.parts, "UpdateService", service="shop", **scaled)
        else:
            await asyncio.gather(
                call(self.parts, "UpdateService", service="shop", **force),
                call(self._another(), "UpdateService", service="shop", **scaled),
                *(loop.settle() for loop in self.loops),
            )

    async def _to_a_host(self, action: str, host: InstanceRecord) -> None:
        alive = await self.store.get(records.alive_key(host.id))
        if action == "lose" and alive is not None:
            await self.store.revoke_lease(alive.lease)
        elif action == "find" and alive is None:
            lease = await self.store.grant_lease(600)
            key, value = records.alive_key(host.id), records.encode(AliveRecord(generation=1))
            await self.store.txn([], [Put(key, value, lease)])
        elif action in ("drain", "undrain"):
            status = "DRAINING" if action == "drain" else "ACTIVE"
            request = {"containerInstances": [host.id], "status": status}
            await call(self.parts, "UpdateContainerInstancesState", **request)

    async def _by_agents(self, action: str, choice: int) -> None:
        tasks = [t for t in self.witness.tasks.values() if t.last_status != "STOPPED"]
        match action:
            case "run":
                chosen = [t for t in tasks if t.is_wanted and t.last_status == "PENDING"]
                await self._report("RUNNING", chosen)
            case "end stopping":
                await self._report("STOPPED", [t for t in tasks if not t.is_wanted])
            case "exit" if tasks:
                await self._report("STOPPED", [tasks[choice % len(tasks)]])

    async def _report(self, status: str, tasks: list[SeenTask]) -> None:
        for task in tasks:
            host = next(host for host in self.hosts if host.id == task.instance_id)
            arn = self.parts.names.task("default", task.id)
            await reports.apply(self.parts, host, [a_report(arn, status)])

    async def converge(self) -> None:
        """Let everything go well, and hold that the service becomes what it should be."""
        for number in range(3):
            await self.do("find", number)
            await self.do("undrain", number)
        for _ in range(40):
            for action in ("both", "run", "end stopping", "minute"):
                await self.do(action, 0)
            if self._is_done():
                break
        assert self._is_done()
        before = self.witness.service, len(self.witness.tasks)
        await self.do("both", 0)
        assert (self.witness.service, len(self.witness.tasks)) == before
        await call(self.parts, "DeleteService", service="shop", force=True)
        await self.do("both", 0)
        assert self.witness.service is not None
        assert self.witness.service.status == INACTIVE
        assert not [task for task in self.witness.tasks.values() if task.is_wanted]

    def _is_done(self) -> bool:
        service = self.witness.service
        assert service is not None
        wanted = [task for task in self.witness.tasks.values() if task.is_wanted]
        return (
            service.primary.rollout_state == COMPLETED
            and len(service.deployments) == 1
            and len(wanted) == service.desired_count == sum(task.is_running for task in wanted)
            and all(task.counted for task in self.witness.tasks.values() if not task.is_wanted)
        )


@settings(
    max_examples=max(1, EXAMPLES // 15), deadline=None, suppress_health_check=list(HealthCheck)
)
@given(
    desired=st.integers(0, 5),
    percentages=st.sampled_from([one for one in PERCENTAGES if one not in ((100, 150), (75, 125))]),
    scheduling=st.sampled_from([REPLICA, REPLICA, REPLICA, DAEMON]),
    is_steady=st.booleans(),
    history=st.lists(
        st.tuples(st.sampled_from(ACTIONS), st.integers(0, 40), st.sampled_from(LOOPS)),
        min_size=8,
        max_size=20,
    ),
)
def test_two_controls_never_double_an_action(
    desired: int,
    percentages: tuple[int, int],
    scheduling: str,
    is_steady: bool,
    history: list[tuple[str, int, str]],
) -> None:
    least, most = percentages
    fields: dict[str, Any] = {"schedulingStrategy": DAEMON}
    if scheduling == REPLICA:
        configuration = {"minimumHealthyPercent": least, "maximumPercent": most}
        fields = {"desiredCount": desired, "deploymentConfiguration": configuration}

    async def live() -> None:
        with tempfile.TemporaryDirectory() as folder:
            store = await SqliteStore.open(Path(folder) / "control.db")
            try:
                controls = TwoControls(store)
                await controls.open(**fields)
                for action in ("both", "run", "minute", "both") if is_steady else ():
                    await controls.do(action, 0)
                for action, choice, loops in history:
                    await controls.do(action, choice)
                    await controls.do(loops, choice)
                await controls.converge()
                await controls.witness.close()
            finally:
                await store.close()

    asyncio.run(live())
