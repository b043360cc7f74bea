"""What the versions of task metadata do not have in common: statuses and texts of errors. Pure.

``version2``, ``version3`` and ``version4`` have one object each. A text is the body of the answer, as a JSON
string. The odd ones are Amazon's, and clients may look for them: "v3 endpoint ID" in version 4, and three
different statuses for an id that nobody knows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

from agent.task_endpoint.metadata.paths import Subject

if TYPE_CHECKING:
    from collections.abc import Mapping


class Refusal(Exception):
    """A request that is answered with an error."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


class Version(Protocol):
    """One version."""

    @property
    def extended(self) -> bool:
        """Whether objects have the fields of version 4."""

    def unknown_id(self, subject: Subject, endpoint_id: str) -> Refusal:
        """Return the answer for an id that no container of the caller's task has."""

    def no_container(self, docker_id: str) -> Refusal:
        """Return the answer for a container that the agent does not know."""

    def no_networks(self, docker_id: str) -> Refusal:
        """Return the answer for a container that the engine did not describe."""

    def no_container_stats(self, docker_id: str) -> Refusal:
        """Return the answer for a container without figures."""


class Handler(NamedTuple):
    """How Amazon's agent names what answers a subject."""

    name: str
    by_container: bool
    """Whether it looks for a container first, and not for a task."""


HANDLERS: Mapping[Subject, Handler] = {
    Subject.CONTAINER: Handler("container metadata", by_container=True),
    Subject.TASK: Handler("task metadata", by_container=False),
    Subject.TASK_WITH_TAGS: Handler("task metadata", by_container=False),
    Subject.CONTAINER_STATS: Handler("container stats", by_container=False),
    Subject.TASK_STATS: Handler("task stats", by_container=False),
    Subject.ASSOCIATIONS: Handler("container associations", by_container=True),
    Subject.ASSOCIATION: Handler("container associations", by_container=True),
}


def unknown_id_text(version: int, subject: Subject, endpoint_id: str) -> str:
    """Return the text for an id that nobody knows, in versions 3 and 4."""
    handler = HANDLERS[subject]
    begin = f"V{version} {handler.name} handler: unable to get"
    # Only the handlers of associations have the small letters.
    word = "container id" if handler.name.endswith("associations") else "container ID"
    if handler.by_container:
        return f"{begin} {word} from request: unable to get docker ID from v3 endpoint ID: {endpoint_id}"
    return (
        f"{begin} task arn from request: unable to get task Arn from v3 endpoint ID: {endpoint_id}"
    )


def no_association_name(version: int) -> Refusal:
    """Return the answer for an association without a name."""
    text = "container associations handler: unable to get association name from request"
    return Refusal(400, f"V{version} {text}")


def no_association(kind: str, name: str) -> Refusal:
    """Return the answer for an association that the container does not have."""
    return Refusal(
        400,
        "Unable to write container association response: unable to get association from "
        f"association type {kind} and association name {name}",
    )
