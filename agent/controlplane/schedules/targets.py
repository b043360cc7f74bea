"""What a target of EventBridge is for ECS: a RunTask request. Both APIs name its members alike.

Members that this control would not do anything with are refused by name.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import msgspec

from agent.controlplane.api.ecs import task_orders
from agent.controlplane.front.errors import ApiError, ClientException, ClusterNotFoundException
from agent.controlplane.front.service_model import ApiModel
from agent.controlplane.names import parse_arn
from agent.controlplane.scheduler import placement
from agent.controlplane.scheduler.query import QueryError
from agent.controlplane.schedules.record import TargetRecord

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.controlplane.parts import Parts

MOST_COPIES: Final = 10
_SERVED: Final = frozenset({"Id", "Arn", "RoleArn", "Input", "EcsParameters", "RetryPolicy"})
_SAME: Final = {
    "LaunchType": "launchType",
    "PlatformVersion": "platformVersion",
    "Group": "group",
    "CapacityProviderStrategy": "capacityProviderStrategy",
    "PlacementConstraints": "placementConstraints",
    "PlacementStrategy": "placementStrategy",
    "EnableECSManagedTags": "enableECSManagedTags",
    "EnableExecuteCommand": "enableExecuteCommand",
    "PropagateTags": "propagateTags",
    "ReferenceId": "referenceId",
}
_SHOWN: Final = 128


class TargetInvalid(ValueError):
    """The target cannot be served; the text names the member."""


async def read(parts: Parts, given: Mapping[str, Any]) -> TargetRecord:
    """Return the record of a target.

    The cluster and the task definition need not exist yet; if they do, everything is checked as RunTask
    would.

    Raises:
        TargetInvalid: this control cannot run it.
    """
    unserved = sorted(set(given) - _SERVED)
    if unserved:
        raise TargetInvalid(f"{unserved[0]} of a target is not supported by this control endpoint.")
    arn = parse_arn(given["Arn"])
    if arn is None or arn.kind != "cluster" or not parts.names.owns(arn):
        raise TargetInvalid(
            f"{given['Arn'][:_SHOWN]} is not supported as a target: it must be the ARN of a cluster of this "
            "control endpoint."
        )
    if "EcsParameters" not in given:
        raise TargetInvalid("EcsParameters is required for a target that is an ECS cluster.")
    count = given["EcsParameters"].get("TaskCount", 1)
    if not 1 <= count <= MOST_COPIES:
        raise TargetInvalid(f"TaskCount must be between 1 and {MOST_COPIES}.")
    model = await asyncio.to_thread(ApiModel.load, "ecs")
    try:
        request = model.check("RunTask", _request(given, count))
        await _try_out(parts, request)
    except (ApiError, placement.PlacementError, QueryError) as error:
        raise TargetInvalid(str(error)) from None
    retry = given.get("RetryPolicy", {})
    retries, age_s = (
        retry.get("MaximumRetryAttempts", 185),
        retry.get("MaximumEventAgeInSeconds", 86400),
    )
    if not 0 <= retries <= 185:
        raise TargetInvalid("MaximumRetryAttempts must be between 0 and 185.")
    if not 60 <= age_s <= 86400:
        raise TargetInvalid("MaximumEventAgeInSeconds must be between 60 and 86400.")
    return TargetRecord(
        id=given.get("Id", ""),
        shown=dict(given),
        request=request,
        retries=retries,
        most_age_s=float(age_s),
    )


async def _try_out(parts: Parts, request: dict[str, Any]) -> None:
    """Return if RunTask would take a request, as far as that can be known now; raises what it raises."""
    placement.parse_constraints(request.get("placementConstraints", ()))
    placement.parse_strategies(request.get("placementStrategy", ()))
    try:
        await task_orders.read_order(parts, request)
    except (ClusterNotFoundException, ClientException):
        return


def _request(given: Mapping[str, Any], count: int) -> dict[str, Any]:
    ecs = given["EcsParameters"]
    request: dict[str, Any] = {
        "cluster": given["Arn"],
        "taskDefinition": ecs["TaskDefinitionArn"],
        "count": count,
    }
    request |= {name: ecs[member] for member, name in _SAME.items() if member in ecs}
    vpc = ecs.get("NetworkConfiguration", {}).get("awsvpcConfiguration")
    if vpc is not None:
        names = {
            "Subnets": "subnets",
            "SecurityGroups": "securityGroups",
            "AssignPublicIp": "assignPublicIp",
        }
        told = {name: vpc[member] for member, name in names.items() if member in vpc}
        request["networkConfiguration"] = {"awsvpcConfiguration": told}
    if "Tags" in ecs:
        request["tags"] = [_tag(tag) for tag in ecs["Tags"]]
    if given.get("Input"):
        request["overrides"] = _overrides(given["Input"])
    return request


def _tag(tag: Mapping[str, str]) -> dict[str, str]:
    lower = {name.lower(): value for name, value in tag.items()}
    if set(lower) != {"key", "value"}:
        raise TargetInvalid("Each of Tags must have Key and Value.")
    return lower


def _overrides(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except (ValueError, RecursionError):
        raise TargetInvalid("Input must be JSON: the overrides of RunTask.") from None
