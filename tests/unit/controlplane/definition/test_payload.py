from __future__ import annotations

from typing import Any

import pytest

from agent.controlplane.definition import docker_config, overrides, payload
from agent.controlplane.names import Names
from agent.controlplane.records import (
    AttachmentRecord,
    ContainerRecord,
    RoleRecord,
    TaskDefinitionRecord,
    TaskRecord,
)
from agent.model import payload as model
from agent.model.resources import needs_of

NAMES = Names()
MIB = 1024 * 1024


def build(
    containers: list[dict[str, Any]],
    *,
    task_overrides: dict[str, Any] | None = None,
    gpus: dict[str, list[str]] | None = None,
    attachments: list[AttachmentRecord] | None = None,
    desired: str = "RUNNING",
    keeps_logs: bool = True,
    roles: dict[str, str] | None = None,
    **definition: Any,
) -> model.TaskPayload:
    record = TaskDefinitionRecord(
        arn=NAMES.task_definition("web", 3),
        family="web",
        revision=3,
        definition={"containerDefinitions": containers, **definition},
    )
    task = TaskRecord(
        id="t1",
        arn=NAMES.task("default", "t1"),
        cluster="default",
        task_definition_arn=record.arn,
        family="web",
        revision=3,
        containers=[
            ContainerRecord(
                name=c["name"], arn=f"arn-{c['name']}", gpu_ids=(gpus or {}).get(c["name"], [])
            )
            for c in containers
        ],
        attachments=attachments or [],
        overrides=task_overrides or {},
        roles={
            kind: RoleRecord(arn=arn, credentials_id=f"id-{kind}")
            for kind, arn in (roles or {}).items()
        },
        group="family:web",
    )
    built = payload.build(task, record, NAMES, desired=desired, keeps_logs=keeps_logs)
    # Whatever is built must be what the agent reads.
    assert model.decode(model.encode(built)) == built
    return built


def config_of(container: model.Container) -> dict[str, Any]:
    body = container.docker_config.config or {}
    assert isinstance(body, dict)
    return body


def host_config_of(container: model.Container) -> dict[str, Any]:
    body = container.docker_config.host_config or {}
    assert isinstance(body, dict)
    return body


def test_smallest_definition() -> None:
    built = build([{"name": "a", "image": "img", "memory": 64}])
    assert (built.family, built.version, built.network_mode) == ("web", "3", "bridge")
    assert built.task_cluster_arn == NAMES.cluster("default")
    container = built.containers[0]
    assert container.container_arn == "arn-a"
    assert container.environment == {"AWS_EXECUTION_ENV": "AWS_ECS_EC2"}
    assert config_of(container) == {}
    assert host_config_of(container) == {"NetworkMode": "bridge"}
    assert container.health_check_type is None


