"""The host's own policy, with what of this host it depends on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec import structs

if TYPE_CHECKING:
    from agent.config import Settings
    from agent.config.host_policy import HostPolicy
    from agent.engine.host_policy_gate import HostPolicyGate
    from agent.resources.attributes import Features

RULERS: Final = (
    "/run/docker.sock",
    "/var/run/docker.sock",
    "/run/containerd",
    "/var/lib/containerd",
    "/run/podman",
    "/run/crio",
    "/run/systemd",
    "/run/dbus",
    "/etc/ecs",
    "/var/lib/ecs",
)
"""Paths by which a task would rule this host, whatever else the host is like."""


async def host_policy_gate(
    settings: Settings, *, engine_data: str, task_limits: bool
) -> HostPolicyGate | None:
    """Return what asks the policy in force; None where there is none, and then nothing of it is loaded.

    Args:
        settings: the settings.
        engine_data: directory of the engine's images and containers; empty if unknown.
        task_limits: whether tasks are limited as a whole.
    """
    policy = settings.host_policy
    if policy is None:
        return None
    from agent.engine.container_gpus import GpuSettings  # noqa: PLC0415 - see above
    from agent.engine.host_policy_gate import HostPolicyGate  # noqa: PLC0415
    from agent.host_policy import resolving  # noqa: PLC0415
    from agent.host_policy.own import PolicyHost  # noqa: PLC0415

    paths = protected_paths(settings, engine_data)
    leads_to = await resolving.resolved(paths)
    return HostPolicyGate(
        policy,
        PolicyHost(
            protected=tuple(dict.fromkeys([*paths, *leads_to.values()])),
            limits_tasks=task_limits,
            task_pids_limit=settings.task_pids_limit,
            gpu_runtime=settings.nvidia_runtime,
        ),
        GpuSettings(
            runtime=settings.nvidia_runtime, mps_pipes=str(settings.nvidia_mps_pipes or "")
        ),
    )


def protected_paths(settings: Settings, engine_data: str = "") -> list[str]:
    """Return the paths of this host that no task may mount unless the policy names them."""
    own = [
        settings.docker_host.removeprefix("unix://"),
        str(settings.socket_path.absolute()),
        str(settings.data_dir.absolute()),
        str(settings.host_policy_file.absolute()) if settings.host_policy_file else "",
        str(settings.control_token_file.absolute()) if settings.control_token_file else "",
        engine_data,
    ]
    return list(dict.fromkeys([*RULERS, *(path for path in own if path.startswith("/"))]))


def offered(features: Features, policy: HostPolicy | None) -> Features:
    """Return what a host can do, less what its policy refuses, so that no such task is placed here."""
    if policy is None:
        return features
    from agent.config.host_policy import admits  # noqa: PLC0415 - see above

    def may_confine_by(kind: str) -> bool:
        return any(option.startswith((kind, "*")) for option in policy.security_options)

    efs = admits(policy.volume_types, "efs")
    return structs.replace(
        features,
        privileged=features.privileged and policy.privileged,
        logging_drivers=tuple(
            each for each in features.logging_drivers if admits(policy.log_drivers, each)
        ),
        firelens=features.firelens and admits(policy.log_drivers, "awsfirelens"),
        volume_plugins=tuple(
            each for each in features.volume_plugins if admits(policy.volume_drivers, each)
        ),
        nfs=features.nfs and efs,
        efs_auth=features.efs_auth and efs,
        gpu_mps=features.gpu_mps and policy.gpus and "ipc" in policy.host_namespaces,
        selinux=features.selinux and may_confine_by("label"),
        apparmor=features.apparmor and may_confine_by("apparmor"),
    )
