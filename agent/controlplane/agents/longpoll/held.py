"""The tasks that an agent still has after the store became older: lost tasks are restored.

A task that the store knows is updated by the report that comes with it. A task that it does not know
was started after the backup was made: its record is rebuilt from the agent's payload, so that it is
shown, counted on its instance, and can be stopped. Neither is ever restarted.

Only accepted from an instance that should report its tasks (``InstanceRecord.recovering``): otherwise
an agent could create tasks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import structlog
from msgspec.structs import replace

from agent.controlplane import access, records
from agent.controlplane.agents import report_rules, reports
from agent.controlplane.agents.longpoll.errors import InvalidRequest
from agent.controlplane.bounds import OutOfBounds
from agent.controlplane.names import parse_arn
from agent.controlplane.records import (
    AssignRecord,
    AttachmentRecord,
    ContainerRecord,
    InstanceRecord,
    TaskRecord,
)
from agent.controlplane.scheduler.fleet import LENT
from agent.controlplane.store.contract import Put, absent, present
from agent.errors import BAD_JSON, PayloadError
from agent.model import payload as payload_model
from agent.model.resources import needs_of
from agent.model.status import DesiredStatus
from agent.model.wire import ChangeAnswer, ChangesAnswer, Held

if TYPE_CHECKING:
    from agent.controlplane.names import Names
    from agent.controlplane.parts import Parts
    from agent.model.payload import Container, TaskPayload
    from agent.model.wire import HeldTask

_ID_SHOWN = 256

_decoder = msgspec.json.Decoder(Held)

_log = structlog.get_logger(__name__)


def read(body: bytes) -> Held:
    """Return the tasks that an agent reports as held.

    Raises:
        InvalidRequest: the body is invalid, or has too much for one call.
    """
    try:
        report_rules.look(body)
        held = _decoder.decode(body)
    except OutOfBounds as error:
        raise InvalidRequest(f"held tasks are refused: {error}") from None
    except BAD_JSON as error:
        raise InvalidRequest(f"held tasks cannot be read: {error}") from None
    if len(held.tasks) > report_rules.BATCH_MOST:
        raise InvalidRequest(f"more than {report_rules.BATCH_MOST} tasks in one call")
    return held


async def take(parts: Parts, instance: InstanceRecord, held: Held) -> ChangesAnswer:
    """Restore lost tasks and update the others; safe to repeat.

    Raises:
        InvalidRequest: this instance was not asked for its tasks.
        StoreFailure: a part may not have been done; repeating the call is safe.
    """
    if not instance.recovering:
        raise InvalidRequest("this instance was not asked for its tasks")
    answers = [await _take(parts, instance, task) for task in held.tasks]
    if held.last:
        key = records.instance_key(instance.cluster, instance.id)
        await access.change(
            parts.store,
            InstanceRecord,
            key,
            lambda old: replace(old, recovering=False),
            urgent=True,
        )
    return ChangesAnswer(results=answers)


async def _take(parts: Parts, instance: InstanceRecord, held: HeldTask) -> ChangeAnswer:
    change = held.change
    try:
        report_rules.check(change)
        if len(held.payload) > report_rules.PAYLOAD_MOST_BYTES:
            raise OutOfBounds(f"payload has more than {report_rules.PAYLOAD_MOST_BYTES} bytes")
        payload = payload_model.decode(held.payload)
        report_rules.check_payload(payload)
        task = adopted(payload, instance, parts.names)
    except (PayloadError, ValueError) as error:
        return ChangeAnswer(id=change.id[:_ID_SHOWN], status="rejected", message=str(error)[:300])
    if payload.arn != change.task_arn:
        return ChangeAnswer(
            id=change.id, status="rejected", message="the report is of another task"
        )
    key = records.task_key(task.cluster, task.id)
    if await parts.store.get(key) is None:
        assignment = AssignRecord.of(task)
        made = await parts.store.txn(
            [absent(key), present(records.instance_key(instance.cluster, instance.id))],
            [
                Put(key, records.encode(task)),
                Put(records.assignment_key(instance.id, task.id), records.encode(assignment)),
                Put(records.placement_key(instance.id), b""),
            ],
            urgent=True,
        )
        if made.succeeded:
            _log.warning("lost task restored from its agent", task=task.arn, instance=instance.arn)
    answer = await reports.apply(parts, instance, [change])
    return answer.results[0]


def adopted(payload: TaskPayload, instance: InstanceRecord, names: Names) -> TaskRecord:
    """Return the record of a task as far as its payload has it, before any report is applied. Pure.

    Raises:
        ValueError: it is not a task of this control, or of the instance's cluster.
    """
    arn = parse_arn(payload.arn)
    if arn is None or arn.kind != "task" or not names.owns(arn) or len(arn.path) != 2:
        raise ValueError("the payload's ARN is not that of a task of this control")
    cluster, task_id = arn.path
    if cluster != instance.cluster and LENT not in instance.attributes:
        raise ValueError(f"the task is in cluster {cluster}, but its instance is in another")
    if not payload.version.isdecimal() or not payload.family:
        raise ValueError("the payload names no task definition")
    revision = int(payload.version)
    needs = needs_of(payload)
    gpus = {
        c.name: [a.name for a in payload.associations if a.type == "gpu" and c.name in a.containers]
        for c in payload.containers
    }
    stopping = payload.desired_status is DesiredStatus.STOPPED
    return TaskRecord(
        id=task_id,
        arn=payload.arn,
        cluster=cluster,
        task_definition_arn=names.task_definition(payload.family, revision),
        family=payload.family,
        revision=revision,
        instance_id=instance.id,
        instance_arn=instance.arn,
        desired_status="STOPPED" if stopping else "RUNNING",
        containers=[
            _container(c, names, cluster, task_id, gpus[c.name]) for c in payload.containers
        ],
        attachments=[
            AttachmentRecord(
                id=records.last_element(a.attachment_arn),
                type=a.attachment_type,
                details={
                    p["name"]: p.get("value", "") for p in a.attachment_properties if "name" in p
                },
            )
            for a in payload.attachments
        ],
        needs=needs,
        cpu=str(needs.cpu_units),
        memory=str(needs.memory_mib),
        group=payload.group,
        launch_type=payload.launch_type or "EC2",
        availability_zone=instance.attribute_values.get("ecs.availability-zone") or "",
        adopted=True,
    )


def _container(
    definition: Container, names: Names, cluster: str, task_id: str, gpu_ids: list[str]
) -> ContainerRecord:
    return ContainerRecord(
        name=definition.name,
        arn=definition.container_arn or names.container(cluster, task_id),
        image=definition.image,
        essential=definition.essential,
        health_check=definition.health_check_type == "docker",
        cpu=definition.cpu,
        memory=definition.memory or None,
        gpu_ids=gpu_ids,
    )
