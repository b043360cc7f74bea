"""Asks Amazon ECS for the tags of a resource. Raises ``AwsFailure``.

Tests: ``tests/integration/task_endpoint/test_metadata.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from agent.errors import AwsUnavailable

if TYPE_CHECKING:
    from agent.upstream.amazon.calls import Api

ATTEMPTS: Final = 2
ATTEMPT_S: Final = 1.5
"""Both together with the wait between them fit into the time that a container may wait."""


async def resource_tags(api: Api, resource_arn: str) -> dict[str, str]:
    """Return the tags of a task or a container instance, by their keys.

    Raises:
        AwsFailure: Amazon ECS does not answer, refuses, or its answer has no tags.
    """
    answer = await api.call(
        "ListTagsForResource",
        {"resourceArn": resource_arn},
        attempts=ATTEMPTS,
        limit_s=ATTEMPT_S,
    )
    try:
        return {str(tag["key"]): str(tag.get("value", "")) for tag in answer.get("tags", ())}
    except (AttributeError, KeyError, TypeError):
        raise AwsUnavailable("the answer of ListTagsForResource cannot be read") from None
