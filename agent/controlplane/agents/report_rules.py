"""Rules for reports about tasks, for both protocols: changes, held tasks, health. Pure.

A report over a limit is refused by itself: the agent gets "rejected" and drops it; others in the call
are accepted. An honest agent must never be refused: reasons are cut, not refused, because the end of
a task must be reported whatever text the engine gives.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from agent.controlplane import bounds
from agent.controlplane.agents.host_rules import CPU_UNITS_MOST, MEMORY_MIB_MOST
from agent.controlplane.bounds import (
    LINE,
    NAME,
    WORD,
    Anything,
    Form,
    Items,
    Number,
    OneOf,
    Pairs,
    Part,
    Table,
    Text,
)
from agent.model.changes import (
    AttachmentChange,
    ContainerChange,
    ManagedAgentChange,
    NetworkInterface,
    TaskChange,
)
from agent.model.resources import needs_of
from agent.model.task import NetworkBinding

if TYPE_CHECKING:
    from agent.model.payload import Container, TaskPayload

TASK_STATUSES: Final = (
    *("PROVISIONING", "PENDING", "ACTIVATING", "RUNNING"),
    *("DEACTIVATING", "STOPPING", "DEPROVISIONING", "STOPPED"),
)
"""In order."""
CONTAINER_STATUSES: Final = ("PENDING", "RUNNING", "STOPPED")
ATTACHMENT_STATUSES: Final = (
    *("PRECREATED", "CREATED", "ATTACHING", "ATTACHED"),
    *("DETACHING", "DETACHED", "DELETED"),
)
BATCH_MOST: Final = 1000
"""Maximum number of changes, or of held tasks, in one call."""
DETAILS_MOST: Final = 32
PAYLOAD_MOST_BYTES: Final = 512 * 1024
"""For one held task; a task definition has at most 64 KiB and its overrides 8 KiB."""
_CONTAINERS_MOST: Final = 100
"""A task definition has at most ten."""
_BINDINGS_MOST: Final = 4000
"""More than the port mappings that fit in a task definition of 64 KiB."""
_VALUES_MOST: Final = 250_000
_ARN: Final = Text(512)
_TIME: Final = Number(0, 32_503_680_000)
"""Up to the year 3000: later times break clients that show them."""
_PORT: Final = Number(1, 65535)
_RANGE: Final = Text(11, form=Form(re.compile(r"[0-9]{1,5}(-[0-9]{1,5})?"), "only first-last"))
_ADDRESS: Final = Text(64, form=Form(re.compile(r"[0-9A-Za-z:.%]*"), "only an address"))
_REASON: Final = Anything()

REPORTS: Final = Table(
    {
        TaskChange: {
            "id": Text(128, least=1),
            "task_arn": _ARN,
            "status": OneOf(TASK_STATUSES),
            "at": _TIME,
            "reason": _REASON,
            "stop_code": Text(64),
            "pull_started_at": _TIME,
            "pull_stopped_at": _TIME,
            "started_at": _TIME,
            "stopping_at": _TIME,
            "execution_stopped_at": _TIME,
            "stopped_at": _TIME,
            "containers": Items(_CONTAINERS_MOST, Part()),
            "attachments": Items(_CONTAINERS_MOST, Part()),
        },
        ContainerChange: {
            "container_name": Text(255),
            "status": OneOf(CONTAINER_STATUSES),
            "container_arn": _ARN,
            "runtime_id": Text(255, form=WORD),
            "image_digest": Text(255, form=WORD),
            "exit_code": Number(-(2**31), 2**31 - 1),
            "reason": _REASON,
            "health_status": Anything(),
            "restart_count": Number(0, 2**31 - 1),
            "network_bindings": Items(_BINDINGS_MOST, Part()),
            "network_interfaces": Items(16, Part()),
            "managed_agents": Items(16, Part()),
        },
        NetworkBinding: {
            "bind_ip": _ADDRESS,
            "container_port": _PORT,
            "host_port": _PORT,
            "container_port_range": _RANGE,
            "host_port_range": _RANGE,
            "protocol": OneOf(("tcp", "udp", "sctp")),
        },
        NetworkInterface: {
            "attachment_id": _ARN,
            "private_ipv4_address": _ADDRESS,
            "ipv6_address": _ADDRESS,
        },
        ManagedAgentChange: {
            "name": Text(255),
            "status": Text(64),
            "reason": _REASON,
        },
        AttachmentChange: {
            "id": _ARN,
            "status": OneOf(ATTACHMENT_STATUSES),
            "type": Text(128),
            "details": Pairs(DETAILS_MOST, Text(128, least=1), Text(512)),
        },
    }
)

_FAMILY: Final = Text(255, least=1, form=NAME)
_REVISION: Final = Text(9, least=1, form=Form(re.compile(r"[0-9]*"), "only digits"))
_CONTAINER_NAME: Final = Text(255, least=1, form=NAME)
_PROPERTIES: Final = Items(DETAILS_MOST, Pairs(8, Text(128), Text(1024)))


def check(change: TaskChange) -> None:
    """Raise ``OutOfBounds`` for a report that no correct agent sends; names what is wrong."""
    REPORTS.check(change)


def check_payload(payload: TaskPayload) -> None:
    """Raise ``OutOfBounds`` for a held task from which no record should be made.

    Only checks the fields that go into the record; others are not stored.
    """
    for rule, value, where in (
        (_ARN, payload.arn, "arn"),
        (_FAMILY, payload.family, "family"),
        (_REVISION, payload.version, "version"),
        (Text(255), payload.group, "group"),
        (OneOf(("", "EC2", "EXTERNAL", "FARGATE")), payload.launch_type, "launchType"),
        (Number(0, CPU_UNITS_MOST / 1024), payload.cpu, "cpu"),
        (Number(0, MEMORY_MIB_MOST), payload.memory, "memory"),
        (Items(_CONTAINERS_MOST, Anything()), payload.containers, "containers"),
        (Items(_CONTAINERS_MOST, Anything()), payload.associations, "associations"),
        (Items(16, Anything()), payload.attachments, "attachments"),
    ):
        rule.check(value, where, REPORTS)
    for index, container in enumerate(payload.containers):
        _check_container(container, f"containers[{index}]")
    needs = needs_of(payload)
    Number(0, CPU_UNITS_MOST).check(needs.cpu_units, "the task's CPU units", REPORTS)
    Number(0, MEMORY_MIB_MOST).check(needs.memory_mib, "the task's memory", REPORTS)
    for association in payload.associations:
        Text(128, form=WORD).check(association.name, "associations.name", REPORTS)
    for attachment in payload.attachments:
        _ARN.check(attachment.attachment_arn, "attachmentArn", REPORTS)
        Text(128).check(attachment.attachment_type, "attachmentType", REPORTS)
        _PROPERTIES.check(attachment.attachment_properties, "attachmentProperties", REPORTS)


def _check_container(container: Container, where: str) -> None:
    for rule, value, name in (
        (_CONTAINER_NAME, container.name, "name"),
        (Text(512, least=1, form=LINE), container.image, "image"),
        (_ARN, container.container_arn, "containerArn"),
        (Number(0, CPU_UNITS_MOST), container.cpu, "cpu"),
        (Number(0, MEMORY_MIB_MOST), container.memory, "memory"),
        (Items(_BINDINGS_MOST, Anything()), container.port_mappings, "portMappings"),
    ):
        rule.check(value, f"{where}.{name}", REPORTS)
    for mapping in container.port_mappings:
        if mapping.host_port:
            _PORT.check(mapping.host_port, f"{where}.portMappings.hostPort", REPORTS)


def look(body: bytes) -> None:
    """Raise ``OutOfBounds`` for reports, or held tasks, with too many items to be decoded."""
    bounds.look(body, most_items=_BINDINGS_MOST, most_values=_VALUES_MOST)
