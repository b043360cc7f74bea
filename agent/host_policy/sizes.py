"""How large a task is, compared with ``max_task``. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agent.host_policy.findings import Refusal, Refusals, folded, number
from agent.model.resources import MIB

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.config.host_policy import HostPolicy
    from agent.host_policy.own import PolicyHost
    from agent.model.payload import TaskPayload

_NANO_CPUS = 1_000_000_000
CPU_UNITS = 1024


def refusals(
    policy: HostPolicy,
    payload: TaskPayload,
    bodies: Mapping[str, Mapping[str, Any]],
    facts: PolicyHost,
) -> Refusals:
    """Yield what is refused of the sizes of a task; raises ``Unreadable``.

    Args:
        policy: the rules.
        payload: the task.
        bodies: the create requests of its containers by their names.
        facts: whether limits of whole tasks are enforced here.
    """
    most = dict(policy.max_task)
    if not most:
        return
    hosts = {
        name: folded(folded(body, "the request").get("hostconfig"), "HostConfig")
        for name, body in bodies.items()
    }
    whole = facts.limits_tasks
    checks = {
        "cpu": (payload.cpu * CPU_UNITS if whole else 0, _cpu, "CPU units"),
        "memory_mib": (payload.memory if whole else 0, _memory, "MiB of memory"),
        "pids": (facts.task_pids_limit if whole else 0, _pids, "processes"),
    }
    for key, (of_task, of_container, unit) in checks.items():
        if key not in most:
            continue
        parts = {name: of_container(host) for name, host in hosts.items()}
        boundless = [name for name, size in parts.items() if size <= 0]
        size = of_task if of_task > 0 else sum(parts.values())
        if of_task <= 0 and boundless:
            yield Refusal(
                "max_task", f"has no limit of {unit}; {most[key]} are allowed", boundless[0]
            )
        elif size > most[key]:
            yield Refusal("max_task", f"wants {size:g} {unit}; {most[key]} are allowed")
    shared = sum(number(host.get("shmsize"), "ShmSize") for host in hosts.values())
    if "shm_mib" in most and shared > most["shm_mib"] * MIB:
        told = f"wants {shared / MIB:g} MiB of shared memory; {most['shm_mib']} are allowed"
        yield Refusal("max_task", told)


def _cpu(host: Mapping[str, Any]) -> float:
    """Return the CPU units that a container cannot exceed; 0 for no limit: shares are none."""
    nano = number(host.get("nanocpus"), "NanoCpus")
    if nano > 0:
        return nano / _NANO_CPUS * CPU_UNITS
    quota = number(host.get("cpuquota"), "CpuQuota")
    period = number(host.get("cpuperiod"), "CpuPeriod") or 100_000
    return quota / period * CPU_UNITS if quota > 0 and period > 0 else 0


def _memory(host: Mapping[str, Any]) -> float:
    return number(host.get("memory"), "Memory") / MIB


def _pids(host: Mapping[str, Any]) -> float:
    return max(0, number(host.get("pidslimit"), "PidsLimit"))
