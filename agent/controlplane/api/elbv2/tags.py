"""Tags of load balancers, listeners, rules and target groups: AddTags, RemoveTags, DescribeTags."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from msgspec.structs import replace

from agent.controlplane.api.elbv2 import requests
from agent.controlplane.api.elbv2.errors import ValidationError
from agent.controlplane.loadbalancing import forwarding, stored

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from agent.controlplane.loadbalancing.balancer_records import (
        ListenerRecord,
        LoadBalancerRecord,
        TargetGroupRecord,
    )
    from agent.controlplane.parts import Handlers, Parts

RESOURCES_MOST: Final = 20


async def add_tags(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Add tags to resources, or give them new values."""
    for arn in await _tags_of_all(parts, request):
        await _change(parts, arn, lambda old: requests.tags(request["Tags"], old))
    return {}


async def remove_tags(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Remove tags from resources; missing ones are ignored."""
    gone = frozenset(request["TagKeys"])
    for arn in await _tags_of_all(parts, request):
        await _change(parts, arn, lambda old: {k: v for k, v in old.items() if k not in gone})
    return {}


async def describe_tags(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Return the tags of resources."""
    shown = [
        {"ResourceArn": arn, "Tags": [{"Key": key, "Value": tags[key]} for key in sorted(tags)]}
        for arn, tags in (await _tags_of_all(parts, request)).items()
    ]
    return {"TagDescriptions": shown}


async def _tags_of_all(parts: Parts, request: dict[str, Any]) -> dict[str, Mapping[str, str]]:
    """Return the tags of the resources that a request names, by ARN.

    Raises:
        AgentError: as ``stored`` does, if one does not exist.
    """
    arns: list[str] = request["ResourceArns"]
    if not 1 <= len(arns) <= RESOURCES_MOST:
        raise ValidationError(f"A call can name 1 to {RESOURCES_MOST} resources")
    return {arn: await _tags(parts, arn) for arn in arns}


async def _tags(parts: Parts, arn: str) -> Mapping[str, str]:
    store, names = parts.store, parts.names
    if ":loadbalancer/" in arn:
        return (await stored.balancer(store, names, arn)).record.tags
    if ":targetgroup/" in arn:
        return (await stored.group(store, names, arn)).record.tags
    if ":listener/" in arn or ":listener-rule/" in arn:
        found = (await stored.listener(store, names, arn)).record
        rule = forwarding.find_rule(found, arn)
        return found.tags if rule is None or arn == found.arn else rule.tags
    raise ValidationError(f"'{arn[:128]}' is not a valid resource ARN")


async def _change(
    parts: Parts, arn: str, decide: Callable[[Mapping[str, str]], dict[str, str]]
) -> None:
    store, names = parts.store, parts.names

    def balancer(old: LoadBalancerRecord) -> LoadBalancerRecord:
        return replace(old, tags=decide(old.tags))

    def group(old: TargetGroupRecord) -> TargetGroupRecord:
        return replace(old, tags=decide(old.tags))

    def listener(old: ListenerRecord) -> ListenerRecord:
        rule = forwarding.find_rule(old, arn)
        if rule is None or arn == old.arn:
            return replace(old, tags=decide(old.tags))
        return forwarding.with_rule(old, replace(rule, tags=decide(rule.tags)))

    if ":loadbalancer/" in arn:
        await stored.change_balancer(store, names, arn, balancer)
    elif ":targetgroup/" in arn:
        await stored.change_group(store, names, arn, group)
    else:
        await stored.change_listener(store, names, arn, listener)


HANDLERS: Handlers = {
    "AddTags": add_tags,
    "RemoveTags": remove_tags,
    "DescribeTags": describe_tags,
}
