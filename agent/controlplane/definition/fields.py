"""How every field of RegisterTaskDefinition, RunTask and StartTask is handled: the one table.

A field is done, needs an attribute of the instance, is refused, or has no meaning here. No field is
accepted and then ignored: whatever is not supported yet is here with the text that a user gets. A
test compares the table with botocore's model, so that a new field of Amazon's is noticed.

To support a field: change its row, then write the code for it. ``support`` reads the table.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from enum import Enum

from agent.controlplane.roles.needed import ECR_IMAGE


class Support(Enum):
    """How a field is handled."""

    DONE = "done"
    REFUSED = "refused when it is registered"
    NO_MEANING = "no meaning here"
    """Accepted without effect: the note says why nothing is missing."""


@dataclass(frozen=True, slots=True)
class Field:
    """One row: a field, or all fields below one."""

    path: str
    """As in the model, ``[]`` after a list, ``{}`` after a map. ``.*`` at the end covers all fields
    below; only allowed for what is refused as a whole."""
    support: Support = Support.DONE
    note: str = ""
    """For users: why it is refused and what to do, or how it differs."""
    attribute: str = ""
    """The attribute that the instance needs; ``{value}`` is the field's value."""
    only: re.Pattern[str] | None = None
    """The row only covers these values; the field's other row covers all others."""
    text: str = ""
    """The whole error text, if Amazon ECS has its own."""


_P = "com.amazonaws.ecs.capability."
_E = "ecs.capability."

_ABOVE_10_VCPUS = re.compile(r"1024[1-9]|102[5-9]\d|10[3-9]\d\d|1[1-9]\d{3}|[2-9]\d{4}|\d{6,}")
"""CPU units, as a checked definition has them."""
_OF_SECRETS_MANAGER = re.compile(r"arn:[^:]*:secretsmanager:.*", re.DOTALL)
_KEPT_HERE = "a parameter or secret of control's own account, or one by name that control keeps, comes from control"
_HERE = "on hosts of your own"
_INFERENCE = "Elastic Inference has been discontinued; leave it out"


def _done(*paths: str) -> tuple[Field, ...]:
    return tuple(Field(path) for path in paths)


def _under(parent: str, *fields: Field) -> tuple[Field, ...]:
    return tuple(replace(field, path=f"{parent}.{field.path}") for field in fields)


