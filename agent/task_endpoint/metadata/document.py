"""The JSON objects of task metadata, with the names of their fields on the wire. Pure data.

What is empty or unknown is left out, except where a field has no default. Version 2 and 3 have the base
types, version 4 those that extend them.
"""

from __future__ import annotations

from msgspec import Struct, field


class _Document(Struct, frozen=True, kw_only=True, rename="pascal", omit_defaults=True):
    pass


class TaskLimits(_Document, frozen=True, kw_only=True):
    """What the whole task may use."""

    cpu: float = field(default=0.0, name="CPU")
    """vCPUs."""
    memory: int = 0
    """MiB."""


class ContainerLimits(_Document, frozen=True, kw_only=True):
    """What one container may use; both are always written."""

    cpu: int = field(name="CPU")
    """CPU units, 1024 to a core."""
    memory: int
    """MiB; 0 for no limit."""


class Port(_Document, frozen=True, kw_only=True):
    """A port of a container, and where the host has it."""

    container_port: int = 0
    protocol: str = ""
    host_port: int = 0
    host_ip: str = ""
    """In version 4 alone."""


class Health(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """What the health check says; names in camel case, unlike everything else."""

    status: str = ""
    """``HEALTHY`` or ``UNHEALTHY``; left out while it is unknown."""
    status_since: str = ""
    exit_code: int = 0
    output: str = ""


class VolumeMount(_Document, frozen=True, kw_only=True):
    """Something mounted into a container."""

    docker_name: str = ""
    """Of the engine's volume; left out for a path of the host."""
    source: str = ""
    destination: str = ""


class Network(_Document, frozen=True, kw_only=True):
    """One network of a container."""

    network_mode: str
    ipv4_addresses: list[str] = field(default_factory=list, name="IPv4Addresses")
    ipv6_addresses: list[str] = field(default_factory=list, name="IPv6Addresses")


class NetworkV4(Network, frozen=True, kw_only=True):
    """One network of a container, with the properties of an interface of the task's own."""

    attachment_index: int | None = None
    mac_address: str = field(default="", name="MACAddress")
    ipv4_subnet_cidr_block: str = field(default="", name="IPv4SubnetCIDRBlock")
    ipv6_subnet_cidr_block: str = field(default="", name="IPv6SubnetCIDRBlock")
    domain_name_servers: list[str] = field(default_factory=list)
    domain_name_search_list: list[str] = field(default_factory=list)
    private_dns_name: str = field(default="", name="PrivateDNSName")
    subnet_gateway_ipv4_address: str = field(default="", name="SubnetGatewayIpv4Address")
    subnet_gateway_ipv6_address: str = field(default="", name="SubnetGatewayIpv6Address")


class Container(_Document, frozen=True, kw_only=True):
    """One container."""

    docker_id: str
    name: str
    docker_name: str
    image: str
    image_id: str = field(name="ImageID")
    ports: list[Port] = field(default_factory=list)
    labels: dict[str, str] = field(default_factory=dict)
    desired_status: str
    known_status: str
    exit_code: int | None = None
    limits: ContainerLimits
    created_at: str = ""
    started_at: str = ""
    finished_at: str = ""
    type: str
    """``NORMAL``, ``CNI_PAUSE`` or ``NAMESPACE_PAUSE``."""
    health: Health | None = None
    volumes: list[VolumeMount] = field(default_factory=list)
    networks: list[Network] = field(default_factory=list)


class ContainerV4(Container, frozen=True, kw_only=True):
    """One container."""

    log_driver: str = ""
    log_options: dict[str, str] = field(default_factory=dict)
    container_arn: str = field(default="", name="ContainerARN")
    restart_count: int | None = None
    """Left out without a restart policy."""


class Task(_Document, frozen=True, kw_only=True):
    """One task."""

    cluster: str
    task_arn: str = field(name="TaskARN")
    family: str
    revision: str
    desired_status: str
    known_status: str
    containers: list[Container] = field(default_factory=list)
    limits: TaskLimits | None = None
    pull_started_at: str = ""
    pull_stopped_at: str = ""
    execution_stopped_at: str = ""
    availability_zone: str = ""
    task_tags: dict[str, str] = field(default_factory=dict)
    container_instance_tags: dict[str, str] = field(default_factory=dict)


class TagError(_Document, frozen=True, kw_only=True):
    """Why tags are missing."""

    error_field: str
    """``ContainerInstanceTags`` or ``TaskTags``."""
    error_code: str = ""
    error_message: str = ""
    resource_arn: str = field(default="", name="ResourceARN")


class TaskV4(Task, frozen=True, kw_only=True):
    """One task."""

    launch_type: str = ""
    errors: list[TagError] = field(default_factory=list)
    service_name: str = ""
    fault_injection_enabled: bool


class Associations(_Document, frozen=True, kw_only=True):
    """Names of the associations of one type; null if there is none."""

    associations: list[str] | None
