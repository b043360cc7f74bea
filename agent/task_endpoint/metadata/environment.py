"""The variables by which a container finds what it can ask. Pure.

As on Amazon ECS they win over variables of the same name in the container's definition, environment files
and image; a secret of the same name wins over them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from agent.task_endpoint.metadata.endpoint_ids import EndpointIds

ADDRESS: Final = "http://169.254.170.2"
"""Where containers reach the agent, in every network mode that has a network."""


def variables(ids: EndpointIds, task_arn: str, container: str) -> dict[str, str]:
    """Return the variables of a container."""
    own = ids.of(task_arn, container)
    return {
        "ECS_CONTAINER_METADATA_URI": f"{ADDRESS}/v3/{own}",
        "ECS_CONTAINER_METADATA_URI_V4": f"{ADDRESS}/v4/{own}",
        "ECS_AGENT_URI": f"{ADDRESS}/api/{own}",
    }
