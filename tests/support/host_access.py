"""What preparations work with, with harmless defaults for what a test does not care about."""

from __future__ import annotations

import os
from typing import Any

from agent.awslogs.grants import LogGrants, RelayAddress
from agent.cgroups.groups import TaskGroups
from agent.engine.namespace_holders import NamespaceHolders
from agent.engine.preparations.contract import HostAccess
from agent.engine.preparations.firelens import FirelensSettings
from agent.network.container_sandboxes.sandboxes import ContainerSandboxes
from agent.network.host_ports import HostPorts
from agent.network.kernel.namespaces import identify
from agent.resources.role_credentials import RoleCredentials
from tests.support.memory_engine import MemoryEngine
from tests.support.task_aws import FakeAws, FakeControl

PAUSE = "pause:1"
GRANTS = LogGrants(b"secret of the tests")
RELAY = RelayAddress(GRANTS, 51681)


def host_access(**parts: Any) -> HostAccess:
    """Return them; ``parts`` are members of ``HostAccess``."""
    runtime = MemoryEngine()
    values: dict[str, Any] = {
        "runtime": runtime,
        "owner": "owner-1",
        "namespaces": holders(runtime),
        "groups": TaskGroups.off(),
        "credentials": RoleCredentials(),
        "aws": FakeAws(),
        "control_secrets": FakeControl().secrets,
        "log_relay": RELAY,
        "firelens": FirelensSettings(),
    }
    return HostAccess(**(values | parts))


def holders(runtime: MemoryEngine) -> NamespaceHolders:
    """Return the holders of namespaces on an engine in memory."""
    return NamespaceHolders(runtime, **holder_parts(runtime))


def holder_parts(runtime: MemoryEngine) -> dict[str, Any]:
    """Return what holders need: the image on demand, and a process that lives as long as the test."""

    async def load() -> None:
        runtime.images.add(PAUSE)

    return {
        "owner": "owner-1",
        "image": PAUSE,
        "load_image": load,
        "identify": lambda _pid: identify(os.getpid()),
    }


def container_sandboxes(
    runtime: MemoryEngine, *, least: int = 0, **parts: Any
) -> ContainerSandboxes:
    """Return the sandboxes of containers on an engine in memory; none are made unless asked for."""
    values = {
        "available_bytes": lambda: 16 << 30,
        "quiet_s": 0.0,
        "ports": HostPorts((32_768, 60_999), is_free=lambda _protocol, _port: True),
        **holder_parts(runtime),
        **parts,
    }
    return ContainerSandboxes(runtime, least=least, **values)
