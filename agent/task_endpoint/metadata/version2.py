"""Version 2: for tasks in awsvpc mode, which it finds by the address of the caller. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.task_endpoint.metadata.version import Refusal

if TYPE_CHECKING:
    from agent.task_endpoint.metadata.paths import Subject


class Version2:
    """See ``version.Version``."""

    extended = False

    def unknown_id(self, subject: Subject, endpoint_id: str) -> Refusal:
        """Return the answer for a caller that is not a task; ``endpoint_id`` is its address."""
        del subject
        return Refusal(
            400,
            f"Unable to get task arn from request: unable to associate '{endpoint_id}' with task",
        )

    def no_container(self, docker_id: str) -> Refusal:
        """Return the answer for a container that the task does not have."""
        return Refusal(400, f"Unable to generate metadata for container '{docker_id}'")

    def no_networks(self, docker_id: str) -> Refusal:
        """Return the answer for a container that the engine did not describe."""
        return self.no_container(docker_id)

    def no_container_stats(self, docker_id: str) -> Refusal:
        """Return the answer for a container without figures."""
        return Refusal(400, f"Unable to get container stats for: {docker_id}")
