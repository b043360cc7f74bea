"""What task metadata is made of: a task's record, and its containers as the engine describes them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple

from msgspec import Struct, field

from agent.model.task import AgentTask
from agent.runtime.protocol import ContainerDetails
from agent.task_endpoint.metadata.document import TagError


class Tasks(NamedTuple):
    """How tasks of this host are found; of ``engine.Engine``, which may be made later."""

    known_tasks: Callable[[], Collection[str]]
    """Return the ARNs of all of them."""
    record: Callable[[str], AgentTask | None]
    """Return the record of one, to read at once; None for one that is not here."""


class HostFacts(Struct, frozen=True, kw_only=True):
    """What is the same for all tasks of this host."""

    cluster: str
    availability_zone: str = ""
    """Empty where it is unknown, or not to be told."""


class TaskTags(Struct, frozen=True, kw_only=True):
    """Tags of a task and of this host, and why some are missing."""

    task: dict[str, str] = field(default_factory=dict)
    instance: dict[str, str] = field(default_factory=dict)
    errors: list[TagError] = field(default_factory=list)


class SeenTask(Struct, frozen=True, kw_only=True):
    """One task at one moment. The record is only read."""

    record: AgentTask
    details: Mapping[str, ContainerDetails] = field(default_factory=dict)
    """By container; those that the engine did not describe are missing."""
    sandbox: ContainerDetails | None = None
    """Holds the network of a task in awsvpc mode."""
    holder: ContainerDetails | None = None
    """Holds other namespaces that the task's containers share."""


class NetworksUnknown(Exception):
    """The engine did not say which networks a container is in; the argument is its engine id."""

    def __init__(self, docker_id: str) -> None:
        super().__init__(docker_id)
        self.docker_id = docker_id