def test_typed_fields() -> None:
    built = build(
        [
            {
                "name": "a",
                "image": "img",
                "cpu": 128,
                "memory": 64,
                "essential": False,
                "entryPoint": ["/bin/sh", "-c"],
                "command": ["true"],
                "environment": [{"name": "A", "value": "1"}, {"name": "AWS_EXECUTION_ENV"}],
                "environmentFiles": [{"value": "arn:aws:s3:::b/f.env", "type": "s3"}],
                "dependsOn": [{"containerName": "b", "condition": "HEALTHY"}],
                "links": ["b:db"],
                "volumesFrom": [{"sourceContainer": "b", "readOnly": True}],
                "mountPoints": [{"sourceVolume": "v", "containerPath": "/v", "readOnly": True}],
                "portMappings": [
                    {"containerPort": 80, "hostPort": 8080, "protocol": "tcp"},
                    {"containerPort": 53, "protocol": "udp"},
                    {"containerPortRange": "100-110"},
                ],
                "startTimeout": 5,
                "stopTimeout": 6,
                "restartPolicy": {"enabled": True, "ignoredExitCodes": [0]},
                "repositoryCredentials": {
                    "credentialsParameter": "arn:aws:secretsmanager:eu-west-1:000000000000:secret:x"
                },
                "secrets": [{"name": "S", "valueFrom": "param"}],
                "logConfiguration": {
                    "logDriver": "splunk",
                    "options": {"a": "b"},
                    "secretOptions": [
                        {
                            "name": "token",
                            "valueFrom": "arn:aws:secretsmanager:eu-west-1:000000000000:secret:y",
                        }
                    ],
                },
            },
            {"name": "b", "image": "img"},
        ],
        volumes=[
            {"name": "v"},
            {"name": "h", "host": {"sourcePath": "/srv"}},
            {"name": "d", "dockerVolumeConfiguration": {"scope": "task", "driver": "local"}},
            {"name": "e", "efsVolumeConfiguration": {"fileSystemId": "fs-1"}},
        ],
        pidMode="task",
        ipcMode="host",
        cpu="512",
        memory="1024",
        proxyConfiguration={
            "type": "APPMESH",
            "containerName": "b",
            "properties": [{"name": "ProxyIngressPort", "value": "15000"}],
        },
    )
    first = built.containers[0]
    assert first.environment == {"A": "1", "AWS_EXECUTION_ENV": ""}
    assert [(p.container_port, p.host_port, p.protocol) for p in first.port_mappings] == [
        (80, 8080, "tcp"),
        (53, 0, "udp"),
        (0, 0, "tcp"),
    ]
    assert first.port_mappings[2].container_port_range == "100-110"
    assert first.depends_on[0].condition == "HEALTHY"
    assert first.volumes_from[0].read_only
    assert first.mount_points[0].read_only
    assert first.restart_policy is not None
    assert first.restart_policy.restart_attempt_period == 300
    assert first.registry_authentication is not None
    assert first.registry_authentication["asmAuthData"]["region"] == "eu-west-1"
    assert [(s.name, s.provider, s.target) for s in first.secrets] == [
        ("S", "ssm", "CONTAINER"),
        ("token", "asm", "LOG_DRIVER"),
    ]
    assert [v.type for v in built.volumes] == [None, None, "docker", "efs"]
    assert built.volumes[0].host == model.HostVolume()
    assert built.volumes[1].host == model.HostVolume(source_path="/srv")
    assert (built.cpu, built.memory) == (0.5, 1024)
    assert (built.pid_mode, built.ipc_mode) == ("task", "host")
    assert built.proxy_configuration is not None
    assert built.proxy_configuration["properties"] == {"ProxyIngressPort": "15000"}


