"""Whether a container can join a ready sandbox instead of getting its network when it starts. Pure.

Joining is how containers in ``none`` mode start in half the time. The engine does not
let a container that joins have settings that belong to the network; a definition with such a setting
gets its network from the engine, as without sandboxes. ``why_not`` says which one it is.

Source: Docker Engine 20.10 to 28, ``runconfig/hostconfig_unix.go``.
Tests: ``tests/unit/engine/test_warm_network.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

_OF_CONFIG: Final = {
    "hostname": "hostname",
    "domainname": "domain name",
    "macaddress": "MAC address",
    "networkdisabled": "disableNetworking",
    "networkingconfig": "networks of the engine",
}
_OF_HOST_CONFIG: Final = {
    "links": "links",
    "extrahosts": "extraHosts",
    "dns": "dnsServers",
    "dnssearch": "dnsSearchDomains",
    "dnsoptions": "options for name servers",
    "portbindings": "published ports",
    "publishallports": "published ports",
    "utsmode": "UTS mode",
    "usernsmode": "user namespace mode",
    "runtime": "runtime",
}
_MODES: Final = frozenset({"none"})


def why_not(body: Mapping[str, Any]) -> str:
    """Return why a container cannot join a sandbox; empty if it can.

    Args:
        body: the container's create body, with a network from the engine.
    """
    host_config: Mapping[str, Any] = body["HostConfig"]
    mode = host_config.get("NetworkMode")
    if mode not in _MODES:
        return f"network mode {mode}"
    for half, names in ((body, _OF_CONFIG), (host_config, _OF_HOST_CONFIG)):
        for key, value in half.items():
            if value and key.casefold() in names:
                return names[key.casefold()]
    sysctls = next((v for k, v in host_config.items() if k.casefold() == "sysctls"), None) or {}
    if not isinstance(sysctls, dict) or any(str(name).startswith("net.") for name in sysctls):
        return "kernel parameters of the network"
    return ""


def joined(body: Mapping[str, Any], sandbox_id: str) -> dict[str, Any]:
    """Return the create body of the same container in a sandbox; ``why_not`` must be empty."""
    left = {key: value for key, value in body.items() if key.casefold() not in _OF_CONFIG}
    left.pop("ExposedPorts", None)
    host_config = {
        key: value
        for key, value in body["HostConfig"].items()
        if key.casefold() not in _OF_HOST_CONFIG
    }
    return {**left, "HostConfig": {**host_config, "NetworkMode": f"container:{sandbox_id}"}}
