"""The settings by which a host joins its control: who it is, where control is, what it offers.

Pure data, the first part of the table of ``Settings``. The ``AWS_*`` names are those that every AWS
tool reads; Amazon's agent takes them from its SDK.
"""

# ruff: noqa: RUF009 - setting returns a dataclass field, made once per class as any other
from __future__ import annotations

from dataclasses import dataclass
from types import NoneType
from typing import TYPE_CHECKING, Literal

from agent.config import values
from agent.config.values import SecretText
from agent.config.variable import Bounds, setting

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Joining:
    """How the host joins; see ``Settings``, which has all of this."""

    # Identity and endpoints
    cluster: str = setting(
        "ECS_CLUSTER", values.CLUSTER, "default", "Cluster that the host registers into."
    )
    control_endpoint: str = setting(
        "ECS_CONTROL_ENDPOINT",
        values.URL,
        "",
        "URL of the control endpoint that gives orders. `ecs-agent standalone` sets it by itself.",
        ours=True,
    )
    control_token_file: Path | None = setting(
        "ECS_CONTROL_TOKEN_FILE",
        values.PATH,
        "",
        "File with the token that control asks for. Read anew when control refuses the one in use. "
        "`ecs-agent join` writes it.",
        ours=True,
        empty=NoneType,
    )
    control_ca_file: Path | None = setting(
        "ECS_CONTROL_CA_FILE",
        values.PATH,
        "",
        "PEM file of the authority that signed control's certificate, trusted besides the system's.",
        ours=True,
        empty=NoneType,
    )

    # Amazon ECS as control
    aws_region: str = setting(
        "AWS_DEFAULT_REGION",
        values.REGION,
        "",
        "Region of Amazon ECS. Must be given with `ECS_EXTERNAL`, unless `ECS_BACKEND_HOST` is: then "
        "it is that of the endpoint's name, or `us-east-1` with a warning.",
        amazon_only=True,
        note="from instance metadata",
    )
    backend_host: str = setting(
        "ECS_BACKEND_HOST",
        values.BACKEND,
        "",
        "Host or URL of an ECS API other than the region's own; `https://` is put in front of a "
        "bare host. `http://` is for tests, and for an ECS API that is reached by loopback.",
        amazon_only=True,
        note="the region's endpoint",
    )
    external: bool = setting(
        "ECS_EXTERNAL",
        values.BOOL,
        "false",
        "This host is no EC2 instance (ECS Anywhere): instance metadata is not asked who it is, and "
        "credentials come from the settings or the rotating file first.",
        amazon_only=True,
    )
    aws_access_key_id: SecretText = setting(
        "AWS_ACCESS_KEY_ID",
        values.SECRET,
        "",
        "Access key that the agent signs with.",
        amazon_only=True,
        note="from the places that `docs/amazon-ecs.md` lists",
        empty=SecretText,
    )
    aws_secret_access_key: SecretText = setting(
        "AWS_SECRET_ACCESS_KEY",
        values.SECRET,
        "",
        "Secret half of the access key. Never logged, never stored.",
        amazon_only=True,
        empty=SecretText,
    )
    aws_session_token: SecretText = setting(
        "AWS_SESSION_TOKEN",
        values.SECRET,
        "",
        "Session token of a temporary access key. Never logged, never stored.",
        amazon_only=True,
        empty=SecretText,
    )
    alternate_credential_profile: str = setting(
        "ECS_ALTERNATE_CREDENTIAL_PROFILE",
        values.NAME,
        "default",
        "Profile that is read in the rotating credentials file.",
        amazon_only=True,
    )
    rotating_credentials_file: Path = setting(
        "ECS_ROTATING_CREDENTIALS_FILE",
        values.PATH,
        "/root/.aws/credentials",
        "Credentials file that the SSM agent writes anew while the host runs. Amazon's agent sees "
        "the same file as `/rotatingcreds/credentials` in its container.",
        ours=True,
        amazon_only=True,
    )
    http_proxy: str = setting(
        "HTTP_PROXY",
        values.PROXY,
        "",
        "Proxy on the way to AWS; `host:port` or a URL. `http_proxy` counts too.",
        amazon_only=True,
    )
    https_proxy: str = setting(
        "HTTPS_PROXY",
        values.PROXY,
        "",
        "Proxy for `https://` addresses, the web sockets among them. `https_proxy` counts too.",
        amazon_only=True,
        note="that of `HTTP_PROXY`",
    )
    no_proxy: str = setting(
        "NO_PROXY",
        values.TEXT,
        "",
        "Hosts, domains and networks that are reached without a proxy, with commas between. "
        "`no_proxy` counts too.",
        amazon_only=True,
        note="169.254.169.254 and 169.254.170.2",
    )
    metadata_disabled: bool = setting(
        "AWS_EC2_METADATA_DISABLED",
        values.BOOL,
        "false",
        "Do not ask instance metadata; the host registers without an identity document.",
        amazon_only=True,
    )
    metadata_endpoint: str = setting(
        "AWS_EC2_METADATA_SERVICE_ENDPOINT",
        values.METADATA_URL,
        "",
        "URL of instance metadata. Where it is given, metadata is asked on any host; else on EC2 "
        "instances alone, which are told by their firmware.",
        amazon_only=True,
        note="`http://169.254.169.254`",
    )
    propagate_tags_from: Literal["none", "ec2_instance"] = setting(
        "ECS_CONTAINER_INSTANCE_PROPAGATE_TAGS_FROM",
        values.choice("none", "ec2_instance"),
        "none",
        "With `ec2_instance`, tags of the EC2 instance become tags of the container instance; "
        "`ECS_CONTAINER_INSTANCE_TAGS` wins over equal keys.",
        amazon_only=True,
    )
    spot_draining: bool = setting(
        "ECS_ENABLE_SPOT_INSTANCE_DRAINING",
        values.BOOL,
        "false",
        "Watch for the notice that EC2 takes a spot instance back, and drain the host then.",
        amazon_only=True,
    )
    warm_pools_check: bool = setting(
        "ECS_WARM_POOLS_CHECK",
        values.BOOL,
        "false",
        "Register only once Auto Scaling has taken the instance out of its warm pool.",
        amazon_only=True,
    )
    updates_enabled: bool = setting(
        "ECS_UPDATES_ENABLED",
        values.BOOL,
        "false",
        "Accepted for both values. Updates that Amazon ECS orders are refused with either: packages "
        "update this agent.",
        amazon_only=True,
    )
    exclude_ipv6_port_binding: bool = setting(
        "ECS_EXCLUDE_IPV6_PORTBINDING",
        values.BOOL,
        "true",
        "Leave the `::` twin of a port binding out of reports.",
        amazon_only=True,
    )

    # Registration
    instance_attributes: dict[str, str] = setting(
        "ECS_INSTANCE_ATTRIBUTES",
        values.ATTRIBUTES,
        "",
        "Custom attributes of the container instance, sent at registration.",
        empty=dict,
    )
    container_instance_tags: dict[str, str] = setting(
        "ECS_CONTAINER_INSTANCE_TAGS",
        values.TAGS,
        "",
        "Tags of the container instance, sent at registration.",
        empty=dict,
    )
    reserved_ports: tuple[int, ...] = setting(
        "ECS_RESERVED_PORTS",
        values.PORTS,
        "[22,2375,2376,51678,51679]",
        "TCP ports that no task may take. `ECS_PROMETHEUS_PORT` is added when Prometheus is on.",
    )
    reserved_ports_udp: tuple[int, ...] = setting(
        "ECS_RESERVED_PORTS_UDP", values.PORTS, "[]", "UDP ports that no task may take."
    )
    reserved_memory_mib: int = setting(
        "ECS_RESERVED_MEMORY",
        values.INT,
        "0",
        "MiB of memory kept back from tasks.",
        bounds=Bounds(0, 65535, "refuse"),
    )
    available_logging_drivers: tuple[str, ...] = setting(
        "ECS_AVAILABLE_LOGGING_DRIVERS",
        values.LOG_DRIVERS,
        '["json-file","none"]',
        "Log drivers that tasks may ask for; each becomes a capability of the instance.",
    )
    disable_privileged: bool = setting(
        "ECS_DISABLE_PRIVILEGED", values.BOOL, "false", "Refuse privileged containers."
    )
    selinux: bool = setting(
        "ECS_SELINUX_CAPABLE",
        values.BOOL,
        "false",
        "Advertise that containers may set SELinux labels.",
    )
    apparmor: bool = setting(
        "ECS_APPARMOR_CAPABLE",
        values.BOOL,
        "false",
        "Advertise that containers may set AppArmor profiles.",
    )
    disable_health_check: bool = setting(
        "ECS_DISABLE_DOCKER_HEALTH_CHECK",
        values.BOOL,
        "false",
        "Do not advertise container health checks, so that no task with one is placed here.",
    )
    gpu_support: bool | None = setting(
        "ECS_ENABLE_GPU_SUPPORT",
        values.BOOL,
        "",
        "Offer the host's NVIDIA GPUs to tasks. `true` warns when there are none.",
        note="on where there are GPUs",
        empty=NoneType,
    )
    availability_zone: str = setting(
        "ECS_AVAILABILITY_ZONE",
        values.NAME,
        "",
        "Zone of the host on a control endpoint of one's own: the attribute `ecs.availability-zone`, "
        "by which tasks are spread and constrained. Name the hosts alike that fail together: a rack, "
        "a room, a site. Amazon ECS knows the zone by itself.",
        ours=True,
        note="on EC2 that of the instance, else the one zone of the control endpoint",
    )
    detailed_os_family: str = setting(
        "ECS_DETAILED_OS_FAMILY",
        values.NAME,
        "",
        "Operating system in detail, such as `debian_12`: the attribute `ecs.os-type-detailed`.",
        amazon_only=True,
        note="from `/etc/os-release`",
    )
