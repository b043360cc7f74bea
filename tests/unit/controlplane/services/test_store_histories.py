"""Random histories of two controls over one store: neither doubles what the other does.

A seed chooses what operators, agents and the two loops do, and which of it happens at the same moment: then all
of them have read before one of them writes (``tests.support.meeting``). A control may end before or after any of
its writes, and another one takes its place. What the loops did is read from the history of the store, one
transaction after the other, and held against the promises of the scheduler.

A failure shows the history up to it. To repeat it, give it to ``live``.
"""

from __future__ import annotations

import asyncio
import random
import tempfile
from collections import Counter
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from unittest.mock import patch

from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from agent.controlplane import records
from agent.controlplane.agents import reports
from agent.controlplane.parts import Parts
from agent.controlplane.records import AliveRecord, InstanceRecord
from agent.controlplane.services import loop as service_loop
from agent.controlplane.services import wording
from agent.controlplane.services.loop import ServiceLoop
from agent.controlplane.services.observed import SeenTask
from agent.controlplane.services.record import COMPLETED, DAEMON, INACTIVE, REPLICA, ServiceRecord
from agent.controlplane.store.contract import Put
from agent.controlplane.store.sqlite import SqliteStore
from tests.support.control_endpoint import a_report, definition
from tests.support.meeting import Meeting, Seat
from tests.unit.controlplane.services.conftest import START
from tests.unit.controlplane.services.test_histories import (
    EXAMPLES,
    HEALTHY_AFTER_S,
    PERCENTAGES,
    SEEDED,
    SEEDS,
    least_healthy,
    most_running,
)
from tests.unit.controlplane.services.test_loop import add_host, call

if TYPE_CHECKING:
    from agent.controlplane.store.contract import Event, Store

    Moment = tuple[tuple[str, ...], int]
    """What happens at the same moment, and a number that chooses to whom, and who is first."""

HOSTS = 4
OPERATORS = ("scale", "update", "configure")
ALONE = (
    *("run", "run", "run", "minute", "minute", "end stopping", "end stopping", "exit"),
    *("lose", "find", "drain", "undrain", "wait", *OPERATORS),
)
"""What happens before the loops work."""
BESIDE: tuple[tuple[str, ...], ...] = (
    *((), (), (), ("run",), ("end stopping",)),
    *(("scale",), ("update",), ("configure",), ("scale", "update"), ("scale", "run")),
)
"""What happens while they do: nothing that another task or host could make up for in vain."""
LOOPS = (
    *(("one", "other"), ("one", "other"), ("one", "other"), ("one",), ("other",)),
    *(("one dies", "other"), ("one dies",)),
)
PROGRESS = ("PENDING", "RUNNING", "STOPPED")
SHOP = records.service_key("default", "shop")


def history_of(seed: int, length: int) -> list[Moment]:
    """Return the history of a seed; a shorter one is its beginning."""
    draw = random.Random(seed)
    history: list[Moment] = []
    while len(history) < length:
        before = draw.choices(ALONE, k=draw.randint(1, 2))
        history += [((action,), draw.randrange(64)) for action in before]
        history.append(((*draw.choice(BESIDE), *draw.choice(LOOPS)), draw.randrange(64)))
    return history[:length]


