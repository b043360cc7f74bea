"""The ledger: never over-admits, never starves, gives back exactly what was taken."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from agent.model.resources import Gpu, HostResources, Needs
from agent.resources.ledger import Ledger

HOST = HostResources(
    cpu_units=2048,
    memory_mib=1024,
    reserved_tcp=frozenset({22}),
    reserved_udp=frozenset({53}),
    gpus=(Gpu(uuid="GPU-a"), Gpu(uuid="GPU-b")),
)


def needs(cpu: int = 0, memory: int = 0, **sets: set[Any]) -> Needs:
    frozen: dict[str, Any] = {name: frozenset(items) for name, items in sets.items()}
    return Needs(cpu_units=cpu, memory_mib=memory, **frozen)


def used(ledger: Ledger) -> dict[str, int]:
    return {view.name: view.used for view in ledger.used()}


def test_admits_what_fits_and_says_what_the_rest_waits_for() -> None:
    ledger = Ledger(HOST)
    ledger.request("t/a", needs(1024, 512), 10.0)
    ledger.request("t/b", needs(1024, 2048 - 1024), 11.0)
    ledger.request("t/c", needs(512, 512), 12.0)
    assert ledger.admit(12.0) == ["t/a", "t/c"]
    wait = ledger.wait_of("t/b")
    assert wait is not None
    assert wait.since == 11.0
    assert "1024 MiB of memory; 0 of 1024 MiB are free" in wait.what
    assert "1024 CPU units; 512 of 2048 are free" in wait.what
    assert ledger.wait_of("t/a") is None
    assert used(ledger) == {"CPU": 1536, "MEMORY": 1024, "PORTS_TCP": 0, "PORTS_UDP": 0, "GPU": 0}


def test_waits_for_a_port_and_a_gpu_that_another_task_holds() -> None:
    ledger = Ledger(HOST)
    ledger.request("c/one", needs(tcp_ports={80}, udp_ports={80}, gpus={"GPU-a"}), 0.0)
    ledger.request("c/two", needs(tcp_ports={80}), 0.0)
    ledger.request("c/three", needs(gpus={"GPU-a"}), 0.0)
    assert ledger.admit(0.0) == ["c/one"]
    two, three = ledger.wait_of("c/two"), ledger.wait_of("c/three")
    assert two is not None
    assert two.what == "host port 80/tcp; task one holds it"
    assert two.details == {"tcp:80": "host port 80/tcp; task one holds it"}
    assert three is not None
    assert three.what == "GPU GPU-a; task one holds it"
    ledger.release("c/one")
    assert ledger.admit(1.0) == ["c/two", "c/three"]


@pytest.mark.parametrize(
    ("wanted", "text"),
    [
        (needs(cpu=2049), "it needs 2049 CPU units; this host has 2048"),
        (needs(memory=1025), "it needs 1025 MiB of memory; this host has 1024"),
        (
            needs(tcp_ports={22, 80}),
            "it needs host port 22/tcp, which is reserved on this host",
        ),
        (needs(udp_ports={53}), "it needs host port 53/udp, which is reserved on this host"),
        (needs(gpus={"GPU-z"}), "it needs GPU GPU-z; this host has GPU-a, GPU-b"),
        (needs(cpu=-1), "CPU and memory must not be negative"),
        (needs(2048, 1024, tcp_ports={53}, udp_ports={22}, gpus={"GPU-a"}), None),
    ],
)
def test_impossible_needs_are_named(wanted: Needs, text: str | None) -> None:
    ledger = Ledger(HOST)
    assert ledger.impossible(wanted) == text
    ledger.request("t", wanted, 0.0)
    assert ledger.admit(1000.0) == ([] if text else ["t"])
    if text:
        wait = ledger.wait_of("t")
        assert wait is not None
        assert text in wait.what


def test_tasks_share_a_gpu_while_its_memory_lasts() -> None:
    host = HostResources(
        cpu_units=1, memory_mib=1, gpus=(Gpu(uuid="GPU-a", memory_mib=1000), Gpu(uuid="GPU-b"))
    )
    ledger = Ledger(host)
    share = Needs(gpu_shares={"GPU-a": 400})
    for name in ("one", "two", "three"):
        ledger.request(f"c/{name}", share, 0.0)
    ledger.request("c/whole", needs(gpus={"GPU-a"}), 0.0)
    assert ledger.admit(0.0) == ["c/one", "c/two"]
    assert used(ledger)["GPU"] == 1
    three, whole = ledger.wait_of("c/three"), ledger.wait_of("c/whole")
    assert three is not None
    assert three.what == "400 MiB of GPU GPU-a; 200 of 1000 MiB are free"
    assert whole is not None
    assert whole.what == "GPU GPU-a; task one shares it"
    ledger.release("c/one")
    assert ledger.admit(1.0) == ["c/three"]
    ledger.release("c/two")
    ledger.release("c/three")
    assert ledger.admit(2.0) == ["c/whole"]
    ledger.request("c/late", share, 2.0)
    assert ledger.admit(3.0) == []
    late = ledger.wait_of("c/late")
    assert late is not None
    assert late.what == "a share of GPU GPU-a; task whole holds all of it"
    assert ledger.impossible(Needs(gpu_shares={"GPU-a": 1001})) == (
        "it needs 1001 MiB of GPU GPU-a, which has 1000"
    )
    assert ledger.impossible(Needs(gpu_shares={"GPU-z": 1})) is not None


def test_a_host_without_gpus_says_so() -> None:
    ledger = Ledger(HostResources(cpu_units=1024, memory_mib=1024))
    assert ledger.impossible(needs(gpus={"GPU-a"})) == "it needs GPU GPU-a; this host has no GPU"


def test_an_impossible_task_keeps_no_room_from_others() -> None:
    ledger = Ledger(HOST, age_limit_s=10)
    ledger.request("never", needs(cpu=4096), 0.0)
    ledger.request("small", needs(cpu=2048), 0.0)
    assert ledger.admit(1000.0) == ["small"]


def test_request_release_and_restore_may_be_repeated() -> None:
    ledger = Ledger(HOST)
    for _ in range(2):
        ledger.restore("a", needs(2048, tcp_ports={80}))
    assert used(ledger)["CPU"] == 2048
    ledger.request("a", needs(1), 0.0)
    assert ledger.wait_of("a") is None
    for _ in range(2):
        ledger.release("a")
    assert used(ledger)["CPU"] == 0
    ledger.request("b", needs(1), 5.0)
    ledger.request("b", needs(2), 6.0)
    wait = ledger.wait_of("b")
    assert wait is not None
    assert wait.since == 5.0
    assert ledger.admit(7.0) == ["b"]
    assert used(ledger)["CPU"] == 1


def test_restore_may_overcommit_and_the_rest_waits_until_it_is_paid_back() -> None:
    ledger = Ledger(HOST)
    ledger.restore("a", needs(2048, tcp_ports={80}))
    ledger.restore("b", needs(1024, tcp_ports={80}))
    ledger.request("c", needs(1024), 0.0)
    ledger.request("none", needs(memory=1024), 0.0)
    assert used(ledger)["CPU"] == 3072
    assert ledger.admit(0.0) == ["none"], "it takes nothing of what is over-committed"
    wait = ledger.wait_of("c")
    assert wait is not None
    assert wait.what == "1024 CPU units; 0 of 2048 are free"
    ledger.release("a")
    assert used(ledger)["PORTS_TCP"] == 1
    assert ledger.admit(1.0) == ["c"]


def test_room_is_kept_for_an_old_large_task() -> None:
    ledger = Ledger(HOST, age_limit_s=60)
    ledger.request("first", needs(512), 0.0)
    ledger.admit(0.0)
    ledger.request("large", needs(2048), 1.0)
    ledger.request("small-1", needs(512), 2.0)
    assert ledger.admit(2.0) == ["small-1"], "young: small ones go past"
    ledger.request("small-2", needs(512), 62.0)
    assert ledger.admit(62.0) == [], "old: what fits now would take what it needs"
    wait = ledger.wait_of("small-2")
    assert wait is not None
    assert wait.what.startswith("its turn; room is reserved for task large")
    ledger.request("no-cpu", needs(memory=64), 63.0)
    assert ledger.admit(63.0) == ["no-cpu"], "it leaves the large one enough"
    large = ledger.wait_of("large")
    assert large is not None
    assert large.what.endswith("room is reserved for it from now on")
    ledger.release("first")
    assert ledger.admit(70.0) == []
    ledger.release("small-1")
    assert ledger.admit(71.0) == ["large"]
    ledger.release("large")
    assert ledger.admit(72.0) == ["small-2"]


def test_kept_room_ends_with_the_one_it_was_kept_for() -> None:
    ledger = Ledger(HOST, age_limit_s=1)
    ledger.restore("running", needs(1024))
    ledger.request("large", needs(2048), 0.0)
    ledger.request("small", needs(1024), 0.0)
    ledger.admit(100.0)
    ledger.request("later", needs(1024), 100.0)
    ledger.release("large")
    assert ledger.admit(101.0) == ["small"]


def test_those_let_past_share_what_the_kept_task_leaves() -> None:
    ledger = Ledger(HOST, age_limit_s=1)
    ledger.restore("running", needs(1024))
    ledger.request("large", needs(1536, tcp_ports={80}), 0.0)
    ledger.admit(10.0)
    ledger.request("past-1", needs(512), 10.0)
    ledger.request("past-2", needs(512), 10.0)
    ledger.request("port", needs(tcp_ports={80}), 10.0)
    assert ledger.admit(11.0) == ["past-1"]
    ledger.release("past-1")
    assert ledger.admit(12.0) == ["past-2"]


def test_a_fractional_host_view_counts_reserved_ports_out() -> None:
    views = {view.name: view.total for view in Ledger(HOST).used()}
    assert views == {
        "CPU": 2048,
        "MEMORY": 1024,
        "PORTS_TCP": 65534,
        "PORTS_UDP": 65534,
        "GPU": 2,
    }


possible = st.builds(
    Needs,
    cpu_units=st.integers(0, 2048),
    memory_mib=st.integers(0, 1024),
    tcp_ports=st.frozensets(st.sampled_from([80, 81]), max_size=2),
    udp_ports=st.frozensets(st.sampled_from([80]), max_size=1),
    gpus=st.frozensets(st.sampled_from(["GPU-a", "GPU-b"]), max_size=2),
)


class LedgerMachine(RuleBasedStateMachine):
    """Random requests and ends, against sums kept by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger = Ledger(HOST, age_limit_s=60)
        self.now = 0.0
        self.count = 0
        self.held: dict[str, Needs] = {}
        self.waiting: dict[str, Needs] = {}

    @rule(wanted=possible, wait_s=st.floats(0, 100))
    def request(self, wanted: Needs, wait_s: float) -> None:
        self.now += wait_s
        self.count += 1
        arn = f"t/{self.count}"
        self.ledger.request(arn, wanted, self.now)
        self.waiting[arn] = wanted
        self._admit()

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        arn = data.draw(st.sampled_from(sorted(self.held)))
        del self.held[arn]
        self.ledger.release(arn)
        self._admit()

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def give_up(self, data: st.DataObject) -> None:
        arn = data.draw(st.sampled_from(sorted(self.waiting)))
        del self.waiting[arn]
        self.ledger.release(arn)
        self._admit()

    @precondition(lambda self: self.waiting)
    @rule(wanted=possible)
    def an_old_waiter_is_admitted_once_those_before_it_end(self, wanted: Needs) -> None:
        """However many come after it, and though those let past it never end."""
        oldest = next(iter(self.waiting))
        self.now += 61
        self._admit()
        before = set(self.held)
        for _ in range(3):
            self.request(wanted, 1.0)
        for arn in before & set(self.held):
            del self.held[arn]
            self.ledger.release(arn)
            self._admit()
        assert oldest in self.held or oldest in before

    def _admit(self) -> None:
        for arn in self.ledger.admit(self.now):
            self.held[arn] = self.waiting.pop(arn)

    @invariant()
    def never_more_than_there_is(self) -> None:
        assert sum(n.cpu_units for n in self.held.values()) <= HOST.cpu_units
        assert sum(n.memory_mib for n in self.held.values()) <= HOST.memory_mib
        for kind in ("tcp_ports", "udp_ports", "gpus"):
            items = [item for n in self.held.values() for item in getattr(n, kind)]
            assert len(items) == len(set(items))

    @invariant()
    def books_match(self) -> None:
        views = used(self.ledger)
        assert views["CPU"] == sum(n.cpu_units for n in self.held.values())
        assert views["MEMORY"] == sum(n.memory_mib for n in self.held.values())
        assert views["PORTS_TCP"] == sum(len(n.tcp_ports) for n in self.held.values())
        assert views["PORTS_UDP"] == sum(len(n.udp_ports) for n in self.held.values())
        assert views["GPU"] == sum(len(n.gpus) for n in self.held.values())

    @invariant()
    def every_waiter_has_a_reason_and_no_holder_has(self) -> None:
        for arn in self.waiting:
            wait = self.ledger.wait_of(arn)
            assert wait is not None
            assert wait.what
        assert all(self.ledger.wait_of(arn) is None for arn in self.held)

    @invariant()
    def nobody_waits_on_an_idle_host(self) -> None:
        assert self.held or not self.waiting


TestLedger = LedgerMachine.TestCase
TestLedger.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
