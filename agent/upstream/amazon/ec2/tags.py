"""The tags of this EC2 instance, for its container instance.

Accesses instance metadata and the EC2 API. Fails with ``AwsFailure``; the registration then waits
and tries again, whereas Amazon's agent exits. Source: Amazon ECS agent 1.105.1, ``agent/ec2``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from agent.errors import AwsRefused, AwsUnavailable
from agent.upstream.amazon.calls import asked

if TYPE_CHECKING:
    from collections.abc import Mapping
    from xml.etree.ElementTree import Element

    from agent.upstream.amazon.calls import InstanceMetadata

TAGS_LIMIT: Final = 50
"""The maximum number of tags of an EC2 instance."""
_RESERVED: Final = "aws:"
_DENIED: Final = frozenset({"UnauthorizedOperation", "AccessDenied", "AccessDeniedException"})


class Ec2Query(Protocol):
    """The EC2 query API, implemented by ``aws.query.QueryApi``."""

    async def query(self, action: str, params: Mapping[str, str]) -> Element:
        """Return the root of the answer, tags without namespaces; raises ``AwsFailure``."""


class InstanceTags:
    """Fetches the tags of this instance; every call fetches them again."""

    def __init__(self, imds: InstanceMetadata | None, ec2: Ec2Query) -> None:
        self._imds = asked(imds)
        self._ec2 = ec2

    async def __call__(self) -> dict[str, str]:
        """Return the tags that users gave the instance, by key.

        Raises:
            AwsFailure: instance metadata or the EC2 API failed; the text names the fix.
        """
        instance_id = await self._instance_id()
        filters = {
            "Filter.1.Name": "resource-id",
            "Filter.1.Value.1": instance_id,
            "Filter.2.Name": "resource-type",
            "Filter.2.Value.1": "instance",
        }
        try:
            return read_tags(await self._ec2.query("DescribeTags", filters))
        except AwsRefused as error:
            if error.code not in _DENIED:
                raise
            raise AwsRefused(
                f"{error}; allow ec2:DescribeTags for the instance's role, or set"
                " ECS_CONTAINER_INSTANCE_PROPAGATE_TAGS_FROM=none",
                code=error.code,
                status=error.status,
            ) from error

    async def _instance_id(self) -> str:
        found = None
        if self._imds is not None:
            found = await self._imds.insist("meta-data/instance-id")
        if not found:
            raise AwsUnavailable(
                "ECS_CONTAINER_INSTANCE_PROPAGATE_TAGS_FROM is ec2_instance, but instance metadata"
                " names no EC2 instance; set it to none on hosts that are not EC2 instances"
            )
        return found


def read_tags(answer: Element) -> dict[str, str]:
    """Return the tags in an answer to DescribeTags, without those of AWS itself (``aws:``)."""
    tags: dict[str, str] = {}
    for item in answer.iterfind("tagSet/item"):
        key = item.findtext("key") or ""
        if key and not key.startswith(_RESERVED) and len(tags) < TAGS_LIMIT:
            tags[key] = item.findtext("value") or ""
    return tags
