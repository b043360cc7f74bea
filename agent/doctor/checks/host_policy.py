"""The host's own policy: whether there is one, and what it leaves open."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.doctor.findings import Finding, FindingList

if TYPE_CHECKING:
    from agent.config import Settings
    from agent.doctor.host import HostFacts


async def check(host: HostFacts) -> list[Finding]:
    """Look at the policy of the settings."""
    return judge(host.settings)


def judge(settings: Settings) -> list[Finding]:
    """Return the verdict on the policy. Pure."""
    verdict = FindingList("policy")
    policy = settings.host_policy
    if policy is None:
        verdict.ok("there is no host policy: control may order anything that the engine can do")
        return verdict.findings
    if settings.host_policy_file is None:
        verdict.warn(
            "ECS_DISABLE_PRIVILEGED refuses privileged containers alone: all capabilities, devices, "
            "namespaces of the host, and mounts of any path are still allowed",
            'set ECS_HOST_POLICY_FILE to a file with the line base = "baseline"',
        )
        return verdict.findings
    if left := _left_open(settings):
        verdict.warn(
            f"{policy.source} lets tasks become root on this host: {left}",
            "tighten these rules, or leave them if whoever may run tasks here is trusted with it",
            "ecs-agent policy show",
        )
    else:
        verdict.ok(f"{policy.source} is in force: no task may rule this host")
    return verdict.findings


def _left_open(settings: Settings) -> str:
    """Return the rules that let a task rule the host; empty if there are none."""
    policy = settings.host_policy
    if policy is None:
        return ""
    risky = {"SYS_ADMIN", "SYS_MODULE", "SYS_RAWIO", "SYS_PTRACE", "DAC_READ_SEARCH", "*", "ALL"}
    is_open = {
        "privileged": policy.privileged,
        "host_namespaces": "pid" in policy.host_namespaces,
        "added_capabilities": bool(risky & set(policy.added_capabilities)),
        "host_paths": policy.host_paths is None
        or any(entry.path == "/" for entry in policy.host_paths),
        "devices": "*" in policy.devices,
        "volume_types": "*" in policy.volume_types,
        "volume_drivers": "*" in policy.volume_drivers,
        "other_settings": policy.other_settings,
    }
    return ", ".join(rule for rule, yes in is_open.items() if yes)
