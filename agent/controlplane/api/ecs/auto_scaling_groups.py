"""The Auto Scaling group of a capacity provider: a name, and settings of its managed scaling. Pure.

Hosts are added and removed by a program of the operator's (``host_scaling``); where control has none for the capacity
provider, managed scaling is refused. While it is off, its other settings have no effect, and are checked, kept and
shown as Amazon ECS does.

Source of the values: the Amazon ECS API reference, AutoScalingGroupProvider and ManagedScaling.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from agent.controlplane.front.errors import InvalidParameterException, UnsupportedFeatureException

if TYPE_CHECKING:
    from collections.abc import Mapping

_GROUP = re.compile(
    r"arn:aws[a-z-]*:autoscaling:[a-z0-9-]+:[0-9]{12}:autoScalingGroup:[^/]*:autoScalingGroupName/.+"
    r"|[^:/]+"
)
_LONGEST = 1600
_SCALING = {
    "status": "DISABLED",
    "targetCapacity": 100,
    "minimumScalingStepSize": 1,
    "maximumScalingStepSize": 10000,
    "instanceWarmupPeriod": 300,
}
_LIMITS = {
    "targetCapacity": (1, 100),
    "minimumScalingStepSize": (1, 10000),
    "maximumScalingStepSize": (1, 10000),
    "instanceWarmupPeriod": (0, 10000),
}
_NOT_SCALED = (
    "no program adds and removes the hosts of this capacity provider. Name one in the file of control's option "
    "--host-hooks, or leave it out and add hosts where tasks find no room"
)


def new_group(given: Mapping[str, Any], *, has_hook: bool) -> dict[str, Any]:
    """Return the settings of a new capacity provider, with all defaults.

    Args:
        given: ``autoScalingGroupProvider``.
        has_hook: whether a program adds and removes its hosts.

    Raises:
        InvalidParameterException: a value is not valid, or there is no group.
        UnsupportedFeatureException: managed scaling needs a program.
    """
    name = given.get("autoScalingGroupArn") or ""
    if not name:
        raise InvalidParameterException("autoScalingGroupProvider must be specified.")
    if len(name) > _LONGEST or not _GROUP.fullmatch(name):
        raise InvalidParameterException(
            "The specified Auto Scaling group ARN is not valid: use an ARN of autoscaling, or a name "
            "without colons and slashes. Any will do, because it only names the hosts."
        )
    group = {
        "autoScalingGroupArn": name,
        "managedScaling": dict(_SCALING),
        "managedTerminationProtection": "DISABLED",
        "managedDraining": "ENABLED",
    }
    return updated_group(group, given, has_hook=has_hook)


def updated_group(
    old: Mapping[str, Any], given: Mapping[str, Any], *, has_hook: bool
) -> dict[str, Any]:
    """Return the settings after an update; what it leaves out stays.

    Raises:
        InvalidParameterException: a value is not valid.
        UnsupportedFeatureException: managed scaling needs a program.
    """
    scaling = {**old["managedScaling"], **(given.get("managedScaling") or {})}
    is_scaled = scaling["status"] == "ENABLED"
    if is_scaled and not has_hook and old["managedScaling"]["status"] != "ENABLED":
        raise UnsupportedFeatureException(
            f"'managedScaling.status' ENABLED is not supported: {_NOT_SCALED}."
        )
    for name, (least, most) in _LIMITS.items():
        if not least <= scaling[name] <= most:
            raise InvalidParameterException(
                f"managedScaling.{name} must be between {least} and {most}."
            )
    if scaling["minimumScalingStepSize"] > scaling["maximumScalingStepSize"]:
        raise InvalidParameterException(
            "managedScaling.minimumScalingStepSize must not be above maximumScalingStepSize."
        )
    protection = given.get("managedTerminationProtection") or old["managedTerminationProtection"]
    if protection == "ENABLED" and not is_scaled:
        raise InvalidParameterException(
            "The managed termination protection setting for the capacity provider is invalid. To enable "
            "managed termination protection for a capacity provider, managed scaling must be enabled."
        )
    return {
        **old,
        "managedScaling": scaling,
        "managedTerminationProtection": protection,
        "managedDraining": given.get("managedDraining") or old["managedDraining"],
    }