_CONTAINER = (
    *_done("name"),
    Field("image", attribute=f"{_P}ecr-auth", only=ECR_IMAGE),
    *_done("image", "cpu", "memory", "memoryReservation", "links[]", "essential"),
    Field(
        "repositoryCredentials.credentialsParameter",
        attribute=f"{_E}private-registry-authentication.secretsmanager",
    ),
    *_done("portMappings[].containerPort", "portMappings[].hostPort", "portMappings[].protocol"),
    Field(
        "portMappings[].name",
        note="Prometheus scrapes a port named `metrics`, `prometheus` or `...-metrics`, see "
        "[monitoring.md](monitoring.md#which-containers-are-scraped); Service Connect finds ports by it",
    ),
    Field(
        "portMappings[].appProtocol",
        Support.NO_MEANING,
        "tells the proxy of Service Connect the protocol; there is none here, and nothing else reads the traffic",
    ),
    Field("portMappings[].containerPortRange", attribute=f"{_E}network.container-port-range"),
    Field("restartPolicy.enabled", attribute=f"{_E}container-restart-policy"),
    *_done("restartPolicy.ignoredExitCodes[]", "restartPolicy.restartAttemptPeriod"),
    *_done("entryPoint[]", "command[]", "environment[].name", "environment[].value"),
    Field("environmentFiles[].value", attribute=f"{_E}env-files.s3"),
    *_done("environmentFiles[].type"),
    *_done("mountPoints[].sourceVolume", "mountPoints[].containerPath", "mountPoints[].readOnly"),
    *_done("volumesFrom[].sourceContainer", "volumesFrom[].readOnly"),
    *_done("linuxParameters.capabilities.add[]", "linuxParameters.capabilities.drop[]"),
    *_done(
        "linuxParameters.devices[].hostPath",
        "linuxParameters.devices[].containerPath",
        "linuxParameters.devices[].permissions[]",
    ),
    *_done("linuxParameters.initProcessEnabled", "linuxParameters.sharedMemorySize"),
    *_done(
        "linuxParameters.tmpfs[].containerPath",
        "linuxParameters.tmpfs[].size",
        "linuxParameters.tmpfs[].mountOptions[]",
    ),
    Field("linuxParameters.maxSwap", note="only has an effect if the container has a memory limit"),
    Field(
        "linuxParameters.swappiness",
        note="only has an effect with maxSwap, and on hosts with cgroup v1, as on Amazon ECS",
    ),
    *_done("secrets[].name"),
    Field(
        "secrets[].valueFrom",
        attribute=f"{_E}secrets.asm.environment-variables",
        only=_OF_SECRETS_MANAGER,
    ),
    Field(
        "secrets[].valueFrom",
        attribute=f"{_E}secrets.ssm.environment-variables",
        note=_KEPT_HERE,
    ),
    Field("dependsOn[].containerName", attribute=f"{_E}container-ordering"),
    *_done("dependsOn[].condition", "startTimeout", "stopTimeout"),
    Field(
        "versionConsistency",
        note="'disabled': an image is what its tag names at each pull; else what the tag named when "
        "the registry was asked, which tasks that start together share",
    ),
    *_done("hostname", "user", "workingDirectory"),
    Field(
        "disableNetworking",
        note="not together with portMappings, links, extraHosts, dnsServers or dnsSearchDomains, which "
        "the engine would ignore",
    ),
    Field("privileged", attribute=f"{_P}privileged-container"),
    *_done("readonlyRootFilesystem", "dnsServers[]", "dnsSearchDomains[]"),
    *_done("extraHosts[].hostname", "extraHosts[].ipAddress"),
    Field(
        "dockerSecurityOptions[]",
        attribute=f"{_P}apparmor",
        only=re.compile(r"apparmor[:=].*", re.DOTALL),
        note="for hosts with ECS_APPARMOR_CAPABLE=true",
    ),
    Field(
        "dockerSecurityOptions[]",
        attribute=f"{_P}selinux",
        only=re.compile(r"label[:=].*", re.DOTALL),
        note="for hosts with ECS_SELINUX_CAPABLE=true",
    ),
    Field(
        "dockerSecurityOptions[]",
        Support.REFUSED,
        "credential specifications need Windows, or a credentials fetcher, which no host here has",
        only=re.compile(r"credentialspec.*", re.DOTALL),
    ),
    *_done("dockerSecurityOptions[]", "interactive", "pseudoTerminal", "dockerLabels{}"),
    *_done("ulimits[].name", "ulimits[].softLimit", "ulimits[].hardLimit"),
    Field(
        "logConfiguration.logDriver",
        attribute=f"{_P}logging-driver.{{value}}",
        only=re.compile("awslogs"),
        note="this endpoint keeps the logs; those of hosts with Amazon's agent, and of all hosts with "
        "'ecs-agent control --awslogs cloudwatch', go to CloudWatch Logs",
    ),
    Field("logConfiguration.logDriver", attribute=f"{_P}logging-driver.{{value}}"),
    *_done("logConfiguration.options{}"),
    *_done("logConfiguration.secretOptions[].name"),
    Field(
        "logConfiguration.secretOptions[].valueFrom",
        attribute=f"{_E}secrets.asm.bootstrap.log-driver",
        only=_OF_SECRETS_MANAGER,
    ),
    Field(
        "logConfiguration.secretOptions[].valueFrom",
        attribute=f"{_E}secrets.ssm.bootstrap.log-driver",
        note=_KEPT_HERE,
    ),
    Field(
        "healthCheck.command[]",
        attribute=f"{_E}container-health-check",
        note="a program without `CMD` in front is run as with it; the engine alone would run no check",
    ),
    *_done("healthCheck.interval", "healthCheck.timeout", "healthCheck.retries"),
    *_done("healthCheck.startPeriod", "systemControls[].namespace", "systemControls[].value"),
    Field(
        "resourceRequirements[].type",
        Support.REFUSED,
        _INFERENCE,
        only=re.compile("InferenceAccelerator"),
    ),
    Field(
        "resourceRequirements[].type",
        Support.REFUSED,
        "hosts have no Neuron devices; only GPU is served",
        only=re.compile("NeuronDevice"),
    ),
    *_done("resourceRequirements[].type", "resourceRequirements[].value"),
    Field(
        "resourceRequirements[].sharingStrategy.nvidiaMps.memory",
        note="on hosts with `ECS_NVIDIA_MPS_PIPES`; a MIG device is not shared",
        attribute="ecs-host-agent.gpu-mps",
    ),
    *_done("resourceRequirements[].sharingStrategy.nvidiaMps.maxComputePercent"),
    Field("firelensConfiguration.type", attribute=f"{_E}firelens.{{value}}"),
    *_done("firelensConfiguration.options{}"),
    Field(
        "credentialSpecs.*",
        Support.REFUSED,
        "credential specifications need Windows, or a credentials fetcher, which no host here has",
    ),
)

