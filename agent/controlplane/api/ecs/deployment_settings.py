"""``deploymentConfiguration`` of services: defaults, checks, and the stages that a deployment gets by it. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from agent.controlplane.front.errors import InvalidParameterException, UnsupportedFeatureException
from agent.controlplane.services import lifecycle
from agent.controlplane.services.record import (
    BLUE_GREEN,
    DAEMON,
    REPLICA,
    ROLLING,
    Hook,
    Lifecycle,
    ServiceRecord,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

LONGEST_BAKE_MINUTES = 1440
HOOK_MINUTES = 1440
"""Amazon's default."""
LONGEST_HOOK_MINUTES = 20_160

_PERCENT = "maximumPercent", "minimumHealthyPercent"
_DEFAULTS = {REPLICA: (200, 100), DAEMON: (100, 0)}
_NOTHING = {
    "deploymentCircuitBreaker": {"enable": False, "rollback": False},
    "alarms": {"alarmNames": [], "rollback": False, "enable": False},
    "strategy": ROLLING,
    "bakeTimeInMinutes": 0,
}
"""What is shown of a deployment configuration besides what was given."""


def merged(request: Mapping[str, Any], scheduling: str, old: Mapping[str, Any]) -> dict[str, Any]:
    """Return the configuration of a service after a request.

    Args:
        request: CreateService or UpdateService.
        scheduling: REPLICA or DAEMON.
        old: the configuration before; empty for a new service.

    Raises:
        ApiError: it cannot be done.
    """
    given: Mapping[str, Any] = request.get("deploymentConfiguration") or {}
    defaults = dict(zip(_PERCENT, _DEFAULTS[scheduling], strict=True))
    result = {**_NOTHING, **defaults, **old, **given}
    result["alarms"] = {"alarmNames": [], "rollback": False, "enable": False, **result["alarms"]}
    _check_percentages(result, scheduling)
    threshold = result["deploymentCircuitBreaker"].get("thresholdConfiguration")
    if threshold is not None:
        _check_threshold(threshold)
    if result["strategy"] == BLUE_GREEN:
        _check_stages(result, scheduling)
    else:
        _refuse_stages(given)
        result = {**result, "bakeTimeInMinutes": 0, "lifecycleHooks": None}
    left_out = "earlySuccessCriteria"
    return {name: value for name, value in result.items() if name != left_out and value is not None}


def check(service: ServiceRecord) -> None:
    """Raise ``InvalidParameterException`` if the strategy does not go with what the service runs."""
    is_staged = service.deployment_configuration["strategy"] != ROLLING
    if is_staged and service.is_external:
        raise InvalidParameterException(
            f"The deployment strategy {BLUE_GREEN} is not supported with the deployment controller EXTERNAL."
        )
    if is_staged and service.primary.load_balancers:
        raise InvalidParameterException(
            "advancedConfiguration field is required for all loadBalancers when using a non-ROLLING "
            "deployment strategy"
        )


def begun(service: ServiceRecord, now: float) -> ServiceRecord:
    """Return a service whose primary deployment is new, with the stages that the service wants for it."""
    configuration = service.deployment_configuration
    if configuration["strategy"] != BLUE_GREEN or service.is_external:
        return service
    known = Lifecycle(
        stage=lifecycle.RECONCILE_SERVICE,
        since=now,
        bake_s=60.0 * configuration["bakeTimeInMinutes"],
        hooks=[_hook(given) for given in configuration.get("lifecycleHooks") or ()],
    )
    primary = replace(service.primary, lifecycle=known)
    return replace(service, deployments=[primary, *service.deployments[1:]])


def _hook(given: Mapping[str, Any]) -> Hook:
    timeout = given.get("timeoutConfiguration") or {}
    return Hook(
        stages=given["lifecycleStages"],
        timeout_s=60.0 * timeout.get("timeoutInMinutes", HOOK_MINUTES),
        on_timeout=timeout.get("action", "ROLLBACK"),
    )


def _check_percentages(configuration: Mapping[str, Any], scheduling: str) -> None:
    most, least = (configuration[name] for name in _PERCENT)
    if not 0 <= least <= 100:
        raise InvalidParameterException("minimumHealthyPercent must be between 0 and 100.")
    if scheduling == DAEMON and most != 100:
        raise InvalidParameterException(
            "maximumPercent must be 100 with the daemon scheduling strategy."
        )
    if most < 100:
        raise InvalidParameterException("maximumPercent must be at least 100.")
    if scheduling == REPLICA and most == least == 100:
        raise InvalidParameterException(
            "Both maximumPercent and minimumHealthyPercent cannot be 100 as this will block "
            "deployments"
        )


def _check_threshold(threshold: Mapping[str, Any]) -> None:
    value = threshold["value"]
    if threshold["type"] == "COUNT":
        if value < 1:
            raise InvalidParameterException("The value of thresholdConfiguration must be above 0.")
    elif not 1 <= value <= 100:
        raise InvalidParameterException(
            "The value of thresholdConfiguration must be between 1 and 100 per cent."
        )


def _check_stages(configuration: Mapping[str, Any], scheduling: str) -> None:
    if scheduling == DAEMON:
        raise InvalidParameterException(
            f"The deployment strategy {BLUE_GREEN} is not supported with the daemon scheduling strategy."
        )
    if not 0 <= configuration["bakeTimeInMinutes"] <= LONGEST_BAKE_MINUTES:
        raise InvalidParameterException(
            f"bakeTimeInMinutes must be between 0 and {LONGEST_BAKE_MINUTES}."
        )
    for hook in configuration.get("lifecycleHooks") or ():
        _check_hook(hook)


def _check_hook(hook: Mapping[str, Any]) -> None:
    if hook.get("targetType") != "PAUSE":
        raise InvalidParameterException("Invalid targetType. Valid values are: AWS_LAMBDA, PAUSE")
    stages = hook.get("lifecycleStages") or []
    if not stages:
        raise InvalidParameterException("lifecycleStages of a lifecycle hook cannot be empty.")
    if not lifecycle.PAUSE_STAGES.issuperset(stages):
        raise InvalidParameterException("Invalid lifecycle stage provided for Pause Hook")
    minutes = (hook.get("timeoutConfiguration") or {}).get("timeoutInMinutes", HOOK_MINUTES)
    if not 1 <= minutes <= LONGEST_HOOK_MINUTES:
        raise InvalidParameterException(
            f"timeoutInMinutes of a lifecycle hook must be between 1 and {LONGEST_HOOK_MINUTES}."
        )


def _refuse_stages(given: Mapping[str, Any]) -> None:
    for name in ("bakeTimeInMinutes", "lifecycleHooks"):
        if given.get(name):
            raise UnsupportedFeatureException(
                f"'deploymentConfiguration.{name}' is not supported with the strategy {ROLLING}: a rolling "
                f"deployment is completed when all of its tasks are healthy; use {BLUE_GREEN}, or leave it out."
            )
