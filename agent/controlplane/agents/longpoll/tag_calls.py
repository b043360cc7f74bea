"""Tags for agents: ``POST /v1/tags``, those that one resource has at this moment.

``{"instance": ARN, "resource": ARN}`` → 200 ``{"tags": {KEY: VALUE}}``. A host is told its own tags and those
of tasks that are placed on it; for all else, 404 ``InstanceUnknown`` or 400.

Tests: ``tests/unit/controlplane/agents/test_tag_calls.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from agent.controlplane import access, records
from agent.controlplane.agents.longpoll.errors import InvalidRequest
from agent.controlplane.names import parse_arn
from agent.controlplane.records import TaskRecord
from agent.errors import BAD_JSON

if TYPE_CHECKING:
    from agent.controlplane.parts import Parts
    from agent.controlplane.records import InstanceRecord


class AskedTags(Struct, frozen=True):
    """What an agent asks for."""

    instance: str
    resource: str


class ResourceTags(Struct, frozen=True):
    """The tags."""

    tags: dict[str, str]


_asked = msgspec.json.Decoder(AskedTags)


def read(body: bytes) -> AskedTags:
    """Return what a call asks for; raises ``InvalidRequest``."""
    try:
        return _asked.decode(body)
    except BAD_JSON as error:
        raise InvalidRequest(f"the resource cannot be read: {error}") from None


async def answer(parts: Parts, instance: InstanceRecord, asked: AskedTags) -> ResourceTags:
    """Return the tags of a resource.

    Raises:
        InvalidRequest: it is neither this instance nor a task that is placed on it.
    """
    if asked.resource == instance.arn:
        return ResourceTags(instance.tags)
    parsed = parse_arn(asked.resource)
    if parsed is not None and parsed.kind == "task" and len(parsed.path) == 2:
        found = await access.find(parts.store, TaskRecord, records.task_key(*parsed.path))
        task = found.record if found is not None else None
        if task is not None and task.arn == asked.resource and task.instance_id == instance.id:
            return ResourceTags(task.tags)
    raise InvalidRequest("the resource is neither this container instance nor a task placed on it")
