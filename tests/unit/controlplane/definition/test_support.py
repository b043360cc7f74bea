from __future__ import annotations

from typing import Any

import pytest

from agent.controlplane.definition import support

ROLE = "arn:aws:iam::000000000000:role/r"
SECRET = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:db-AbCdEf:key::"  # noqa: S105


def container(**changes: Any) -> dict[str, Any]:
    return {"name": "web", "image": "busybox", "memory": 16} | changes


def definition(**changes: Any) -> dict[str, Any]:
    return {"family": "web", "containerDefinitions": [container()]} | changes


def with_container(**changes: Any) -> dict[str, Any]:
    return definition(containerDefinitions=[container(name="a"), container(**changes)])


AT_REGISTRATION: list[tuple[dict[str, Any], str]] = [
    (
        definition(
            volumes=[
                {
                    "name": "v",
                    "fsxWindowsFileServerVolumeConfiguration": {
                        "fileSystemId": "fs-1",
                        "rootDirectory": "/",
                        "authorizationConfig": {"credentialsParameter": "x", "domain": "d"},
                    },
                }
            ]
        ),
        "'fsxWindowsFileServerVolumeConfiguration' of volume 'v' is not supported: ",
    ),
    (
        definition(volumes=[{"name": "v", "configuredAtLaunch": True}]),
        "'configuredAtLaunch' of volume 'v' is not supported: ",
    ),
    (
        definition(proxyConfiguration={"containerName": "envoy"}),
        "'proxyConfiguration' is not supported: App Mesh has been discontinued",
    ),
    (definition(ephemeralStorage={"sizeInGiB": 21}), "'ephemeralStorage' is not supported: "),
    (
        definition(inferenceAccelerators=[{"deviceName": "d", "deviceType": "eia2.medium"}]),
        "'inferenceAccelerators' is not supported: Elastic Inference has been discontinued",
    ),
    (
        definition(trustedExecutionConfiguration={"isolationMode": "SHARED"}),
        "'trustedExecutionConfiguration' is not supported: ",
    ),
    (
        with_container(credentialSpecs=["credentialspec:x"]),
        "'credentialSpecs' of container 'web' is not supported: ",
    ),
    (
        with_container(dockerSecurityOptions=["credentialspec:file://x"]),
        "'dockerSecurityOptions' of container 'web' credentialspec:file://x is not supported: ",
    ),
    (
        with_container(resourceRequirements=[{"type": "NeuronDevice", "value": "1"}]),
        "'resourceRequirements.type' of container 'web' NeuronDevice is not supported: ",
    ),
    (
        with_container(resourceRequirements=[{"type": "InferenceAccelerator", "value": "d"}]),
        "'resourceRequirements.type' of container 'web' InferenceAccelerator is not supported: ",
    ),
    (
        definition(volumes=[{"name": "v", "s3filesVolumeConfiguration": {"fileSystemArn": "x"}}]),
        "'s3filesVolumeConfiguration' of volume 'v' is not supported: ",
    ),
]

OF_THE_RUN: list[tuple[dict[str, Any], str]] = [
    ({"launchType": "MANAGED_INSTANCES"}, "'launchType' MANAGED_INSTANCES is not supported: "),
    ({"propagateTags": "SERVICE"}, "Tags can be propagated from a service only by the service."),
    (
        {"volumeConfigurations": [{"name": "v", "managedEBSVolume": {"roleArn": ROLE}}]},
        "'volumeConfigurations' is not supported: ",
    ),
    (
        {"overrides": {"ephemeralStorage": {"sizeInGiB": 30}}},
        "'ephemeralStorage' in the overrides is not supported: ",
    ),
    (
        {"overrides": {"inferenceAcceleratorOverrides": [{"deviceName": "d"}]}},
        "'inferenceAcceleratorOverrides' in the overrides is not supported: ",
    ),
    (
        {
            "overrides": {
                "containerOverrides": [
                    {
                        "name": "web",
                        "resourceRequirements": [{"type": "NeuronDevice", "value": "1"}],
                    }
                ]
            }
        },
        "'resourceRequirements.type' of container 'web' in the overrides NeuronDevice is not ",
    ),
]


@pytest.mark.parametrize(("request_", "text"), AT_REGISTRATION, ids=[t for _, t in AT_REGISTRATION])
def test_refused_at_registration(request_: dict[str, Any], text: str) -> None:
    refusal = support.refusal_at_registration(request_)
    assert refusal is not None
    assert refusal.text.startswith(text)
    # A definition that was kept from before the field was refused does not run either.
    assert support.refusal_of_run({}, request_) == refusal


