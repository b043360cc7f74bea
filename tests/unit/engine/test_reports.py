from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from agent.engine import reports
from agent.model import changes
from agent.model.status import ContainerStatus, Health, TaskStatus
from agent.model.task import NetworkBinding, TaskNetwork, TaskRecord
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


def fresh() -> TaskRecord:
    record = new_record(container("a", container_arn="arn/a"), container("b"))
    put(record, "a", ContainerStatus.PULLED)
    return record


def ordered_to_stop(record: TaskRecord) -> None:
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
def test_what_control_must_hear_of(change: Callable[[TaskRecord], None], told: bool) -> None:
    record = fresh()
    before = reports.signature(record)
    change(record)
    assert (reports.signature(record) != before) is told


def test_a_report_is_whole_and_goes_over_the_wire() -> None:
    record = fresh()
    record.network, record.network_held = NETWORK, True
    bindings = [NetworkBinding(container_port=80, host_port=8080)]
    put(record, "a", ContainerStatus.RUNNING, bindings=bindings, runtime_id="x" * 300)
    put(record, "b", ContainerStatus.STOPPED, bindings=bindings, exit_code=0, reason="r")
    record.known = TaskStatus.RUNNING
    change = reports.change_of(record, NOW, lambda: "id-1")
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
    record.network_held = False
    assert reports.change_of(record, NOW).attachments[0].status == "DELETED"


def test_ids_are_never_used_twice() -> None:
    record = fresh()
    assert reports.change_of(record, NOW).id != reports.change_of(record, NOW).id


def test_a_task_that_never_became_a_record_is_reported_stopped() -> None:
    change = reports.rejected(ARN, "why", NOW, "TaskFailedToStart")
    assert (change.status, change.reason, change.stopped_at) == ("STOPPED", "why", NOW)
    assert change.containers == []
