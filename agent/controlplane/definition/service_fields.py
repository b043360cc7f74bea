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
_NO_PROXY = "clients reach tasks directly, so there is no proxy that could do it; leave it out"
_SHIFTED = "with load balancers, traffic is shifted by the weights of their rules; without, BLUE_GREEN shifts none"
_OF_LAMBDA = "functions of AWS Lambda are not called; leave it out"
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


_ADVANCED = "loadBalancers[].advancedConfiguration"
_CONNECT = "serviceConnectConfiguration"
_ENDPOINT = f"{_CONNECT}.services[]"
_DEPLOYMENT = "deploymentConfiguration"
_HOOKS = f"{_DEPLOYMENT}.lifecycleHooks[]"

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
    *_done(f"{_ADVANCED}.alternateTargetGroupArn", f"{_ADVANCED}.productionListenerRule"),
    *_done(f"{_ADVANCED}.testListenerRule"),
    Field(f"{_ADVANCED}.roleArn", Support.NO_MEANING, "control changes its own rules"),
    *_refused(_NO_ROLE, "role"),
    *_refused(_NO_LATTICE, "vpcLatticeConfigurations.*", "gatewayConnectors.*"),
    *_done("serviceRegistries[].registryArn", "serviceRegistries[].port"),
    *_done("serviceRegistries[].containerName", "serviceRegistries[].containerPort"),
    *_done(f"{_CONNECT}.enabled", f"{_CONNECT}.namespace"),
    *_done(f"{_ENDPOINT}.portName", f"{_ENDPOINT}.discoveryName"),
    *_done(f"{_ENDPOINT}.clientAliases[].port", f"{_ENDPOINT}.clientAliases[].dnsName"),
    *_refused(_NO_PROXY, f"{_ENDPOINT}.clientAliases[].testTrafficRules.*"),
    *_refused(_NO_PROXY, f"{_ENDPOINT}.ingressPortOverride", f"{_ENDPOINT}.timeout.*"),
    *_refused(_NO_PROXY, f"{_ENDPOINT}.tls.*", f"{_CONNECT}.logConfiguration.*"),
    *_refused(_NO_PROXY, f"{_CONNECT}.accessLogConfiguration.*"),
    *_refused(_NO_PROXY, f"{_CONNECT}.containerConfigurations[].*"),
    *_of_run("launchType", "capacityProviderStrategy", "platformVersion"),
    *_done(f"{_DEPLOYMENT}.maximumPercent", f"{_DEPLOYMENT}.minimumHealthyPercent"),
    *_done(
        f"{_DEPLOYMENT}.deploymentCircuitBreaker.enable",
        f"{_DEPLOYMENT}.deploymentCircuitBreaker.rollback",
        f"{_DEPLOYMENT}.deploymentCircuitBreaker.resetOnHealthyTask",
        f"{_DEPLOYMENT}.deploymentCircuitBreaker.thresholdConfiguration.type",
        f"{_DEPLOYMENT}.deploymentCircuitBreaker.thresholdConfiguration.value",
    ),
    *_done(f"{_DEPLOYMENT}.alarms.enable", f"{_DEPLOYMENT}.alarms.rollback"),
    Field(f"{_DEPLOYMENT}.alarms.alarmNames[]", note="alarms of control, made by PutMetricAlarm"),
    Field(f"{_DEPLOYMENT}.strategy", note=_SHIFTED),
    Field(
        f"{_DEPLOYMENT}.bakeTimeInMinutes",
        note="not with ROLLING; 0 if it is not given, and then as long as alarms need",
    ),
    Field(
        f"{_HOOKS}.targetType",
        Support.REFUSED,
        "functions of AWS Lambda are not called; use PAUSE, and ContinueServiceDeployment when it may go on",
        only=re.compile("AWS_LAMBDA"),
    ),
    Field(f"{_HOOKS}.targetType", note="not with ROLLING"),
    *_done(
        f"{_HOOKS}.lifecycleStages[]",
        f"{_HOOKS}.timeoutConfiguration.timeoutInMinutes",
        f"{_HOOKS}.timeoutConfiguration.action",
    ),
    *_refused(_OF_LAMBDA, f"{_HOOKS}.hookTargetArn", f"{_HOOKS}.roleArn", f"{_HOOKS}.hookDetails"),
    *_done(f"{_DEPLOYMENT}.linearConfiguration.stepPercent"),
    *_done(f"{_DEPLOYMENT}.linearConfiguration.stepBakeTimeInMinutes"),
    *_done(f"{_DEPLOYMENT}.canaryConfiguration.canaryPercent"),
    *_done(f"{_DEPLOYMENT}.canaryConfiguration.canaryBakeTimeInMinutes"),
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
