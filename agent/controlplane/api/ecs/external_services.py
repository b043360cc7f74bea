"""Services with the deployment controller EXTERNAL: what they leave to their task sets. Pure.

Source of the rules: the Amazon ECS API reference (CreateService, UpdateService) and developer guide,
"External deployment".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agent.controlplane.front.errors import InvalidParameterException, UnsupportedFeatureException
from agent.controlplane.services.record import DAEMON

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.controlplane.services.record import ServiceRecord

_OF_TASK_SETS = (
    *("taskDefinition", "launchType", "capacityProviderStrategy", "platformVersion"),
    *("networkConfiguration", "loadBalancers", "serviceRegistries", "serviceConnectConfiguration"),
    *("volumeConfigurations", "forceNewDeployment"),
)
"""What a task set says, and its service does not."""


def check_new(request: Mapping[str, Any]) -> None:
    """Raise ``InvalidParameterException`` for a new service that says what its task sets will say."""
    _check(request)
    if request.get("schedulingStrategy") == DAEMON:
        raise InvalidParameterException(
            "The daemon scheduling strategy is not supported with the deployment controller EXTERNAL."
        )


def check_update(old: ServiceRecord, request: Mapping[str, Any]) -> None:
    """Raise ``ApiError`` for an update that the deployment controller of the service does not allow."""
    asked = (request.get("deploymentController") or {}).get("type") or old.controller
    if asked != old.controller:
        raise UnsupportedFeatureException(
            f"'deploymentController.type' {asked} is not supported for a service that has "
            f"{old.controller}: create another service."
        )
    if old.is_external:
        _check(request)


def _check(request: Mapping[str, Any]) -> None:
    for member in _OF_TASK_SETS:
        if request.get(member):
            raise InvalidParameterException(
                f"{member} cannot be specified for a service with the deployment controller EXTERNAL; "
                "each of its task sets has its own."
            )
    configuration = request.get("deploymentConfiguration") or {}
    if (configuration.get("deploymentCircuitBreaker") or {}).get("enable"):
        raise InvalidParameterException(
            "The deployment circuit breaker is not supported with the deployment controller EXTERNAL: "
            "whoever creates the task sets also rolls them back."
        )
    if (configuration.get("alarms") or {}).get("enable"):
        raise InvalidParameterException(
            "Deployment alarms are not supported with the deployment controller EXTERNAL: "
            "whoever creates the task sets also rolls them back."
        )
