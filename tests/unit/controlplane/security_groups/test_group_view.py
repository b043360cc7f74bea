"""A host that gets what changed, at any times and also twice, knows what there is."""

from __future__ import annotations

from typing import NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from agent.controlplane import records
from agent.controlplane.names import Names
from agent.controlplane.records import AttachmentRecord, Record, TaskRecord
from agent.controlplane.security_groups import group_records, group_view
from agent.controlplane.security_groups.group_records import RuleRecord, SecurityGroupRecord
from agent.controlplane.security_groups.group_view import GroupView
from agent.controlplane.store.contract import Event, KeyValue
from agent.model.security_groups import GROUPS_DETAIL, GroupRule, GroupUpdates, SecurityGroup

HOSTS = ("i1", "i2")
GROUPS = ("sg-a", "sg-b", "sg-c")
ADDRESSES = ("", "10.0.0.1", "10.0.0.2")


class Task(NamedTuple):
    """A task as far as it matters here."""

    host: str
    address: str
    groups: tuple[str, ...]
    is_stopped: bool = False


class World:
    """Groups and tasks of a store, and a view that follows them."""

    def __init__(self) -> None:
        self.revision = 5
        self.view = GroupView(Names(), self.revision)
        self.tasks: dict[str, Task] = {}
        self.peers: dict[str, frozenset[str]] = {}

    def put_task(self, name: str, task: Task) -> None:
        self.tasks[name] = task
        details = {"privateIPv4Address": task.address, GROUPS_DETAIL: ",".join(task.groups)}
        record = TaskRecord(
            id=name,
            arn=name,
            cluster="c",
            task_definition_arn="",
            family="",
            revision=1,
            instance_id=task.host,
            last_status="STOPPED" if task.is_stopped else "RUNNING",
            attachments=[AttachmentRecord(id="a", details=details)],
        )
        self._put(records.task_key("c", name), record)

    def delete_task(self, name: str) -> None:
        self.tasks.pop(name, None)
        self.revision += 1
        key = records.task_key("c", name)
        self.view.apply(Event("delete", KeyValue(key, b"", 0, self.revision, 0)))

    def put_group(self, name: str, peers: frozenset[str]) -> None:
        self.peers[name] = peers
        rules = [
            RuleRecord(rule=GroupRule(id=f"sgr-{peer}", protocol="-1", group=peer))
            for peer in sorted(peers)
        ]
        self._put(
            group_records.group_key(name), SecurityGroupRecord(id=name, name=name, rules=rules)
        )

    def _put(self, key: str, record: Record) -> None:
        self.revision += 1
        kv = KeyValue(key, records.encode(record), 1, self.revision, 1)
        self.view.apply(Event("put", kv))

    def of_host(self, host: str) -> dict[str, tuple[frozenset[str], frozenset[str]]]:
        """Return peers and members of each group that a host needs."""
        living = [task for task in self.tasks.values() if not task.is_stopped]
        own = {group for task in living if task.host == host for group in task.groups}
        needed = own | {peer for group in own for peer in self.peers.get(group, ())}
        return {
            group: (
                self.peers[group],
                frozenset(t.address for t in living if group in t.groups and t.address),
            )
            for group in needed
            if group in self.peers
        }


class Host:
    """What an agent does with updates."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.after = 0
        self.groups: dict[str, SecurityGroup] = {}

    def poll(self, world: World, *, answer_is_lost: bool) -> None:
        updates = world.view.updates(self.name, self.after, world.revision)
        if answer_is_lost:
            return
        self.after = world.revision
        for _ in range(2):  # the same answer twice changes nothing
            self._take(updates)

    def _take(self, updates: GroupUpdates | None) -> None:
        if updates is None:
            return
        if updates.full:
            self.groups = {}
        for update in updates.groups:
            group_id = update.group.id
            self.groups[group_id] = update.applied(self.groups.get(group_id))

    def knows(self, world: World) -> None:
        for group, (peers, members) in world.of_host(self.name).items():
            known = self.groups[group]
            assert {rule.group for rule in known.rules} == peers
            assert known.members == members


events = st.one_of(
    st.tuples(
        st.just("task"),
        st.sampled_from("tuv"),
        st.builds(
            Task,
            st.sampled_from(HOSTS),
            st.sampled_from(ADDRESSES),
            st.sets(st.sampled_from(GROUPS), min_size=1).map(lambda ids: tuple(sorted(ids))),
            st.booleans(),
        ),
    ),
    st.tuples(st.just("gone"), st.sampled_from("tuv")),
    st.tuples(st.just("group"), st.sampled_from(GROUPS), st.frozensets(st.sampled_from(GROUPS))),
    st.tuples(st.just("poll"), st.sampled_from(HOSTS), st.booleans()),
    st.tuples(st.just("restart"), st.sampled_from(HOSTS)),
)


@given(st.lists(events, max_size=30), st.sampled_from([0, 1, 1000]))
def test_a_host_that_missed_answers_learns_everything(history: list[tuple], left_most: int) -> None:  # type: ignore[type-arg]
    world, hosts = World(), {name: Host(name) for name in HOSTS}
    before, group_view.LEFT_MOST = group_view.LEFT_MOST, left_most  # type: ignore[misc]
    try:
        for event in history:
            match event:
                case ("task", name, task):
                    world.put_task(name, task)
                case ("gone", name):
                    world.delete_task(name)
                case ("group", name, peers):
                    world.put_group(name, peers)
                case ("poll", name, lost):
                    hosts[name].poll(world, answer_is_lost=lost)
                case ("restart", name):
                    hosts[name] = Host(name)
        for host in hosts.values():
            host.poll(world, answer_is_lost=False)
            host.knows(world)
    finally:
        group_view.LEFT_MOST = before  # type: ignore[misc]


def test_only_hosts_that_need_a_changed_group_are_woken() -> None:
    world = World()
    world.put_group("sg-a", frozenset())
    world.put_group("sg-b", frozenset({"sg-a"}))
    world.put_group("sg-c", frozenset())
    world.put_task("t", Task("i1", "10.0.0.1", ("sg-b",)))
    world.put_task("u", Task("i2", "10.0.0.2", ("sg-c",)))
    world.view.concerned()
    world.put_group("sg-a", frozenset({"sg-c"}))
    assert world.view.concerned() == {"i1"}  # its group's rules name it
    world.put_task("u", Task("i2", "10.0.0.3", ("sg-c",)))
    assert world.view.concerned() == {"i2"}
    assert world.view.concerned() == set()


def test_who_joins_and_leaves_costs_as_much_as_the_change() -> None:
    world, host = World(), Host("i1")
    world.put_group("sg-a", frozenset({"sg-a"}))
    for n in range(200):
        world.put_task(f"t{n}", Task("i1" if n == 0 else "i2", f"10.0.1.{n}", ("sg-a",)))
    host.poll(world, answer_is_lost=False)
    world.put_task("new", Task("i2", "10.0.2.1", ("sg-a",)))
    world.delete_task("t7")
    updates = world.view.updates("i1", host.after, world.revision)
    assert updates is not None
    (update,) = updates.groups
    assert update.group.members == {"10.0.2.1"}
    assert update.left == {"10.0.1.7"}
