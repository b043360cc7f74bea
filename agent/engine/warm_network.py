"""Whether a container can join a ready sandbox instead of getting its network when it starts. Pure.

Joining is how containers in ``bridge`` mode start in half the time. The engine does not
let a container that joins have settings that belong to the network; a definition with such a setting
gets its network from the engine, as without sandboxes. So does a container that others of its task
find by the engine: the target of a link, and a log router. ``why_not`` says which one it is.

Source: Docker Engine 20.10 to 28, ``runconfig/hostconfig_unix.go``.
Tests: ``tests/unit/engine/test_warm_network.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from agent.engine import ports
from agent.engine.firelens import order as firelens
from agent.engine.network_members import MEMBERS, first_set
from agent.model.status import NetworkMode

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.model.payload import Container, TaskPayload

_OF_A_SANDBOX: Final = {
    **MEMBERS,
    "hostname": "hostname",
    "domainname": "domain name",
    "utsmode": "UTS mode",
    "usernsmode": "user namespace mode",
}
_BINDINGS: Final = "portbindings"


def why_not_in_task(payload: TaskPayload, container: Container) -> str:
    """Return what of its task keeps a container from joining a sandbox; empty if nothing does."""
    if payload.mode is not NetworkMode.BRIDGE:
        return f"network mode {payload.mode.value}"
    linked = {link.partition(":")[0] for each in payload.containers for link in each.links}
    if container.name in linked:
        return "links to it"
    if container.restart_policy is not None and container.restart_policy.enabled:
        return "a restart policy: a restart of the engine ends a sandbox, and it goes on after that"
    if firelens.router_of(payload) is container:
        return "containers that log through it"
    return "" if ports.ready_ports(container) is not None else "a certain port of the host"


def why_not(
    body: Mapping[str, Any], mode: str, bindings: Mapping[str, list[dict[str, str]]]
) -> str:
    """Return why a container cannot join a sandbox; empty if it can.

    Args:
        body: the container's create body, with a network from the engine.
        mode: network mode of its task.
        bindings: the ports that the sandbox would publish for it, as in the body.
    """
    host_config: Mapping[str, Any] = body["HostConfig"]
    own_mode = host_config.get("NetworkMode")
    if own_mode != mode:
        return f"network mode {own_mode}"
    asked = next((v for k, v in host_config.items() if k.casefold() == _BINDINGS), None) or {}
    if asked != bindings:
        return "published ports of its own"
    if asked_of_engine := first_set(body, _OF_A_SANDBOX):
        return asked_of_engine
    sysctls = next((v for k, v in host_config.items() if k.casefold() == "sysctls"), None) or {}
    if not isinstance(sysctls, dict) or any(str(name).startswith("net.") for name in sysctls):
        return "kernel parameters of the network"
    return ""


def joined(body: Mapping[str, Any], sandbox_id: str) -> dict[str, Any]:
    """Return the create body of the same container in a sandbox; ``why_not`` must be empty."""
    left = {key: value for key, value in body.items() if key.casefold() not in _OF_A_SANDBOX}
    left.pop("ExposedPorts", None)
    host_config = {
        key: value
        for key, value in body["HostConfig"].items()
        if key.casefold() not in _OF_A_SANDBOX and key.casefold() != _BINDINGS
    }
    return {**left, "HostConfig": {**host_config, "NetworkMode": f"container:{sandbox_id}"}}
