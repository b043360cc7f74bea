"""The Auto Scaling group of a capacity provider: a name, and settings of which some would need AWS. Pure.

What needs a group that starts and ends hosts is refused. All that is left are its defaults and the values
that have no effect while managed scaling is off, which are checked, kept and shown as Amazon ECS does.
``managedDraining`` is about hosts that the group ends. Here it ends none, so both values mean the same.

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
    "hosts of your own are not started and ended by an Auto Scaling group. Leave it out, and add hosts "
    "where the events of services say that their tasks find no room"
)


def new_group(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a new capacity provider, with all defaults.

    Raises:
        InvalidParameterException: a value is not valid, or there is no group.
        UnsupportedFeatureException: a setting would need AWS.
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
    return updated_group(group, given)


def updated_group(old: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings after an update; what it leaves out stays.

    Raises:
        InvalidParameterException: a value is not valid.
        UnsupportedFeatureException: a setting would need AWS.
    """
    scaling = {**old["managedScaling"], **(given.get("managedScaling") or {})}
    if scaling["status"] == "ENABLED":
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
    if given.get("managedTerminationProtection") == "ENABLED":
        raise UnsupportedFeatureException(
            f"'managedTerminationProtection' ENABLED is not supported: {_NOT_SCALED}."
        )
    return {
        **old,
        "managedScaling": scaling,
        "managedDraining": given.get("managedDraining") or old["managedDraining"],
    }
