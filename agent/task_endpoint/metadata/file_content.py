"""The content of a container's metadata file. Pure.

Source: Amazon ECS agent 1.105.1, ``agent/containermetadata``.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec import Struct, field

from agent.model import ids

if TYPE_CHECKING:
    from agent.model.payload import TaskPayload
    from agent.runtime.protocol import ContainerDetails

READY: Final = "READY"
_INDENT: Final = re.compile(rb"^ +", re.MULTILINE)


class FileHost(Struct, frozen=True, kw_only=True):
    """What the files say of this host; what is empty is left out of them."""

    cluster: str
    instance_arn: str = ""
    availability_zone: str = ""
    private_ipv4: str = ""
    public_ipv4: str = ""


class _Entry(Struct, frozen=True, kw_only=True, rename="pascal", omit_defaults=True):
    pass


class _PortMapping(Struct, frozen=True, kw_only=True, rename="pascal"):
    """Every key is always written."""

    container_port: int
    container_port_range: str = ""
    host_port: int
    bind_ip: str
    protocol: str


class _Network(_Entry, frozen=True, kw_only=True):
    network_mode: str
    ipv4_addresses: list[str] = field(default_factory=list, name="IPv4Addresses")
    ipv6_addresses: list[str] = field(default_factory=list, name="IPv6Addresses")


class _File(_Entry, frozen=True, kw_only=True):
    cluster: str = ""
    container_instance_arn: str = field(default="", name="ContainerInstanceARN")
    task_arn: str = field(default="", name="TaskARN")
    task_definition_family: str = ""
    task_definition_revision: str = ""
    container_id: str = field(default="", name="ContainerID")
    container_name: str = ""
    docker_container_name: str = ""
    image_id: str = field(default="", name="ImageID")
    image_name: str = ""
    port_mappings: list[_PortMapping] = field(default_factory=list)
    networks: list[_Network] = field(default_factory=list)
    metadata_file_status: str = ""
    availability_zone: str = ""
    host_private_ipv4_address: str = field(default="", name="HostPrivateIPv4Address")
    host_public_ipv4_address: str = field(default="", name="HostPublicIPv4Address")


def text(
    payload: TaskPayload,
    container: str,
    host: FileHost,
    seen: ContainerDetails | None = None,
    *,
    own_address: str = "",
) -> bytes:
    """Return the content: what is known before the container is made, or all of it.

    Args:
        payload: the task.
        container: its name.
        host: this host.
        seen: the running container; None before it was made.
        own_address: of the task in awsvpc mode, whose containers are in no network of the engine.
    """
    known: dict[str, Any] = {}
    if seen is not None:
        known = {
            "container_id": seen.state.id,
            "docker_container_name": f"/{seen.state.name}",
            "image_id": seen.state.image_id,
            "image_name": seen.image,
            "port_mappings": _ports(seen),
            "networks": _networks(seen, own_address),
            "metadata_file_status": READY,
        }
    file = _File(
        cluster=ids.task_cluster(payload.arn, host.cluster),
        container_instance_arn=host.instance_arn,
        task_arn=payload.arn,
        task_definition_family=payload.family,
        task_definition_revision=payload.version,
        container_name=container,
        availability_zone=host.availability_zone,
        host_private_ipv4_address=host.private_ipv4,
        host_public_ipv4_address=host.public_ipv4,
        **known,
    )
    spaced = msgspec.json.format(msgspec.json.encode(file), indent=1)
    return _INDENT.sub(lambda spaces: b"\t" * len(spaces[0]), spaced) + b"\n"


def _ports(seen: ContainerDetails) -> list[_PortMapping]:
    return [
        _PortMapping(
            container_port=port.container_port,
            host_port=port.host_port,
            bind_ip=port.host_ip,
            protocol=port.protocol,
        )
        for port in seen.ports
    ]


def _networks(seen: ContainerDetails, own_address: str) -> list[_Network]:
    if own_address:
        return [_Network(network_mode="awsvpc", ipv4_addresses=[own_address])]
    return [
        _Network(
            network_mode=end.network,
            ipv4_addresses=[end.ipv4],
            ipv6_addresses=[end.ipv6] if end.ipv6 else [],
        )
        for end in seen.networks
    ]
