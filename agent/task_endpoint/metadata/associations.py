"""Devices that a task's containers were given, such as GPUs, as its order names them. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.task_endpoint.metadata.document import Associations
from agent.task_endpoint.metadata.version import no_association, no_association_name

if TYPE_CHECKING:
    from agent.model.payload import TaskPayload


def names(payload: TaskPayload, container: str, kind: str) -> Associations:
    """Return the names of a container's associations of one type."""
    found = [
        each.name
        for each in payload.associations
        if each.type == kind and container in each.containers
    ]
    return Associations(associations=found or None)


def content(version: int, payload: TaskPayload, container: str, kind: str, name: str) -> str:
    """Return what the order says about an association, as it stands there; empty for nothing.

    Raises:
        Refusal: there is none of that name.
    """
    if not name:
        raise no_association_name(version)
    for each in payload.associations:
        if (each.type, each.name) == (kind, name) and container in each.containers:
            return each.content.value if each.content is not None else ""
    raise no_association(kind, name)