@pytest.mark.parametrize(("request_", "text"), OF_THE_RUN, ids=[t for _, t in OF_THE_RUN])
def test_refused_of_the_run_itself(request_: dict[str, Any], text: str) -> None:
    refusal = support.refusal_of_run(request_, definition())
    assert refusal is not None
    assert refusal.text.startswith(text)


NOTHING_SAID: list[dict[str, Any]] = [
    definition(enableFaultInjection=False, inferenceAccelerators=[], volumes=[]),
    definition(volumes=[{"name": "v", "configuredAtLaunch": False}]),
    with_container(secrets=[], environmentFiles=[], credentialSpecs=[]),
    with_container(logConfiguration={"logDriver": "json-file", "options": {}, "secretOptions": []}),
    definition(pidMode="host", ipcMode="none", executionRoleArn=ROLE),
    with_container(resourceRequirements=[{"type": "GPU", "value": "1"}]),
]


@pytest.mark.parametrize("request_", NOTHING_SAID)
def test_a_field_that_says_nothing_asks_for_nothing(request_: dict[str, Any]) -> None:
    assert support.refusal_at_registration(request_) is None
    run = {
        "launchType": "EXTERNAL",
        "capacityProviderStrategy": [],
        "enableExecuteCommand": False,
        "propagateTags": "NONE",
        "networkConfiguration": {
            "awsvpcConfiguration": {
                "subnets": ["s"],
                "securityGroups": [],
                "assignPublicIp": "DISABLED",
            }
        },
        "overrides": {"containerOverrides": [], "inferenceAcceleratorOverrides": []},
    }
    assert support.refusal_of_run(run, request_) is None


@pytest.mark.parametrize(
    ("request_", "attribute"),
    [
        (definition(networkMode="awsvpc"), "ecs.capability.task-eni"),
        (definition(enableFaultInjection=True), "ecs.capability.fault-injection"),
        (
            with_container(dockerSecurityOptions=["apparmor:docker-default"]),
            "com.amazonaws.ecs.capability.apparmor",
        ),
        (
            with_container(dockerSecurityOptions=["label:type:svirt_apache_t"]),
            "com.amazonaws.ecs.capability.selinux",
        ),
        (
            with_container(logConfiguration={"logDriver": "awslogs"}),
            "com.amazonaws.ecs.capability.logging-driver.awslogs",
        ),
        (definition(taskRoleArn=ROLE), "com.amazonaws.ecs.capability.task-iam-role"),
        (
            definition(taskRoleArn=ROLE, networkMode="host"),
            "com.amazonaws.ecs.capability.task-iam-role-network-host",
        ),
        (
            with_container(image="123456789012.dkr.ecr.eu-west-1.amazonaws.com/a:1"),
            "com.amazonaws.ecs.capability.ecr-auth",
        ),
        (with_container(privileged=True), "com.amazonaws.ecs.capability.privileged-container"),
        (
            with_container(secrets=[{"name": "A", "valueFrom": "p"}]),
            "ecs.capability.secrets.ssm.environment-variables",
        ),
        (
            with_container(secrets=[{"name": "A", "valueFrom": SECRET}]),
            "ecs.capability.secrets.asm.environment-variables",
        ),
        (
            with_container(logConfiguration={"secretOptions": [{"name": "t", "valueFrom": "p"}]}),
            "ecs.capability.secrets.ssm.bootstrap.log-driver",
        ),
        (
            with_container(
                logConfiguration={"secretOptions": [{"name": "t", "valueFrom": SECRET}]}
            ),
            "ecs.capability.secrets.asm.bootstrap.log-driver",
        ),
        (
            with_container(environmentFiles=[{"type": "s3", "value": "arn:aws:s3:::b/k.env"}]),
            "ecs.capability.env-files.s3",
        ),
        (
            with_container(repositoryCredentials={"credentialsParameter": SECRET}),
            "ecs.capability.private-registry-authentication.secretsmanager",
        ),
        (
            with_container(portMappings=[{"containerPortRange": "1-2"}]),
            "ecs.capability.network.container-port-range",
        ),
        (
            definition(
                volumes=[
                    {"name": "v", "dockerVolumeConfiguration": {"driver": "rexray/ebs:latest"}}
                ]
            ),
            "ecs.capability.docker-plugin.rexray/ebs.latest",
        ),
    ],
)
def test_a_field_that_not_every_host_has_asks_for_an_attribute(
    request_: dict[str, Any], attribute: str
) -> None:
    assert support.required_attributes(request_) == [attribute]


def test_plain_definitions_ask_for_no_attribute() -> None:
    plain = with_container(
        dockerSecurityOptions=["no-new-privileges"],
        privileged=False,
        restartPolicy={"enabled": False, "restartAttemptPeriod": 60},
    )
    assert support.required_attributes(plain | {"networkMode": "bridge"}) == []
