"""Tags in requests, and the tags of resources, whatever their API calls them.

Those of a resource are asked of the handler that lists tags in its API, so that there is one way to find them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from agent.controlplane.store.contract import StoreFailure
from agent.errors import AgentError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from agent.controlplane.parts import Handlers, Parts

_GIVEN: Final = ("tags", "Tags", "TagList")
_REMOVED: Final = ("tagKeys", "TagKeys")
_SPECIFIED: Final = "TagSpecifications"


class _Lister(NamedTuple):
    """The operation of an API that knows the tags of a resource."""

    operation: str
    request: Callable[[str], dict[str, Any]]
    """Made of the resource's ARN."""
    tags: Callable[[Mapping[str, Any]], Any]
    """Returns the tags in its response."""


def _id(arn: str) -> str:
    return arn.rpartition("/")[2]


_BY_UPPER_ARN: Final = _Lister(
    "ListTagsForResource", lambda arn: {"ResourceARN": arn}, lambda found: found.get("Tags")
)
_LISTERS: Final[Mapping[str, _Lister]] = {
    "application-autoscaling": _BY_UPPER_ARN,
    "cloudwatch": _BY_UPPER_ARN,
    "ec2": _Lister(
        "DescribeSecurityGroups",
        lambda arn: {"GroupIds": [_id(arn)]},
        lambda found: found["SecurityGroups"][0].get("Tags"),
    ),
    "ecs": _Lister(
        "ListTagsForResource", lambda arn: {"resourceArn": arn}, lambda found: found.get("tags")
    ),
    "elbv2": _Lister(
        "DescribeTags",
        lambda arn: {"ResourceArns": [arn]},
        lambda found: found["TagDescriptions"][0].get("Tags"),
    ),
    "events": _BY_UPPER_ARN,
    "logs": _Lister(
        "ListTagsForResource",
        lambda arn: {"resourceArn": arn.partition(":log-stream:")[0]},
        lambda found: found.get("tags"),
    ),
    "scheduler": _Lister(
        "ListTagsForResource", lambda arn: {"ResourceArn": arn}, lambda found: found.get("Tags")
    ),
    "secretsmanager": _Lister(
        "DescribeSecret", lambda arn: {"SecretId": arn}, lambda found: found.get("Tags")
    ),
    "servicediscovery": _BY_UPPER_ARN,
    "ssm": _Lister(
        "ListTagsForResource",
        lambda arn: {"ResourceType": "Parameter", "ResourceId": arn},
        lambda found: found.get("TagList"),
    ),
}
_IAM: Final = {
    "role": _Lister(
        "ListRoleTags", lambda arn: {"RoleName": _id(arn)}, lambda found: found.get("Tags")
    ),
    "user": _Lister(
        "ListUserTags", lambda arn: {"UserName": _id(arn)}, lambda found: found.get("Tags")
    ),
}


def of_request(members: Mapping[str, Any]) -> dict[str, str]:
    """Return the tags that a request gives to a resource. Pure."""
    found: dict[str, str] = {}
    for name in _GIVEN:
        found |= _read(members.get(name))
    for specification in members.get(_SPECIFIED) or ():
        found |= _read(specification.get("Tags"))
    return found


def removed_by(members: Mapping[str, Any]) -> list[str]:
    """Return the keys of tags that a request removes. Pure."""
    return [key for name in _REMOVED for key in members.get(name) or ()]


async def of_resource(parts: Parts, service: str, handlers: Handlers, arn: str) -> dict[str, str]:
    """Return the tags of a resource; none if it has none, or does not exist.

    Raises:
        StoreFailure: they cannot be read.
    """
    kind = arn.rpartition(":")[2].partition("/")[0]
    lister = _IAM.get(kind) if service == "iam" else _LISTERS.get(service)
    if lister is None or "*" in arn:
        return {}
    try:
        response = await handlers[lister.operation](parts, lister.request(arn))
        return _read(lister.tags(response))
    except StoreFailure:
        raise  # a Deny that depends on the tags must not be passed over
    except (AgentError, LookupError):
        return {}


def _read(tags: Any) -> dict[str, str]:
    """Return tags as a dict; they are a map, or a list of pairs."""
    if isinstance(tags, dict):
        return dict(tags)
    return {
        str(tag.get("key", tag.get("Key", ""))): str(tag.get("value", tag.get("Value", "")))
        for tag in tags or ()
        if isinstance(tag, dict)
    }
