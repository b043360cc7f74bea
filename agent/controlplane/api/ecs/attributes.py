"""Attributes of container instances: PutAttributes, DeleteAttributes, ListAttributes.

Attributes set by an operator are *custom*: they stay when the agent registers again. Source of the
rules: the Amazon ECS API reference (Attribute) and the service quotas.

Tests: ``tests/unit/controlplane/api/ecs/test_instances.py``.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from agent.controlplane import access, records
from agent.controlplane.api.ecs.naming import active_cluster, at_most, resource_id
from agent.controlplane.front.errors import (
    AttributeLimitExceededException,
    InvalidParameterException,
    TargetNotFoundException,
)
from agent.controlplane.front.pages import page_size, start_after, token
from agent.controlplane.records import AttributeRecord, InstanceRecord
from agent.controlplane.store.contract import Put, unchanged

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from agent.controlplane.names import Names
    from agent.controlplane.parts import Handlers, Parts

CALL_LIMIT = 10
"""Maximum number of attributes in one call."""
CUSTOM_LIMIT = 10
"""Maximum number of custom attributes of one instance."""
TARGET_TYPE = "container-instance"

_NAME = re.compile(r"[A-Za-z0-9_./\\-]{1,128}")
_VALUE = re.compile(r"[A-Za-z0-9_.:/@\\ -]{1,128}")
_RESERVED = ("ecs.", "com.amazonaws.")

Attributes = dict[str, AttributeRecord]


async def put_attributes(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Set attributes of instances; either all are set or none."""
    given = request["attributes"]
    for attribute in given:
        _check(attribute)

    def put(attributes: Attributes, mine: Sequence[Mapping[str, str]]) -> Attributes:
        new = attributes | {
            a["name"]: AttributeRecord(value=a.get("value"), custom=True) for a in mine
        }
        if sum(attribute.custom for attribute in new.values()) > CUSTOM_LIMIT:
            raise AttributeLimitExceededException(
                f"A container instance can have at most {CUSTOM_LIMIT} custom attributes."
            )
        return new

    return await _change(parts, request, put)


async def delete_attributes(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Delete attributes of instances by name; missing ones are ignored."""
    for attribute in request["attributes"]:
        _check_name(attribute["name"])

    def delete(attributes: Attributes, mine: Sequence[Mapping[str, str]]) -> Attributes:
        gone = {attribute["name"] for attribute in mine}
        return {name: value for name, value in attributes.items() if name not in gone}

    return await _change(parts, request, delete)


async def list_attributes(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """List the attributes of all instances of a cluster, in pages."""
    cluster = await active_cluster(parts, request)
    name, value = request.get("attributeName"), request.get("attributeValue")
    if value is not None and name is None:
        raise InvalidParameterException("attributeValue needs attributeName.")
    size = page_size(request)
    after = start_after("ListAttributes", request)
    shown: list[dict[str, Any]] = []
    last = ""
    prefix = records.instances_prefix(cluster.name)
    async for _, record in access.scan(parts.store, InstanceRecord, prefix):
        if record.status == "INACTIVE":
            continue
        for attribute_name, attribute in sorted(record.attributes.items()):
            place = f"{record.id} {attribute_name}"
            if after is not None and place <= after:
                continue
            if name is not None and attribute_name != name:
                continue
            if value is not None and (attribute.value or "") != value:
                continue
            if len(shown) == size:
                return {
                    "attributes": shown,
                    "nextToken": token("ListAttributes", request, last),
                }
            shown.append(
                {
                    "name": attribute_name,
                    "value": attribute.value or None,
                    "targetType": TARGET_TYPE,
                    "targetId": record.arn,
                }
            )
            last = place
    return {"attributes": shown}


async def _change(
    parts: Parts,
    request: Mapping[str, Any],
    decide: Callable[[Attributes, Sequence[Mapping[str, str]]], Attributes],
) -> dict[str, Any]:
    """Change all targets in one transaction."""
    cluster = await active_cluster(parts, request)
    given = request["attributes"]
    if not given:
        raise InvalidParameterException("Attributes cannot be empty.")
    at_most(given, CALL_LIMIT, "attributes")
    by_target: dict[str, list[Mapping[str, str]]] = {}
    for attribute in given:
        by_target.setdefault(_target(parts.names, attribute, cluster.name), []).append(attribute)
    keys = {target: records.instance_key(cluster.name, target) for target in by_target}
    tries = access.ConflictRetries(f"attributes in {cluster.name}")
    while True:
        found = await access.find_many(parts.store, InstanceRecord, keys.values())
        compares, puts = [], []
        for target, mine in by_target.items():
            instance = found.get(keys[target])
            if instance is None or instance.record.status == "INACTIVE":
                raise TargetNotFoundException(f"The target was not found: {target}")
            new = replace(
                instance.record,
                attributes=decide(instance.record.attributes, mine),
                version=instance.record.version + 1,
            )
            compares.append(unchanged(instance.kv))
            puts.append(Put(keys[target], records.encode(new)))
        if (await parts.store.txn(compares, puts)).succeeded:
            return {"attributes": [_show(parts, cluster.name, a) for a in given]}
        await tries.again()


def _target(names: Names, attribute: Mapping[str, str], cluster: str) -> str:
    target = attribute.get("targetId")
    if not target:
        raise InvalidParameterException(f"The attribute '{attribute['name']}' needs a targetId.")
    if not target.startswith("arn:") and "targetType" not in attribute:
        raise InvalidParameterException("targetType is required unless targetId is an ARN.")
    return resource_id(names, target, TARGET_TYPE, cluster)


def _show(parts: Parts, cluster: str, attribute: Mapping[str, str]) -> dict[str, Any]:
    return {
        "name": attribute["name"],
        "value": attribute.get("value"),
        "targetType": TARGET_TYPE,
        "targetId": parts.names.instance(cluster, _target(parts.names, attribute, cluster)),
    }


def _check(attribute: Mapping[str, str]) -> None:
    _check_name(attribute["name"])
    value = attribute.get("value")
    if value is not None and (not _VALUE.fullmatch(value) or value != value.strip()):
        raise InvalidParameterException(
            f"The value of attribute '{attribute['name']}' must have 1 to 128 letters, numbers, "
            "spaces or _ . : / @ \\ -, and must not begin or end with a space."
        )


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise InvalidParameterException(
            f"The attribute name '{name[:128]}' must have 1 to 128 letters, numbers or _ . / \\ -."
        )
    if name.startswith(_RESERVED):
        raise InvalidParameterException(
            f"The attribute '{name}' is reserved: names that begin with {' or '.join(_RESERVED)} "
            "are set by the agent."
        )


HANDLERS: Handlers = {
    "PutAttributes": put_attributes,
    "DeleteAttributes": delete_attributes,
    "ListAttributes": list_attributes,
}
