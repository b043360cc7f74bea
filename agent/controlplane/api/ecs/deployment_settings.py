"""``deploymentConfiguration`` of services: defaults, checks, and the stages that a deployment gets by it. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from msgspec.structs import replace

from agent.controlplane.front.errors import InvalidParameterException, UnsupportedFeatureException
from agent.controlplane.services import lifecycle, rollout, traffic_shift
from agent.controlplane.services.record import (
    BLUE_GREEN,
    CANARY,
    DAEMON,
    LINEAR,
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
_STEPS: Final = {
    LINEAR: (
        "linearConfiguration",
        {"stepPercent": 10.0, "stepBakeTimeInMinutes": 6},
        ("stepPercent", 3.0),
    ),
    CANARY: (
        "canaryConfiguration",
        {"canaryPercent": 5.0, "canaryBakeTimeInMinutes": 10},
        ("canaryPercent", 0.1),
    ),
}
"""By strategy: the member that says how its traffic is shifted, its defaults, and the least percentage."""


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
    _merge_steps(result, old, given)
    if result["strategy"] != ROLLING:
        _check_stages(result, scheduling)
    else:
        _refuse_stages(given)
        result = {**result, "bakeTimeInMinutes": 0, "lifecycleHooks": None}
    left_out = "earlySuccessCriteria"
    return {name: value for name, value in result.items() if name != left_out and value is not None}


def check(service: ServiceRecord) -> None:
    """Raise ``InvalidParameterException`` if the strategy does not go with what the service runs."""
    strategy = service.deployment_configuration["strategy"]
    if strategy == ROLLING:
        return
    if service.is_external:
        raise InvalidParameterException(
            f"The deployment strategy {strategy} is not supported with the deployment controller EXTERNAL."
        )
    balancers = service.primary.load_balancers
    if strategy in _STEPS and not balancers:
        raise InvalidParameterException(
            f"The deployment strategy {strategy} shifts traffic step by step: it needs loadBalancers with "
            f"advancedConfiguration. Use {BLUE_GREEN} without load balancers."
        )
    if not all(each.get("advancedConfiguration") for each in balancers):
        raise InvalidParameterException(
            "advancedConfiguration field is required for all loadBalancers when using a non-ROLLING "
            "deployment strategy"
        )


def begun(service: ServiceRecord, now: float) -> ServiceRecord:
    """Return a service whose primary deployment is new, with the stages that the service wants for it."""
    configuration = service.deployment_configuration
    if service.is_external:
        return service
    primary = service.primary
    if configuration["strategy"] != ROLLING:
        steps, step_bake_s = _steps(configuration)
        if rollout.rollback_target(service) is None:
            steps = []  # nothing else has tasks that could serve the rest
        known = Lifecycle(
            stage=lifecycle.RECONCILE_SERVICE,
            since=now,
            bake_s=60.0 * configuration["bakeTimeInMinutes"],
            steps=steps,
            step_bake_s=step_bake_s,
            hooks=[_hook(given) for given in configuration.get("lifecycleHooks") or ()],
        )
        primary = replace(primary, lifecycle=known)
        service = replace(service, deployments=[primary, *service.deployments[1:]])
    groups = traffic_shift.groups_of_new(service)
    if groups != [each.get("targetGroupArn") for each in primary.load_balancers]:
        primary = replace(primary, target_groups=groups)
    return replace(service, deployments=[primary, *service.deployments[1:]])


def _steps(configuration: Mapping[str, Any]) -> tuple[list[float], float]:
    """Return how traffic is shifted: per cent after each step, and how long a step lasts in seconds."""
    match configuration["strategy"]:
        case "LINEAR":
            given = configuration["linearConfiguration"]
            tenths = round(10 * given["stepPercent"])
            steps = [*range(tenths, 1000, tenths), 1000]
            return [step / 10 for step in steps], 60.0 * given["stepBakeTimeInMinutes"]
        case "CANARY":
            given = configuration["canaryConfiguration"]
            percent = round(given["canaryPercent"], 1)
            steps = [percent, 100.0] if percent < 100 else []
            return steps, 60.0 * given["canaryBakeTimeInMinutes"]
    return [], 0.0


def _merge_steps(result: dict[str, Any], old: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """Complete what the strategy says of its steps; raises ``InvalidParameterException``."""
    for strategy, (member, defaults, (name, least)) in _STEPS.items():
        if result["strategy"] != strategy:
            if given.get(member):
                raise InvalidParameterException(
                    f"{member} can only be specified with the deployment strategy {strategy}."
                )
            result.pop(member, None)
            continue
        known = {**defaults, **(old.get(member) or {}), **(given.get(member) or {})}
        if not least <= known[name] <= 100 or not _has_tenths(known[name]):
            raise InvalidParameterException(
                f"{name} must be between {least} and 100.0, in steps of 0.1."
            )
        minutes = next(each for each in defaults if each.endswith("Minutes"))
        if not 0 <= known[minutes] <= LONGEST_BAKE_MINUTES:
            raise InvalidParameterException(
                f"{minutes} must be between 0 and {LONGEST_BAKE_MINUTES}."
            )
        result[member] = known


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
            f"The deployment strategy {configuration['strategy']} is not supported with the daemon scheduling "
            "strategy."
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


def _has_tenths(number: float) -> bool:
    """Return whether a number has at most one decimal place."""
    return float(f"{number:.1f}") == number