class Witness:
    """Follows the history of a store and holds each transaction against the promises."""

    def __init__(self, parts: Parts) -> None:
        self._store, self._clock = parts.store, parts.clock
        self._revision = parts.store.revision
        self._watch = parts.store.watch("/", after_revision=self._revision)
        self.service: ServiceRecord | None = None
        self.tasks: dict[str, SeenTask] = {}
        self.acts: set[int] = set()
        """The revisions in which a loop has put the service."""
        self._alive: set[str] = set()

    async def follow(self) -> None:
        """Look at everything that was committed until now."""
        while self._revision < self._store.revision:
            batch = await anext(self._watch)
            for revision, changes in groupby(batch.events, lambda event: event.kv.mod_revision):
                self._look(revision, list(changes))
            self._revision = batch.revision

    async def close(self) -> None:
        await self._watch.aclose()

    def _look(self, revision: int, changes: list[Event]) -> None:
        service, tasks = self.service, dict(self.tasks)
        for change in changes:
            self._apply(change)
        if service is None or self.service is None:
            return
        new = [task for task_id, task in self.tasks.items() if task_id not in tasks]
        changed = [(old, self.tasks[id_]) for id_, old in tasks.items() if id_ in self.tasks]
        for old, task in changed:
            self._hold_progress(old, task)
        stopped = [old for old, task in changed if self._was_stopped(old, task)]
        counted = [task for old, task in changed if task.counted and not old.counted]
        if new or stopped or counted or revision in self.acts:
            self._hold_turn(service, self.service)
        if new:
            self._hold_starts(service, new)
        if self.service.status == "ACTIVE" and not service.is_daemon:
            self._hold_minimum(service, tasks, stopped)

    @staticmethod
    def _hold_progress(old: SeenTask, task: SeenTask) -> None:
        assert PROGRESS.index(task.last_status) >= PROGRESS.index(old.last_status), "a lost report"
        assert old.desired_status == "RUNNING" or task.desired_status == "STOPPED", "a lost stop"
        assert task.counted or not old.counted, "the end of a task may be counted twice"

    @staticmethod
    def _hold_turn(before: ServiceRecord, service: ServiceRecord) -> None:
        """Hold that an act was planned from the service as it was, with all that operators asked for."""
        assert service.turn == before.turn + 1, "an act that does not take a turn"
        asked = before.primary.id, before.deployment_configuration
        assert (service.primary.id, service.deployment_configuration) == asked, "a lost update"
        assert service.is_daemon or service.desired_count == before.desired_count, "a lost update"

    def _hold_starts(self, service: ServiceRecord, new: list[SeenTask]) -> None:
        for task in new:
            assert task.started_by == service.primary.id, "a task of an old deployment is started"
        wanted = [task for task in self.tasks.values() if task.is_wanted]
        if service.is_daemon:
            places = Counter(task.instance_id for task in wanted)
            assert max(places.values()) == 1, "two daemons on one host"
        else:
            there = [task for task in wanted if task.instance_id in self._alive]
            assert len(there) <= most_running(service), "too many tasks"

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
        assert len(left) >= min(len(before), least_healthy(service)), (
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
    """One store, two loops of services, hosts whose agents do what a history says."""

    def __init__(self, store: SqliteStore) -> None:
        self.now = START
        self.store = store
        self.meeting = Meeting()
        self.parts = self._another(store)
        self.witness = Witness(self.parts)
        self.hosts: list[InstanceRecord] = []
        self._number = 0
        self._seats: dict[str, Seat] = {}
        self._loops: dict[str, ServiceLoop] = {}
        for name in ("one", "other"):
            self._begin(name)

    def _another(self, store: Store | Seat) -> Parts:
        return Parts(store=cast("Store", store), clock=lambda: self.now)

    def _seat(self) -> Seat:
        return Seat(self.store, self.meeting)

    def _begin(self, name: str) -> None:
        """Start a control, in place of the one of that name."""
        self._number += 1
        self._seats[name] = Seat(self.store, self.meeting, SHOP, self.witness.acts)
        parts = self._another(self._seats[name])
        self._loops[name] = ServiceLoop(parts, random.Random(self._number))

    async def open(self, **fields: Any) -> None:
        """Make the cluster, its hosts and the service."""
        await call(self.parts, "CreateCluster")
        await call(self.parts, "RegisterTaskDefinition", **definition())
        self.hosts = [await add_host(self.parts) for _ in range(HOSTS)]
        await call(self.parts, "CreateService", serviceName="shop", taskDefinition="web", **fields)
        await self.witness.follow()

    async def do(self, together: tuple[str, ...], choice: int = 0) -> None:
        """Do these things at the same moment."""
        self.meeting.draw = random.Random(choice)
        await self.meeting.hold(*(self._do_one(action, choice) for action in together))
        if "one dies" in together:
            self._begin("one")
        await self.witness.follow()

    async def _do_one(self, action: str, choice: int) -> None:
        match action:
            case "one" | "other":
                await self._loops[action].settle()
            case "one dies":
                self._seats["one"].die_at(1 + choice % 4, writes_last=choice % 8 > 3)
                await self._loops["one"].settle()
            case "minute" | "wait":
                self.now += 61 if action == "minute" else 400
            case "lose" | "find" | "drain" | "undrain":
                await self._to_a_host(action, self.hosts[choice % HOSTS])
            case "scale" | "update" | "configure":
                await self._by_an_operator(action, choice)
            case _:
                await self._by_agents(action, choice)

    async def _by_an_operator(self, action: str, choice: int) -> None:
        assert self.witness.service is not None
        fields: dict[str, Any] = {"forceNewDeployment": True}
        if action == "scale" and not self.witness.service.is_daemon:
            fields = {"desiredCount": choice % 6}
        if action == "configure" and not self.witness.service.is_daemon:
            fields = configuration(*PERCENTAGES[choice % len(PERCENTAGES)])
        await call(self._another(self._seat()), "UpdateService", service="shop", **fields)

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
        parts = self._another(self._seat())
        for task in tasks:
            host = next(host for host in self.hosts if host.id == task.instance_id)
            arn = parts.names.task("default", task.id)
            await reports.apply(parts, host, [a_report(arn, status)])

    async def converge(self) -> None:
        """Let everything go well, and hold that the service becomes what it should be."""
        for number in range(HOSTS):
            await self.do(("find",), number)
            await self.do(("undrain",), number)
        await self._go_well()
        if not self._is_done():
            assert self.witness.service is not None
            assert wording.BLOCKED in self.witness.service.notices
            await call(self.parts, "UpdateService", service="shop", **configuration(100, 200))
            await self._go_well()
        await self.do(("one", "other"))  # what the last minute made healthy ends a delay
        assert self._is_done()
        before = self.witness.service, len(self.witness.tasks)
        await self.do(("one", "other"))
        assert (self.witness.service, len(self.witness.tasks)) == before
        await call(self.parts, "DeleteService", service="shop", force=True)
        await self.do(("one", "other"))
        assert self.witness.service is not None
        assert self.witness.service.status == INACTIVE
        assert not [task for task in self.witness.tasks.values() if task.is_wanted]

    async def _go_well(self) -> None:
        """Let tasks run and time pass until the service is what it should be, or its percentages hold it up."""
        still = 0
        for _ in range(40):
            before = self.witness.service
            for action in ("one", "other"), ("run",), ("end stopping",), ("minute",):
                await self.do(action)
            service = self.witness.service
            assert service is not None
            still = still + 1 if service == before and wording.BLOCKED in service.notices else 0
            if still == 2 or self._is_done():
                return

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


def configuration(least: int, most: int) -> dict[str, Any]:
    """Return the members of a request that give a service its percentages."""
    percentages = {"minimumHealthyPercent": least, "maximumPercent": most}
    return {"deploymentConfiguration": percentages}


@settings(
    max_examples=max(1, EXAMPLES // 5),
    deadline=None,
    phases=SEEDED,
    suppress_health_check=list(HealthCheck),
)
@given(
    desired=st.integers(1, 5),
    percentages=st.sampled_from(PERCENTAGES),
    scheduling=st.sampled_from([REPLICA, REPLICA, REPLICA, DAEMON]),
    is_steady=st.sampled_from([True, True, False]),
    seed=SEEDS,
    length=st.integers(15, 40),
)
def test_two_controls_never_double_an_action(
    desired: int,
    percentages: tuple[int, int],
    scheduling: str,
    is_steady: bool,
    seed: int,
    length: int,
) -> None:
    fields: dict[str, Any] = {"schedulingStrategy": DAEMON}
    if scheduling == REPLICA:
        fields = {"desiredCount": desired, **configuration(*percentages)}
    begin: list[Moment] = []
    if is_steady:
        begin = [(("one", "other"), 0), (("run",), 0), (("minute",), 0), (("one", "other"), 0)]
    history = [*begin, *history_of(seed, length)]
    with patch.object(service_loop, "_CONFLICT_S", 0.0):
        asyncio.run(live(fields, history))


async def live(fields: dict[str, Any], history: list[Moment]) -> None:
    """Make a service of such fields, let a history happen, and then let everything go well."""
    with tempfile.TemporaryDirectory() as folder:
        store = await SqliteStore.open(Path(folder) / "control.db")
        controls = TwoControls(store)
        done = 0
        try:
            await controls.open(**fields)
            for done, (together, choice) in enumerate(history, start=1):  # noqa: B007 - for the note
                await controls.do(together, choice)
            await controls.converge()
        except BaseException:
            note(f"fields = {fields}\nhistory = {history[:done]}")
            raise
        finally:
            await controls.witness.close()
            await store.close()