DEFINITION: tuple[Field, ...] = (
    *_done("family"),
    Field(
        "taskRoleArn",
        attribute=f"{_P}task-iam-role",
        note="in `host` mode the attribute ends with `-network-host`; control needs AWS keys, see "
        "[roles.md](roles.md)",
    ),
    Field(
        "executionRoleArn",
        note="control needs AWS keys for it if the task needs something from AWS, see [roles.md](roles.md)",
    ),
    Field("networkMode", attribute=f"{_E}task-eni", only=re.compile("awsvpc")),
    *_done("networkMode"),
    *_under("containerDefinitions[]", *_CONTAINER),
    *_done("volumes[].name", "volumes[].host.sourcePath"),
    *_under(
        "volumes[].dockerVolumeConfiguration",
        *_done("scope", "autoprovision"),
        Field("driver", attribute=f"{_E}docker-plugin.{{value}}"),
        *_done("driverOpts{}", "labels{}"),
    ),
    *_under(
        "volumes[].efsVolumeConfiguration",
        Field(
            "fileSystemId",
            attribute=f"{_E}efs",
            note="mounted as NFS 4.1; ECS_EFS_SERVERS of a host names another server for it",
        ),
        *_done("rootDirectory"),
        Field(
            "transitEncryption",
            attribute=f"{_E}efsAuth",
            only=re.compile("ENABLED"),
            note="on hosts with Amazon's volume plugin, or with ECS_EFS_SERVERS_TRUSTED=true",
        ),
        *_done("transitEncryption", "transitEncryptionPort"),
        Field("authorizationConfig.accessPointId", attribute=f"{_E}efsAuth"),
        Field("authorizationConfig.iam", attribute=f"{_E}efsAuth", only=re.compile("ENABLED")),
        *_done("authorizationConfig.iam"),
    ),
    Field(
        "volumes[].s3filesVolumeConfiguration.*",
        Support.REFUSED,
        f"S3 Files cannot be mounted {_HERE}; use 'host' or 'dockerVolumeConfiguration'",
    ),
    Field(
        "volumes[].fsxWindowsFileServerVolumeConfiguration.*",
        Support.REFUSED,
        f"FSx for Windows File Server cannot be mounted {_HERE}; use 'host' or "
        "'dockerVolumeConfiguration'",
    ),
    Field(
        "volumes[].configuredAtLaunch",
        Support.REFUSED,
        f"EBS volumes cannot be configured at launch {_HERE}; use 'host' or "
        "'dockerVolumeConfiguration'",
    ),
    *_done("placementConstraints[].type", "placementConstraints[].expression"),
    Field(
        "requiresCompatibilities[]",
        note="FARGATE is checked as Amazon ECS does",
    ),
    Field("cpu", attribute=f"{_E}increased-task-cpu-limit", only=_ABOVE_10_VCPUS),
    Field("cpu", attribute=f"{_E}task-cpu-mem-limit"),
    Field("memory", attribute=f"{_E}task-cpu-mem-limit"),
    *_done("tags[].key", "tags[].value"),
    Field("pidMode", attribute=f"{_E}pid-ipc-namespace-sharing", only=re.compile("task")),
    *_done("pidMode"),
    Field("ipcMode", attribute=f"{_E}pid-ipc-namespace-sharing", only=re.compile("task")),
    *_done("ipcMode"),
    Field(
        "proxyConfiguration.*",
        Support.REFUSED,
        "App Mesh has been discontinued; run the proxy as an ordinary container",
    ),
    Field("inferenceAccelerators.*", Support.REFUSED, _INFERENCE),
    Field(
        "ephemeralStorage.*",
        Support.REFUSED,
        "containers share the disk of their host, without a size per task; leave it out",
    ),
    *_done("runtimePlatform.cpuArchitecture", "runtimePlatform.operatingSystemFamily"),
    Field("enableFaultInjection", attribute=f"{_E}fault-injection"),
    Field(
        "trustedExecutionConfiguration.*",
        Support.REFUSED,
        "hosts have no trusted execution environments; leave it out",
    ),
)
"""RegisterTaskDefinition."""


