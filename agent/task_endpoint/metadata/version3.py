"""Version 3: finds containers by the id in their URI. Pure."""

from __future__ import annotations

from typing import Final

from agent.task_endpoint.metadata.paths import Subject
from agent.task_endpoint.metadata.version import Refusal, unknown_id_text

_STATUS: Final = {
    Subject.CONTAINER: 500,
    Subject.TASK: 500,
    Subject.TASK_WITH_TAGS: 500,
}
"""For an id that nobody knows; 400 for all else."""


class Version3:
    """See ``version.Version``."""

    extended = False

    def unknown_id(self, subject: Subject, endpoint_id: str) -> Refusal:
        """Return the answer for an id that no container of the caller's task has."""
        text = unknown_id_text(3, subject, endpoint_id)
        return Refusal(_STATUS.get(subject, 400), text)

    def no_container(self, docker_id: str) -> Refusal:
        """Return the answer for a container that the agent does not know."""
        return Refusal(500, f"Unable to generate metadata for container '{docker_id}'")

    def no_networks(self, docker_id: str) -> Refusal:
        """Return the answer for a container that the engine did not describe."""
        return Refusal(500, f"Unable to generate network response for container '{docker_id}'")

    def no_container_stats(self, docker_id: str) -> Refusal:
        """Return the answer for a container without figures."""
        return Refusal(400, f"Unable to get container stats for: {docker_id}")
