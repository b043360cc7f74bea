"""Builders of payloads and records for the tests of the task engine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agent.model import task
from agent.model.payload import Container, Dependency, TaskPayload
from agent.model.status import Condition, ContainerStatus

if TYPE_CHECKING:
    from agent.model.task import AgentTask

ARN = "arn:aws:ecs:us-east-1:123456789012:task/default/0123456789abcdef0123456789abcdef"
NOW = 1_700_000_000.0


def container(name: str, *depends_on: tuple[str, str], **fields: Any) -> Container:
    """``container("a", ("b", "START"), essential=False)``."""
    waits = [
        Dependency(container_name=target, condition=Condition(condition))
        for target, condition in depends_on
    ]
    return Container(name=name, image=fields.pop("image", "busybox"), depends_on=waits, **fields)


def payload(*containers: Container, **fields: Any) -> TaskPayload:
    """A task of these containers, without a network unless the fields say otherwise."""
    given = {"arn": ARN, "family": "web", "version": "1", "network_mode": "none", **fields}
    return TaskPayload(containers=list(containers), **given)


def new_record(*containers: Container, **fields: Any) -> AgentTask:
    """The record of such a task, ordered and admitted at NOW."""
    record = task.new_record(payload(*containers, **fields), origin="control-1", now=NOW)
    record.admitted_at = NOW
    return record


def put(record: AgentTask, name: str, known: ContainerStatus, **fields: Any) -> None:
    """Place a container at a status, with whatever goes along with it."""
    there = record.containers[name]
    there.known = known
    if known >= ContainerStatus.CREATED:
        there.runtime_id = f"id-{name}"
    if known is ContainerStatus.RUNNING:
        there.started_at = there.started_at or NOW
    for key, value in fields.items():
        setattr(there, key, value)
