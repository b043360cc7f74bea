"""``deploymentConfiguration.alarms`` of services: checks, and the alarms that a new deployment watches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from msgspec.structs import replace

from agent.controlplane.front.errors import InvalidParameterException
from agent.controlplane.scaling import alarm_states
from agent.controlplane.scaling.figures import Figures
from agent.controlplane.services.record import AlarmWatch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.controlplane.parts import Parts
    from agent.controlplane.services.record import ServiceRecord

NAMES_MOST: Final = 100
"""As many as one DescribeAlarms takes."""
_NAME_LENGTH: Final = 255


def check(parts: Parts, alarms: Mapping[str, Any]) -> None:
    """Raise ``ApiError`` for alarms that no deployment can watch."""
    names = alarms["alarmNames"]
    if len(names) > NAMES_MOST:
        raise InvalidParameterException(f"alarmNames can have at most {NAMES_MOST} items.")
    if not all(1 <= len(name) <= _NAME_LENGTH for name in names):
        raise InvalidParameterException(
            f"The alarmNames of the deployment alarms must have 1 to {_NAME_LENGTH} characters."
        )
    if not alarms["enable"]:
        return
    if not names:
        raise InvalidParameterException(
            "alarmNames cannot be empty when the deployment alarms are enabled."
        )
    parts.metric_store()


async def begun(parts: Parts, service: ServiceRecord) -> ServiceRecord:
    """Return a service whose primary deployment is new, with the alarms that it watches.

    Alarms that do not exist are taken, because an alarm about a service may be made after it; an event tells of them.

    Raises:
        StoreFailure: of the store.
    """
    given = service.deployment_configuration["alarms"]
    if service.is_external or not given["enable"]:
        return service
    names = list(dict.fromkeys(given["alarmNames"]))
    minute = alarm_states.closed_minute(parts.clock())
    seen = await alarm_states.seen(parts.store, Figures(parts.metric_store()), names, minute)
    watch = AlarmWatch(
        names=names,
        rolls_back=given["rollback"],
        since=seen.at,
        already=[name for name in names if seen.alarms[name].is_firing],
    )
    primary = replace(service.primary, alarms=watch)
    return replace(service, deployments=[primary, *service.deployments[1:]])
