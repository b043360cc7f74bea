"""How every field of CreateService and UpdateService is handled: a table like those of ``fields``.

What a service cannot do here yet is refused by name when it is created or updated, never stored and
ignored. The rows that RunTask has too are its own.
"""

from __future__ import annotations

import re
from dataclasses import replace

from agent.controlplane.definition.fields import RUN, Field, Support

_NO_ROLE = "control registers targets by itself; leave it out"
_NO_LATTICE = "only load balancers with target groups are supported; leave it out"
_NO_CONNECT = "there are no proxies beside tasks; use serviceRegistries"
_ONLY_ROLLING = "only rolling deployments are supported; leave it out"
_ONLY_WITH = "only has a meaning with '{}', which is refused"


def _done(*paths: str) -> tuple[Field, ...]:
    return tuple(Field(path) for path in paths)


def _of_run(*members: str) -> tuple[Field, ...]:
    """Return the rows of these members, as RunTask handles them."""
    return tuple(
        replace(row) for row in RUN if re.split(r"[.\[{]", row.path, maxsplit=1)[0] in members
    )


def _refused(note: str, *paths: str) -> tuple[Field, ...]:
    return tuple(Field(path, Support.REFUSED, note) for path in paths)


_DEPLOYMENT = "deploymentConfiguration"

SERVICE: tuple[Field, ...] = (
    *_done("cluster", "service", "serviceName", "taskDefinition", "desiredCount", "clientToken"),
    *_done("forceNewDeployment"),
    Field(
        "availabilityZoneRebalancing",
        Support.REFUSED,
        "running tasks are not moved between zones; leave it out, or use DISABLED",
        only=re.compile("ENABLED"),
    ),
    Field("availabilityZoneRebalancing", note="DISABLED, also if it is not given"),
    *_done("loadBalancers[].targetGroupArn", "loadBalancers[].containerName"),
    *_done("loadBalancers[].containerPort"),
    *_refused(
        "Classic Load Balancers are not supported; use targetGroupArn",
        "loadBalancers[].loadBalancerName",
    ),
    *_refused(_ONLY_ROLLING, "loadBalancers[].advancedConfiguration.*"),
    *_refused(_NO_ROLE, "role"),
    *_refused(_NO_LATTICE, "vpcLatticeConfigurations.*", "gatewayConnectors.*"),
    *_done("serviceRegistries[].registryArn", "serviceRegistries[].port"),
    *_done("serviceRegistries[].containerName", "serviceRegistries[].containerPort"),
    *_refused(_NO_CONNECT, "serviceConnectConfiguration.*"),
    *_of_run("launchType", "capacityProviderStrategy", "platformVersion"),
    *_done(f"{_DEPLOYMENT}.maximumPercent", f"{_DEPLOYMENT}.minimumHealthyPercent"),
    *_done(
        f"{_DEPLOYMENT}.deploymentCircuitBreaker.enable",
        f"{_DEPLOYMENT}.deploymentCircuitBreaker.rollback",
        f"{_DEPLOYMENT}.deploymentCircuitBreaker.resetOnHealthyTask",
        f"{_DEPLOYMENT}.deploymentCircuitBreaker.thresholdConfiguration.type",
        f"{_DEPLOYMENT}.deploymentCircuitBreaker.thresholdConfiguration.value",
    ),
    Field(
        f"{_DEPLOYMENT}.alarms.enable",
        Support.REFUSED,
        "alarms are not supported yet; leave it out",
    ),
    *(
        Field(f"{_DEPLOYMENT}.alarms.{name}", Support.NO_MEANING, _ONLY_WITH.format("enable"))
        for name in ("alarmNames[]", "rollback")
    ),
    Field(
        f"{_DEPLOYMENT}.strategy",
        Support.REFUSED,
        "only ROLLING is supported; leave it out",
        only=re.compile("BLUE_GREEN|LINEAR|CANARY"),
    ),
    *_done(f"{_DEPLOYMENT}.strategy"),
    *_refused(
        _ONLY_ROLLING,
        f"{_DEPLOYMENT}.bakeTimeInMinutes",
        f"{_DEPLOYMENT}.lifecycleHooks.*",
        f"{_DEPLOYMENT}.linearConfiguration.*",
        f"{_DEPLOYMENT}.canaryConfiguration.*",
    ),
    Field(
        f"{_DEPLOYMENT}.earlySuccessCriteria.enable",
        Support.REFUSED,
        "a deployment is completed when all of its tasks are healthy; leave it out",
    ),
    *(
        Field(
            f"{_DEPLOYMENT}.earlySuccessCriteria.{name}",
            Support.NO_MEANING,
            _ONLY_WITH.format("enable"),
        )
        for name in ("healthyPercent", "sourceServiceRevisionCleanup")
    ),
    *_of_run("placementConstraints", "placementStrategy", "networkConfiguration"),
    *_done("healthCheckGracePeriodSeconds", "schedulingStrategy"),
    Field(
        "deploymentController.type",
        Support.REFUSED,
        "CodeDeploy is not served; use ECS, or EXTERNAL and task sets",
        only=re.compile("CODE_DEPLOY"),
    ),
    *_done("deploymentController.type", "tags[].key", "tags[].value", "enableECSManagedTags"),
    *_done("propagateTags"),
    *_of_run("enableExecuteCommand", "volumeConfigurations"),
    Field(
        "monitoring.*",
        Support.REFUSED,
        "metrics of all tasks are collected in any case; leave it out",
    ),
)
"""CreateService and UpdateService."""
