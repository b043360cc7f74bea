from __future__ import annotations

from typing import Any

import pytest

from agent.controlplane.definition.rules import check_definition
from agent.controlplane.front.errors import ClientException


def definition(container: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    return {
        "family": "web",
        "requiresCompatibilities": ["FARGATE"],
        "networkMode": "awsvpc",
        "cpu": "256",
        "memory": "512",
        "containerDefinitions": [{"name": "web", "image": "busybox"} | (container or {})],
    } | changes


@pytest.mark.parametrize(
    ("cpu", "memory"),
    [
        *(("256", "512"), ("256", "2048"), (".25 vCPU", "0.5 GB"), ("512", "4096")),
        *(("1024", "8192"), ("2048", "16384"), ("4096", "30720"), ("8 vCPU", "60 GB")),
        ("16384", "122880"),
    ],
)
def test_sizes_of_fargate(cpu: str, memory: str) -> None:
    assert check_definition(definition(cpu=cpu, memory=memory))["requiresCompatibilities"]


@pytest.mark.parametrize(
    ("cpu", "memory"),
    [("300", "77"), ("256", "4096"), ("512", "512"), ("8192", "17408"), ("32768", "122880")],
)
def test_sizes_that_fargate_does_not_have(cpu: str, memory: str) -> None:
    with pytest.raises(ClientException) as caught:
        check_definition(definition(cpu=cpu, memory=memory))
    assert str(caught.value) == (
        f"No Fargate configuration exists for given values: {cpu} CPU, {memory} memory. See the "
        "Amazon ECS documentation for the valid values."
    )


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"pidMode": "host"}, "Fargate only supports pidMode 'task'."),
        ({"ipcMode": "host"}, "Fargate does not support 'ipcMode'."),
        ({"networkMode": "bridge"}, "Fargate only supports network mode 'awsvpc'."),
        (
            {"volumes": [{"name": "v", "host": {"sourcePath": "/srv"}}]},
            "Fargate does not support 'sourcePath', which the volume 'v' has.",
        ),
        (
            {"volumes": [{"name": "v", "dockerVolumeConfiguration": {"scope": "task"}}]},
            "Fargate does not support 'dockerVolumeConfiguration', which the volume 'v' has.",
        ),
    ],
)
def test_tasks_that_fargate_does_not_run(changes: dict[str, Any], text: str) -> None:
    with pytest.raises(ClientException) as caught:
        check_definition(definition(**changes))
    assert str(caught.value) == text


@pytest.mark.parametrize(
    ("container", "what"),
    [
        ({"privileged": True}, "'privileged'"),
        ({"dockerSecurityOptions": ["no-new-privileges"]}, "'dockerSecurityOptions'"),
        ({"linuxParameters": {"sharedMemorySize": 64}}, "'linuxParameters.sharedMemorySize'"),
        (
            {"linuxParameters": {"devices": [{"hostPath": "/dev/fuse"}]}},
            "'linuxParameters.devices'",
        ),
        (
            {"linuxParameters": {"capabilities": {"add": ["SYS_PTRACE", "NET_ADMIN"]}}},
            "the capability NET_ADMIN",
        ),
        ({"stopTimeout": 121}, "a 'stopTimeout' that is not between 2 and 120 seconds"),
        ({"startTimeout": 1}, "a 'startTimeout' that is not between 2 and 120 seconds"),
    ],
)
def test_containers_that_fargate_does_not_run(container: dict[str, Any], what: str) -> None:
    with pytest.raises(ClientException) as caught:
        check_definition(definition(container))
    assert str(caught.value) == f"Fargate does not support {what}, which the container 'web' has."


def test_what_fargate_runs() -> None:
    usual = {
        "linuxParameters": {"initProcessEnabled": True, "capabilities": {"add": ["SYS_PTRACE"]}},
        "stopTimeout": 120,
        "portMappings": [{"containerPort": 80, "hostPort": 80}],
        "mountPoints": [{"sourceVolume": "v", "containerPath": "/v"}],
    }
    assert check_definition(definition(usual, pidMode="task", volumes=[{"name": "v"}]))
