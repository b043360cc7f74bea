"""Settings of a container that joins its task's network namespace. Pure.

The sandbox owns the namespace and the engine settings that belong to it: host name, hosts file,
name servers, addresses and ports. The engine refuses or ignores those settings in a container that
joins. Name servers are therefore passed in a file of the container's own
(``network.resolv_files``), and a container that wants no network does not join. All other such
settings are refused by name, as Amazon ECS does when a task definition is registered. The engine
sets kernel parameters of the network, in the namespace that the whole task shares.

Source: Docker Engine 20.10 to 28, ``runconfig/hostconfig_unix.go``.

Tests: ``tests/unit/engine/test_container_body.py``.
"""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

from agent.engine import overlay
from agent.errors import PayloadError
from agent.model import reasons
from agent.model.status import NetworkMode
from agent.network.names.resolv_files import IN_CONTAINER
from agent.network.names.resolvers import Resolvers

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.model.payload import Container, TaskPayload

_LISTS = ("Dns", "DnsSearch", "DnsOptions")
_REFUSED = {
    "Hostname": "hostname",
    "Domainname": "domain name",
    "MacAddress": "MAC address",
    "ExtraHosts": "extraHosts",
    "Links": "links",
    "PortBindings": "published ports",
    "PublishAllPorts": "published ports",
}
"""Members of ``Config`` and ``HostConfig``, with their common names."""


def wants_no_network(config: Mapping[str, Any]) -> bool:
    """Return whether the container should have no network (``disableNetworking``)."""
    return bool(config.get("NetworkDisabled"))


def has_no_network(container: Container) -> bool:
    """Return whether a container is made without a network; false if its order cannot be read."""
    config: dict[str, Any] = {}
    try:
        given = overlay.checked(container.docker_config.config, reasons.CLIENT_CONFIG, "config")
    except PayloadError:
        return False
    overlay.overlay(config, given, spelling=overlay.CONFIG_KEYS)
    return wants_no_network(config)


def own_resolvers(payload: TaskPayload, container: Container) -> Resolvers | None:
    """Return the name servers that a joining container wants; None if it wants none.

    Raises:
        PayloadError: its ``dockerConfig`` cannot be read, or a name server is invalid.
    """
    docker = container.docker_config
    if payload.mode is not NetworkMode.AWSVPC or not docker.host_config:
        return None
    host_config: dict[str, Any] = {}
    given = overlay.checked(docker.host_config, reasons.HOST_CONFIG, "hostConfig")
    overlay.overlay(host_config, given, spelling=overlay.HOST_CONFIG_KEYS)
    if not any(host_config.get(name) for name in _LISTS):
        return None
    config: dict[str, Any] = {}
    given = overlay.checked(docker.config, reasons.CLIENT_CONFIG, "config")
    overlay.overlay(config, given, spelling=overlay.CONFIG_KEYS)
    if wants_no_network(config):
        return None
    servers, search, options = (_words(container, host_config, name) for name in _LISTS)
    for server in servers:
        try:
            ip_address(server)
        except ValueError:
            text = f"dnsServers of container {container.name}: {server[:60]!r} is not an IP address"
            raise PayloadError(text, name=reasons.HOST_CONFIG) from None
    return Resolvers(servers=servers, search=search, options=options)


def _words(container: Container, host_config: Mapping[str, Any], name: str) -> tuple[str, ...]:
    value = host_config.get(name) or []
    if not isinstance(value, list) or not all(_is_word(word) for word in value):
        where = f"dockerConfig.hostConfig.{name} of container {container.name}"
        text = f"{where} is not a list of strings"
        raise PayloadError(text, name=reasons.HOST_CONFIG)
    return tuple(value)


def _is_word(value: Any) -> bool:
    return isinstance(value, str) and value.isprintable() and len(value.split()) == 1


def join(
    container: Container,
    config: dict[str, Any],
    host_config: dict[str, Any],
    *,
    sandbox_id: str,
    resolv_conf: str,
) -> None:
    """Make a container join the sandbox; changes both parts of its body in place.

    ``resolv_conf`` is the host path of the container's own file, empty if it has none.

    Raises:
        PayloadError: it has a setting that only the sandbox can have.
    """
    if wants_no_network(config):
        host_config["NetworkMode"] = NetworkMode.NONE.value
        return
    for half in (config, host_config):
        for name in _REFUSED.keys() & half.keys():
            if half.pop(name):
                text = (
                    f"container {container.name} has {_REFUSED[name]}, which a container of a task "
                    "in awsvpc mode cannot have: all containers of the task share its network"
                )
                raise PayloadError(text, name=reasons.HOST_CONFIG)
    host_config["NetworkMode"] = f"container:{sandbox_id}"
    for name in _LISTS:
        host_config.pop(name, None)
    # Only documents the ports that the image serves: at the task's address, all ports are open.
    config.pop("ExposedPorts", None)
    if resolv_conf and not _brings_its_own(host_config):
        mode = "ro,z" if host_config.get("ReadonlyRootfs") else "z"
        bind = f"{resolv_conf}:{IN_CONTAINER}:{mode}"
        host_config["Binds"] = [*(host_config.get("Binds") or []), bind]


def _brings_its_own(host_config: Mapping[str, Any]) -> bool:
    """Return whether a mount in the task definition replaces the file."""
    binds = host_config.get("Binds") or []
    return any(IN_CONTAINER in str(bind).split(":")[1:2] for bind in binds)
