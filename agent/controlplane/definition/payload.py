"""What an agent gets: the payload of a task, in the format of the ACS ``Task``.

Payloads are not stored. A payload is a pure function of the task's record, the revision of the task
definition and the current credentials. The parts used of the first two never change, so every poll
gives the same payload but for its credentials.

Pure; raises only for a record that this control endpoint cannot have written
(``OverrideError``, ``KeyError``, ``msgspec.ValidationError``).
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import msgspec

from agent.controlplane.definition import (
    docker_config,
    fetched,
    gpus,
    log_configuration,
    overrides,
)
from agent.controlplane.definition.fetched import WhereKept
from agent.controlplane.definition.log_configuration import LogPlace
from agent.model import ids
from agent.model.payload import (
    AliasPort,
    Association,
    Attachment,
    Container,
    Dependency,
    EngineConfig,
    GpuShare,
    HostVolume,
    MountPoint,
    PortMapping,
    RestartPolicy,
    RoleType,
    TaskPayload,
    Volume,
    VolumeFrom,
)
from agent.model.status import DesiredStatus

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.controlplane.names import Names
    from agent.controlplane.records import ContainerRecord, TaskDefinitionRecord, TaskRecord
    from agent.model.payload import Credentials

_EFS = "efsVolumeConfiguration"
_DOCKER = "dockerVolumeConfiguration"
_EXECUTION_ENVIRONMENT = {
    "EC2": {"AWS_EXECUTION_ENV": "AWS_ECS_EC2"},
    "FARGATE": {"AWS_EXECUTION_ENV": "AWS_ECS_FARGATE"},
}


def build(
    task: TaskRecord,
    definition: TaskDefinitionRecord,
    names: Names,
    *,
    desired: str,
    keeps_logs: bool = True,
    credentials: Mapping[str, Credentials] = MappingProxyType({}),
    variables: Mapping[str, str] = MappingProxyType({}),
) -> TaskPayload:
    """Return the payload for the task's agent.

    Args:
        task: the placed task: its containers have ARNs and GPU ids, its attachments have ids.
        definition: the revision that the task was created from.
        names: makes ARNs.
        desired: RUNNING or STOPPED.
        keeps_logs: whether control keeps the logs of the driver ``awslogs``, and not CloudWatch Logs.
        credentials: of its roles, by their ``RoleType``.
        variables: of all containers, unless their definition sets them.
    """
    body = overrides.effective(definition.definition, task.overrides)
    mode = network_mode(body)
    records = {container.name: container for container in task.containers}
    environment = _EXECUTION_ENVIRONMENT.get(task.launch_type, {}) | dict(variables)
    logs = LogPlace(
        region=names.region,
        task_id=ids.task_id(task.arn),
        kept_here=keeps_logs,
        has_execution_role=RoleType.EXECUTION in task.roles,
    )
    kept = WhereKept(
        here=frozenset(task.kept_here),
        region=names.region,
        has_execution_role=RoleType.EXECUTION in task.roles,
    )
    return TaskPayload(
        arn=task.arn,
        family=task.family,
        version=str(task.revision),
        desired_status=DesiredStatus(desired),
        containers=[
            _container(container, records[container["name"]], mode, environment, logs, kept)
            for container in body["containerDefinitions"]
        ],
        volumes=[_volume(volume) for volume in body.get("volumes", ())],
        associations=[
            Association(
                name=gpu,
                type="gpu",
                containers=[c.name for c in task.containers if gpu in c.gpu_ids],
            )
            for gpu in dict.fromkeys(gpu for c in task.containers for gpu in c.gpu_ids)
        ],
        attachments=[
            Attachment(
                attachment_arn=names.attachment(attachment.id),
                attachment_type=attachment.type,
                attachment_properties=[
                    {"name": name, "value": value} for name, value in attachment.details.items()
                ],
            )
            for attachment in task.attachments
        ],
        network_mode=mode,
        pid_mode=body.get("pidMode"),
        ipc_mode=body.get("ipcMode"),
        cpu=int(body["cpu"] or 0) / 1024,
        memory=int(body["memory"] or 0),
        group=task.group,
        launch_type=task.launch_type,
        task_cluster_arn=names.cluster(task.cluster),
        role_credentials=credentials.get(RoleType.APPLICATION),
        execution_role_credentials=credentials.get(RoleType.EXECUTION),
        enable_fault_injection=bool(body.get("enableFaultInjection")),
        proxy_configuration=_proxy(body.get("proxyConfiguration")),
        connect_namespace=task.connect_namespace,
        alias_ports=[
            AliasPort(port=alias_port, container_port=port)
            for alias_port, port in sorted(
                {one.alias_port: one.port for one in task.connected_ports if one.alias_port}.items()
            )
        ],
    )


def network_mode(definition: Mapping[str, Any]) -> str:
    """Return the network mode of a definition; the default is bridge."""
    return definition.get("networkMode") or "bridge"


def port_mappings(container: Mapping[str, Any], mode: str) -> list[PortMapping]:
    """Return the ports of a container, with the host ports that the network mode requires.

    In ``host`` and ``awsvpc`` mode the host port is the container port. In ``bridge`` mode, 0 asks
    the agent to pick one.
    """
    mappings = []
    for mapping in container.get("portMappings", ()):
        port, host_port = mapping.get("containerPort") or 0, mapping.get("hostPort") or 0
        mappings.append(
            PortMapping(
                container_port=port,
                host_port=host_port if mode == "bridge" else port,
                protocol=mapping.get("protocol") or "tcp",
                container_port_range=mapping.get("containerPortRange"),
            )
        )
    return mappings


def _container(
    definition: Mapping[str, Any],
    record: ContainerRecord,
    mode: str,
    environment: dict[str, str],
    logs: LogPlace,
    kept: WhereKept,
) -> Container:
    check = definition.get("healthCheck")
    log_config = log_configuration.engine_config(definition, logs)
    host_config = docker_config.host_config(definition, mode)
    if log_config is not None:
        host_config["LogConfig"] = log_config
    own = {
        e["name"]: e.get("value", "") for e in definition.get("environment", ()) if e.get("name")
    }
    return Container(
        name=definition["name"],
        image=definition["image"],
        container_arn=record.arn,
        command=definition.get("command") or None,
        entry_point=definition.get("entryPoint") or None,
        cpu=definition.get("cpu") or 0,
        memory=definition.get("memory") or 0,
        essential=definition.get("essential", True),
        privileged=bool(definition.get("privileged")),
        environment=environment | own,
        environment_files=[dict(item) for item in definition.get("environmentFiles", ())],
        depends_on=_convert(definition.get("dependsOn"), list[Dependency]),
        links=list(definition.get("links", ())),
        volumes_from=_convert(definition.get("volumesFrom"), list[VolumeFrom]),
        mount_points=_convert(definition.get("mountPoints"), list[MountPoint]),
        port_mappings=port_mappings(definition, mode),
        docker_config=EngineConfig(
            config=docker_config.config(definition) or None,
            host_config=host_config or None,
        ),
        health_check_type="docker" if check else None,
        start_timeout=definition.get("startTimeout") or 0,
        stop_timeout=definition.get("stopTimeout") or 0,
        restart_policy=_restart_policy(definition.get("restartPolicy")),
        registry_authentication=fetched.registry_login(definition, kept),
        secrets=fetched.secrets(definition, kept),
        firelens_configuration=definition.get("firelensConfiguration"),
        version_consistency=definition.get("versionConsistency"),
        gpu_share=_gpu_share(gpus.share_of_container(definition)),
        logs_auth_strategy="ExecutionRole"
        if log_configuration.written_by_execution_role(definition, logs)
        else None,
        log_destination="control" if log_configuration.goes_to_control(definition, logs) else None,
    )


def _convert(value: Any, kind: Any) -> Any:
    """Convert a list whose members have the same names here as in the task definition."""
    return msgspec.convert(value or [], kind)


def _gpu_share(share: gpus.GpuShareNeeds | None) -> GpuShare | None:
    if share is None:
        return None
    return GpuShare(memory=share.memory_mib, max_compute_percent=share.compute_percent)


def _restart_policy(policy: Mapping[str, Any] | None) -> RestartPolicy | None:
    if policy is None:
        return None
    return RestartPolicy(
        enabled=policy["enabled"],
        ignored_exit_codes=list(policy.get("ignoredExitCodes", ())),
        # ECS's default: a container must have run for five minutes to be restarted again.
        restart_attempt_period=policy.get("restartAttemptPeriod") or 300,
    )


def _volume(volume: Mapping[str, Any]) -> Volume:
    if volume.get(_DOCKER):
        return Volume(
            name=volume["name"], type="docker", docker_volume_configuration=dict(volume[_DOCKER])
        )
    if volume.get(_EFS):
        return Volume(name=volume["name"], type="efs", efs_volume_configuration=dict(volume[_EFS]))
    source = (volume.get("host") or {}).get("sourcePath") or ""
    return Volume(name=volume["name"], host=HostVolume(source_path=source))


def _proxy(proxy: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if not proxy:
        return None
    return {
        "type": proxy.get("type", "APPMESH"),
        "containerName": proxy["containerName"],
        "properties": {p["name"]: p.get("value", "") for p in proxy.get("properties", ())},
    }
