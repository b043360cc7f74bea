"""Version 4: as version 3, with more fields, network rates, and errors that can be told apart. Pure."""

from __future__ import annotations

from typing import Final

from agent.task_endpoint.metadata.paths import Subject
from agent.task_endpoint.metadata.version import Refusal, unknown_id_text

_OF_ASSOCIATIONS: Final = frozenset({Subject.ASSOCIATIONS, Subject.ASSOCIATION})


class Version4:
    """See ``version.Version``."""

    extended = True

    def unknown_id(self, subject: Subject, endpoint_id: str) -> Refusal:
        """Return the answer for an id that no container of the caller's task has."""
        text = unknown_id_text(4, subject, endpoint_id)
        return Refusal(400 if subject in _OF_ASSOCIATIONS else 404, text)

    def no_container(self, docker_id: str) -> Refusal:
        """Return the answer for a container that the agent does not know."""
        return Refusal(500, f"unable to generate metadata for container '{docker_id}'")

    def no_networks(self, docker_id: str) -> Refusal:
        """Return the answer for a container that the engine did not describe."""
        return Refusal(500, f"unable to generate network response for container '{docker_id}'")

    def no_container_stats(self, docker_id: str) -> Refusal:
        """Return the answer for a container without figures."""
        return Refusal(500, f"Unable to get container stats for: {docker_id}")