def _named(fields: tuple[Field, ...], *names: str) -> tuple[Field, ...]:
    """Return the rows of these members: an override is handled like the member that it replaces."""
    return tuple(f for f in fields if re.split(r"[.\[{]", f.path, maxsplit=1)[0] in names)


RUN: tuple[Field, ...] = (
    Field(
        "capacityProviderStrategy[].capacityProvider",
        note="FARGATE and FARGATE_SPOT for hosts with ECS_OFFER_FARGATE=true; others for hosts that name them",
    ),
    *_done("capacityProviderStrategy[].weight", "capacityProviderStrategy[].base"),
    *_done("cluster", "count", "containerInstances[]", "enableECSManagedTags"),
    Field(
        "enableExecuteCommand",
        note="runs on hosts with the attribute ecs-host-agent.execute-command: not on those of Amazon's wire",
    ),
    *_done("group"),
    Field(
        "launchType",
        note="runs on hosts with ECS_OFFER_FARGATE=true, with its limits enforced",
        only=re.compile("FARGATE"),
    ),
    Field(
        "launchType",
        Support.REFUSED,
        "there are no managed instances here; leave it out or use EC2",
        only=re.compile("MANAGED_INSTANCES"),
    ),
    *_done("launchType"),
    Field(
        "networkConfiguration.awsvpcConfiguration.subnets[]",
        Support.NO_MEANING,
        "each host assigns addresses from its own pool, so any name will do",
    ),
    Field(
        "networkConfiguration.awsvpcConfiguration.securityGroups[]",
        note="ids of security groups of control; without any, the default group",
    ),
    Field(
        "networkConfiguration.awsvpcConfiguration.assignPublicIp",
        note="only with FARGATE; DescribeNetworkInterfaces shows the task's own address as its public one, and "
        "whoever has a route to it reaches it",
        only=re.compile("ENABLED"),
    ),
    *_done("networkConfiguration.awsvpcConfiguration.assignPublicIp"),
    *_under(
        "overrides.containerOverrides[]",
        *_named(_CONTAINER, "name", "command", "environment", "environmentFiles"),
        *_named(_CONTAINER, "cpu", "memory", "memoryReservation", "resourceRequirements"),
    ),
    *_under(
        "overrides",
        *_named(DEFINITION, "cpu", "memory", "ephemeralStorage"),
        *_named(DEFINITION, "executionRoleArn", "taskRoleArn"),
    ),
    Field("overrides.inferenceAcceleratorOverrides.*", Support.REFUSED, _INFERENCE),
    *_done("placementConstraints[].type", "placementConstraints[].expression"),
    *_done("placementStrategy[].type", "placementStrategy[].field"),
    Field("platformVersion", note="LATEST or 1.4.0, with FARGATE"),
    Field(
        "propagateTags",
        Support.REFUSED,
        text="Tags can be propagated from a service only by the service.",
        only=re.compile("SERVICE"),
    ),
    *_done("propagateTags"),
    Field(
        "referenceId",
        Support.NO_MEANING,
        "Amazon ECS does not show it and documents no effect",
    ),
    *_done("startedBy", "tags[].key", "tags[].value", "taskDefinition", "clientToken"),
    Field(
        "volumeConfigurations.*",
        Support.REFUSED,
        f"EBS volumes cannot be configured at launch {_HERE}; leave it out",
    ),
)
"""RunTask and StartTask."""
