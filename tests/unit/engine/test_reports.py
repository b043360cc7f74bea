from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from agent.engine import reports
from agent.engine.live import FailedPull, LiveState, Retry
from agent.model import changes
from agent.model.payload import EngineConfig
from agent.model.status import ContainerStatus, Health, TaskStatus
from agent.model.task import AgentTask, NetworkBinding, TaskNetwork
from tests.support.tasks import ARN, NOW, container, new_record, put

if TYPE_CHECKING:
    from collections.abc import Callable

NETWORK = TaskNetwork(
    attachment_id="eni-1",
    mac="0a:00",
    ipv4="10.0.0.2",
    prefix_len=24,
    gateway="10.0.0.1",
    hostname="ip-10-0-0-2",
)


def fresh() -> AgentTask:
    record = new_record(container("a", container_arn="arn/a"), container("b"))
    put(record, "a", ContainerStatus.PULLED)
    return record


def ordered_to_stop(record: AgentTask) -> None:
    record.stopping_at, record.stop_ordered = NOW, True


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda r: put(r, "a", ContainerStatus.CREATED), False),
        (lambda r: put(r, "a", ContainerStatus.RUNNING), True),
        (lambda r: put(r, "a", ContainerStatus.STOPPED), True),
        (lambda r: put(r, "a", ContainerStatus.PULLED, exit_code=143), True),
        (lambda r: put(r, "a", ContainerStatus.PULLED, health=Health.HEALTHY), True),
        (lambda r: put(r, "a", ContainerStatus.PULLED, image_digest="sha256:1"), True),
        (lambda r: put(r, "a", ContainerStatus.PULLED, restart_count=1), True),
        (lambda r: setattr(r, "known", TaskStatus.CREATED), False),
        (lambda r: setattr(r, "known", TaskStatus.RUNNING), True),
        (lambda r: setattr(r, "host_ports", {"a": [1]}), False),
        (lambda r: setattr(r, "stopping_at", NOW), True),
        (ordered_to_stop, False),
    ],
)
def test_what_control_must_hear_of(change: Callable[[AgentTask], None], told: bool) -> None:
    record = fresh()
    live = LiveState()
    before = reports.signature(record, live)
    change(record)
    assert (reports.signature(record, live) != before) is told


@pytest.mark.parametrize(
    ("trouble", "reasons"),
    [
        (LiveState(failed_pulls={"a": FailedPull("P: no")}), ["P: no", ""]),
        (LiveState(retries={"b": Retry(1, NOW, NOW, "no", "C: no")}), ["", "C: no"]),
        (LiveState(retries={"@network": Retry(1, NOW, NOW, "no", "N: no")}), ["N: no", "N: no"]),
        (LiveState(retries={"@clean": Retry(1, NOW, NOW, "no", "no")}), ["", ""]),
    ],
)
def test_what_holds_a_container_up_is_told_while_it_is_to_come_up(
    trouble: LiveState, reasons: list[str]
) -> None:
    record = fresh()
    told = reports.change_of(record, trouble, NOW)
    assert [c.reason for c in told.containers] == reasons
    differs = reports.signature(record, trouble) != reports.signature(record, LiveState())
    assert differs is any(reasons)
    for status in (ContainerStatus.RUNNING, ContainerStatus.STOPPED):
        put(record, "a", status)
        put(record, "b", status)
        told = reports.change_of(record, trouble, NOW)
        assert [c.reason for c in told.containers] == ["", ""]
        assert reports.signature(record, trouble) == reports.signature(record, LiveState())


@pytest.mark.parametrize("ipv4", ["10.0.0.2", ""])
def test_a_report_shows_the_ipv6_address(ipv4: str) -> None:
    record = fresh()
    record.network_held = True
    record.network = replace(NETWORK, ipv4=ipv4, ipv6="fd00::2")
    change = reports.change_of(record, LiveState(), NOW)
    assert changes.decode(changes.encode(change)) == change
    shown = change.containers[0].network_interfaces[0]
    assert (shown.private_ipv4_address, shown.ipv6_address) == (ipv4, "fd00::2")
    details = change.attachments[0].details
    assert details["privateIPv6Address"] == "fd00::2"
    assert details.get("privateIPv4Address", "") == ipv4
    assert record.network.any_address == (ipv4 or "fd00::2")


def test_a_report_is_whole_and_goes_over_the_wire() -> None:
    record = fresh()
    record.network, record.network_held = NETWORK, True
    bindings = [NetworkBinding(container_port=80, host_port=8080)]
    put(record, "a", ContainerStatus.RUNNING, bindings=bindings, runtime_id="x" * 300)
    put(record, "b", ContainerStatus.STOPPED, bindings=bindings, exit_code=0, reason="r")
    record.known = TaskStatus.RUNNING
    change = reports.change_of(record, LiveState(), NOW, lambda: "id-1")
    assert changes.decode(changes.encode(change)) == change
    assert (change.id, change.task_arn, change.status, change.at) == ("id-1", ARN, "RUNNING", NOW)
    a, b = change.containers
    assert (a.container_name, a.container_arn, a.status) == ("a", "arn/a", "RUNNING")
    assert (len(a.runtime_id), a.network_bindings) == (255, bindings)
    assert (b.status, b.exit_code, b.reason, b.network_bindings) == ("STOPPED", 0, "r", [])
    assert a.network_interfaces[0].private_ipv4_address == "10.0.0.2"
    (attachment,) = change.attachments
    assert (attachment.id, attachment.status) == ("eni-1", "ATTACHED")
    assert attachment.details["privateIPv4Address"] == "10.0.0.2"
    assert re.fullmatch(r"eni-[0-9a-f]{17}", attachment.details["networkInterfaceId"])
    record.network_held = False
    assert reports.change_of(record, LiveState(), NOW).attachments[0].status == "DELETED"


def test_a_container_without_a_network_is_reported_without_the_tasks_address() -> None:
    record = fresh()
    record.network, record.network_held = NETWORK, True
    a = record.payload.containers[0]
    apart = replace(a, docker_config=EngineConfig(config={"networkDisabled": True}))
    record.payload = replace(record.payload, containers=[apart, *record.payload.containers[1:]])
    told = reports.change_of(record, LiveState(), NOW)
    assert [bool(c.network_interfaces) for c in told.containers] == [False, True]


def test_ids_are_never_used_twice() -> None:
    record = fresh()
    assert (
        reports.change_of(record, LiveState(), NOW).id
        != reports.change_of(record, LiveState(), NOW).id
    )


def test_a_task_that_never_became_a_record_is_reported_stopped() -> None:
    change = reports.rejected(ARN, "why", NOW, "TaskFailedToStart")
    assert (change.status, change.reason, change.stopped_at) == ("STOPPED", "why", NOW)
    assert change.containers == []
