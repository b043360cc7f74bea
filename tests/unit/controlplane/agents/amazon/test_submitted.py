"""What a request of an agent says of a task."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from agent.controlplane.agents.amazon import submitted
from agent.controlplane.records import ContainerRecord, TaskRecord

REQUEST: dict[str, Any] = {
    "cluster": "default",
    "task": "arn",
    "status": "STOPPED",
    "reason": "r",
    "executionStoppedAt": 5.5,
    "containers": [
        {"containerName": "a", "status": "STOPPED", "exitCode": 1, "runtimeId": "x" * 300}
    ],
    "attachments": [{"attachmentArn": "e", "status": "DELETED"}],
}


def test_the_same_words_are_the_same_change() -> None:
    one = submitted.of_task(REQUEST, {}, 10.0)
    again = submitted.of_task(dict(reversed(REQUEST.items())), {}, 99.0)
    other = submitted.of_task(REQUEST | {"reason": "s"}, {}, 10.0)
    assert one.id == again.id != other.id
    assert (one.at, one.stopped_at, one.execution_stopped_at) == (10.0, 10.0, 5.5)
    assert len(one.containers[0].runtime_id) == 255


def test_details_as_a_map_and_as_a_list() -> None:
    for details in ({"k": "v", "n": 5}, [{"name": "k", "value": "v"}, {"name": "n", "value": 5}]):
        raw = {"attachments": [{"attachmentArn": "e", "type": "T", "details": details}]}
        (attachment,) = submitted.of_task(REQUEST, raw, 1.0).attachments
        assert (attachment.id, attachment.type, attachment.details) == ("e", "T", {"k": "v"})


def test_a_reason_stays_with_the_status_that_it_explains() -> None:
    """A request names what is new; a reason that it leaves out holds as long as the status does."""
    task = TaskRecord(
        id="t",
        arn="arn:t",
        cluster="default",
        task_definition_arn="arn:d",
        family="web",
        revision=1,
        containers=[ContainerRecord(name="a", arn="c1", essential=False)],
    )

    def told(number: int, status: str, **more: Any) -> None:
        nonlocal task
        containers = [{"containerName": "a", "status": status, **more}]
        request = {"task": "arn:t", "status": "PENDING", "containers": containers, "n": number}
        task = submitted.apply(task, submitted.of_task(request, {}, 10.0 + number))

    told(1, "PENDING", reason="CannotPullContainerError: refused")
    assert task.containers[0].reason == "CannotPullContainerError: refused"
    told(2, "PENDING", imageDigest="sha256:1")
    assert task.containers[0].reason == ""
    told(3, "PENDING", reason="CannotCreateContainerError: away")
    told(4, "RUNNING")
    assert task.containers[0].reason == ""
    told(5, "STOPPED", reason="OutOfMemoryError: Container killed due to memory usage")
    told(6, "STOPPED", exitCode=137)
    assert task.containers[0].reason.startswith("OutOfMemoryError")


_junk = st.recursive(
    st.none() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


@given(_junk, _junk, _junk)
@settings(max_examples=100, deadline=None)
def test_extensions_may_be_anything(interfaces: Any, kind: Any, details: Any) -> None:
    raw = {
        "containers": [{"containerName": "a", "networkInterfaces": interfaces}],
        "attachments": [{"attachmentArn": "e", "type": kind, "details": details}],
    }
    change = submitted.of_task(REQUEST, raw, 1.0)
    assert change.containers[0].exit_code == 1
    assert change.attachments[0].status == "DELETED"


def test_a_port_of_zero_is_none_that_is_told() -> None:
    bindings = [{"bindIP": "0.0.0.0", "containerPort": 0, "hostPort": 0, "protocol": "tcp"}]
    asked = {**REQUEST, "containers": [{"containerName": "a", "networkBindings": bindings}]}
    (binding,) = submitted.of_task(asked, {}, 1.0).containers[0].network_bindings
    assert (binding.container_port, binding.host_port) == (None, None)