def test_everything_that_travels_as_docker_config() -> None:
    container = build(
        [
            {
                "name": "a",
                "image": "img",
                "memory": 64,
                "memoryReservation": 32,
                "user": "1000:1000",
                "hostname": "h",
                "workingDirectory": "/w",
                "pseudoTerminal": True,
                "interactive": True,
                "disableNetworking": True,
                "dockerLabels": {"l": "1"},
                "healthCheck": {"command": ["CMD-SHELL", "true"], "interval": 7, "startPeriod": 2},
                "privileged": True,
                "readonlyRootFilesystem": True,
                "dnsServers": ["1.1.1.1"],
                "dnsSearchDomains": ["example.org"],
                "dockerSecurityOptions": ["no-new-privileges"],
                "extraHosts": [{"hostname": "db", "ipAddress": "10.0.0.1"}],
                "ulimits": [{"name": "nofile", "softLimit": 10, "hardLimit": 20}],
                "systemControls": [{"namespace": "net.core.somaxconn", "value": "9"}],
                "logConfiguration": {"logDriver": "json-file", "options": {"max-size": "1m"}},
                "linuxParameters": {
                    "capabilities": {"add": ["NET_ADMIN"], "drop": ["ALL"]},
                    "devices": [
                        {"hostPath": "/dev/fuse"},
                        {"hostPath": "/dev/a", "containerPath": "/dev/b", "permissions": ["read"]},
                    ],
                    "initProcessEnabled": False,
                    "sharedMemorySize": 8,
                    "tmpfs": [{"containerPath": "/t", "size": 4, "mountOptions": ["noexec"]}],
                    "maxSwap": 0,
                    "swappiness": 10,
                },
            }
        ],
        networkMode="host",
    ).containers[0]
    assert config_of(container) == {
        "User": "1000:1000",
        "Hostname": "h",
        "WorkingDir": "/w",
        "Tty": True,
        "OpenStdin": True,
        "NetworkDisabled": True,
        "Labels": {"l": "1"},
        "Healthcheck": {
            "Test": ["CMD-SHELL", "true"],
            "Interval": 7_000_000_000,
            "Timeout": 5_000_000_000,
            "Retries": 3,
            "StartPeriod": 2_000_000_000,
        },
    }
    assert container.health_check_type == "docker"
    assert container.privileged
    assert host_config_of(container) == {
        "NetworkMode": "host",
        "Privileged": True,
        "ReadonlyRootfs": True,
        "Dns": ["1.1.1.1"],
        "DnsSearch": ["example.org"],
        "SecurityOpt": ["no-new-privileges"],
        "MemoryReservation": 32 * MIB,
        "ExtraHosts": ["db:10.0.0.1"],
        "Ulimits": [{"Name": "nofile", "Soft": 10, "Hard": 20}],
        "Sysctls": {"net.core.somaxconn": "9"},
        "LogConfig": {"Type": "json-file", "Config": {"max-size": "1m"}},
        "CapAdd": ["NET_ADMIN"],
        "CapDrop": ["ALL"],
        "Devices": [
            {
                "PathOnHost": "/dev/fuse",
                "PathInContainer": "/dev/fuse",
                "CgroupPermissions": "rwm",
            },
            {"PathOnHost": "/dev/a", "PathInContainer": "/dev/b", "CgroupPermissions": "r"},
        ],
        "Tmpfs": {"/t": "noexec,size=4m"},
        "ShmSize": 8 * MIB,
        "Init": False,
        "MemorySwap": 64 * MIB,
        "MemorySwappiness": 10,
    }


@pytest.mark.parametrize(
    ("command", "test"),
    [
        (["/healthcheck"], ["CMD", "/healthcheck"]),
        (["curl", "-f", "localhost"], ["CMD", "curl", "-f", "localhost"]),
        (["CMD", "true"], ["CMD", "true"]),
        (["CMD-SHELL", "exit 0"], ["CMD-SHELL", "exit 0"]),
        (["NONE"], ["NONE"]),
    ],
)
def test_a_health_check_without_its_kind_in_front_is_a_program(
    command: list[str], test: list[str]
) -> None:
    assert docker_config.health_test(command) == test


def test_overrides() -> None:
    built = build(
        [
            {
                "name": "a",
                "image": "img",
                "memory": 64,
                "command": ["old"],
                "environment": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}],
            },
            {"name": "b", "image": "img", "memory": 64, "command": ["kept"]},
        ],
        task_overrides={
            "cpu": ".25 vCPU",
            "memory": "0.5 GB",
            "containerOverrides": [
                {
                    "name": "a",
                    "command": ["new"],
                    "cpu": 10,
                    "memory": 128,
                    "memoryReservation": 100,
                    "environment": [{"name": "B", "value": "3"}, {"name": "C", "value": "4"}],
                }
            ],
        },
    )
    first, second = built.containers
    assert first.command == ["new"]
    assert second.command == ["kept"]
    assert (first.cpu, first.memory) == (10, 128)
    assert host_config_of(first)["MemoryReservation"] == 100 * MIB
    environment = dict(first.environment)
    environment.pop("AWS_EXECUTION_ENV")
    assert environment == {"A": "1", "B": "3", "C": "4"}
    assert (built.cpu, built.memory) == (0.25, 512)
    assert needs_of(built).cpu_units == 256


@pytest.mark.parametrize(
    "bad",
    [
        {"containerOverrides": [{"name": "zzz"}]},
        {"containerOverrides": [{"command": ["x"]}]},
        {"containerOverrides": [{"name": "a"}, {"name": "a"}]},
        {"cpu": "much"},
        {"cpu": "vcpu"},
        {"memory": "1 TB"},
    ],
)
def test_bad_override(bad: dict[str, Any]) -> None:
    definition = {"containerDefinitions": [{"name": "a", "image": "i"}]}
    with pytest.raises(overrides.OverrideError):
        overrides.effective(definition, bad)


