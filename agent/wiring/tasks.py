"""How tasks are carried out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.engine.container_gpus import GpuSettings
from agent.engine.planner import Policy
from agent.engine.preparations.efs import EFS_AUTH, EfsSettings
from agent.engine.preparations.firelens import FirelensSettings
from agent.engine.settings import EngineSettings
from agent.engine.tools import StepSettings

if TYPE_CHECKING:
    from agent.config import Settings
    from agent.engine.host_policy_gate import HostPolicyGate
    from agent.runtime.protocol import EngineInfo


def engine_settings(
    settings: Settings,
    owner: str,
    info: EngineInfo,
    *,
    ec2_instance_id: str = "",
    host_policy: HostPolicyGate | None = None,
) -> EngineSettings:
    """Return how tasks are carried out.

    Args:
        settings: the settings.
        owner: names the agent whose containers they are.
        info: what the container engine says of itself.
        ec2_instance_id: of this host; empty where it is not an EC2 instance.
        host_policy: what this host refuses; None for nothing.
    """
    return EngineSettings(
        steps=StepSettings(
            cluster=settings.cluster,
            owner=owner,
            stop_timeout_s=round(settings.container_stop_timeout_s),
            create_limit_s=settings.container_create_timeout_s,
            start_limit_s=settings.container_start_timeout_s,
            host_policy=host_policy,
            efs=EfsSettings(
                servers=settings.efs_servers,
                trusted=settings.efs_servers_trusted,
                plugin=EFS_AUTH in settings.volume_plugin_capabilities,
            ),
            firelens=FirelensSettings(
                directory=settings.data_dir.absolute() / "firelens",
                cluster=settings.cluster,
                instance_id=ec2_instance_id,
                is_async=settings.firelens_async,
                async_option="fluentd-async" if _is_20_10(info) else "fluentd-async-connect",
            ),
            gpus=GpuSettings(
                runtime=settings.nvidia_runtime, mps_pipes=str(settings.nvidia_mps_pipes or "")
            ),
        ),
        policy=Policy(settings.pull_dependent_upfront, settings.task_cleanup_wait_s),
        cleanup_jitter_s=settings.task_cleanup_jitter_s,
    )


def _is_20_10(info: EngineInfo) -> bool:
    """Tell whether the engine is of version 20.10 or newer, which began with API 1.41."""
    major, _, minor = info.api_version.partition(".")
    return major != "1" or not minor.isdecimal() or int(minor) >= 41
