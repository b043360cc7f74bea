"""How containers in ``none`` mode are created: the engine leaves their network out. Pure.

The engine makes a network namespace with nothing but a loopback by running itself once more, which takes
more than half of the time of creating and starting such a container. Told that there is no network
(``NetworkDisabled``), it leaves this to the runtime, which makes the same namespace. It then writes no hosts
file either, so the container gets one from the agent. Name servers that nobody could reach are left out.

Source: Moby 20.10 to 28, ``daemon/oci_linux.go`` and ``daemon/container_operations.go``.
Tests: ``tests/unit/engine/test_loopback_only.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from agent.engine.network_members import MEMBERS, first_set
from agent.model.status import NetworkMode
from agent.network.names.hosts_files import IN_CONTAINER

if TYPE_CHECKING:
    from collections.abc import Mapping

# A runtime of its own may make another namespace.
_MADE_BY_THE_ENGINE: Final = {**MEMBERS, "portbindings": "published ports"}


def why_not(body: Mapping[str, Any]) -> str:
    """Return why the engine has to make a container's network; empty if it can leave that out.

    Args:
        body: the container's create body.
    """
    host_config: Mapping[str, Any] = body["HostConfig"]
    if host_config.get("NetworkMode") != NetworkMode.NONE.value:
        return f"network mode {host_config.get('NetworkMode')}"
    return first_set(body, _MADE_BY_THE_ENGINE)


def left_out(body: Mapping[str, Any], hosts_file: str) -> dict[str, Any]:
    """Return the create body of the same container without the engine's network; ``why_not`` must be empty.

    Args:
        body: the container's create body.
        hosts_file: path on the host of the container's hosts file.
    """
    host_config = body["HostConfig"]
    binds = host_config.get("Binds") or []
    if not any(IN_CONTAINER in str(bind).split(":")[1:2] for bind in binds):
        mode = "ro,z" if host_config.get("ReadonlyRootfs") else "z"
        binds = [*binds, f"{hosts_file}:{IN_CONTAINER}:{mode}"]
    return {**body, "NetworkDisabled": True, "HostConfig": {**host_config, "Binds": binds}}