def test_gpus_become_associations() -> None:
    built = build(
        [{"name": "a", "image": "i"}, {"name": "b", "image": "i"}],
        gpus={"a": ["GPU-1", "GPU-2"], "b": ["GPU-3"]},
    )
    assert [(a.name, a.containers) for a in built.associations] == [
        ("GPU-1", ["a"]),
        ("GPU-2", ["a"]),
        ("GPU-3", ["b"]),
    ]
    assert needs_of(built).gpus == {"GPU-1", "GPU-2", "GPU-3"}


def test_awsvpc_task_names_its_interface() -> None:
    built = build(
        [{"name": "a", "image": "i", "portMappings": [{"containerPort": 80}]}],
        attachments=[AttachmentRecord(id="e-1", details={"subnetId": "subnet-1"})],
        networkMode="awsvpc",
    )
    (attachment,) = built.attachments
    assert attachment.attachment_type == "ElasticNetworkInterface"
    assert attachment.attachment_arn.endswith(":attachment/e-1")
    assert attachment.attachment_properties == [{"name": "subnetId", "value": "subnet-1"}]
    assert "NetworkMode" not in host_config_of(built.containers[0])
    assert needs_of(built).tcp_ports == frozenset()


def test_host_mode_publishes_the_container_port() -> None:
    built = build(
        [{"name": "a", "image": "i", "portMappings": [{"containerPort": 80}]}], networkMode="host"
    )
    assert needs_of(built).tcp_ports == {80}


def test_stop_order_carries_the_whole_task() -> None:
    built = build([{"name": "a", "image": "i"}], desired="STOPPED")
    assert built.desired_status == "STOPPED"
    assert built.containers


def log_of(container: model.Container) -> dict[str, Any]:
    found: dict[str, Any] = host_config_of(container)["LogConfig"]
    return found


def awslogs(**options: str) -> list[dict[str, Any]]:
    log = {"logDriver": "awslogs", "options": {"awslogs-group": "g", **options}}
    return [{"name": "a", "image": "img", "memory": 64, "logConfiguration": log}]


def test_logs_that_control_keeps() -> None:
    (container,) = build(awslogs(**{"awslogs-stream-prefix": "web"})).containers
    assert log_of(container) == {
        "Type": "awslogs",
        "Config": {
            "awslogs-group": "g",
            "awslogs-region": NAMES.region,
            "awslogs-stream": "web/a/t1",
        },
    }
    assert container.log_destination == "control"
    assert container.logs_auth_strategy is None


def test_logs_that_cloudwatch_keeps() -> None:
    role = "arn:aws:iam::000000000000:role/x"
    named = awslogs(**{"awslogs-region": "eu-west-1", "mode": "blocking"})
    (container,) = build(named, keeps_logs=False, roles={model.RoleType.EXECUTION: role}).containers
    assert log_of(container)["Config"] == {
        "awslogs-group": "g",
        "awslogs-region": "eu-west-1",
        "mode": "blocking",
    }
    assert container.log_destination is None
    assert container.logs_auth_strategy == "ExecutionRole"
    (container,) = build(awslogs(), keeps_logs=False).containers
    assert container.logs_auth_strategy is None
    assert log_of(container)["Config"]["mode"] == "non-blocking"


def test_logs_for_an_endpoint_by_name_are_left_to_it() -> None:
    (container,) = build(awslogs(**{"awslogs-endpoint": "http://logs.example"})).containers
    assert container.log_destination is None
    assert log_of(container)["Config"]["awslogs-endpoint"] == "http://logs.example"


def test_a_size_of_the_buffer_implies_its_mode() -> None:
    log = {"logDriver": "syslog", "options": {"max-buffer-size": "5m"}}
    containers = [{"name": "a", "image": "img", "memory": 64, "logConfiguration": log}]
    (container,) = build(containers).containers
    assert log_of(container)["Config"] == {"max-buffer-size": "5m", "mode": "non-blocking"}
    assert container.log_destination is None
