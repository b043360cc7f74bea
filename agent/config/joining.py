"""The settings with which a host joins control: its identity, the endpoint, what it offers.

Pure data, the first part of the table of ``Settings``. The ``AWS_*`` names are those that every AWS
tool reads; Amazon's agent gets them from its SDK.
"""

# ruff: noqa: RUF009 - setting returns a dataclass field, created once per class like any other
from __future__ import annotations

from dataclasses import dataclass
from types import NoneType
from typing import TYPE_CHECKING, Literal

from agent.config import network_values, values
from agent.config.values import SecretText
from agent.config.variable import Bounds, setting

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True, init=False, repr=False, eq=False)
class Joining:
    """How the host joins; see ``Settings``, which includes all of these."""

    # Identity and endpoints
    cluster: str = setting(
        "ECS_CLUSTER", values.CLUSTER, "default", "Cluster that the host registers into."
    )
    control_endpoint: str = setting(
        "ECS_CONTROL_ENDPOINT",
        values.URL,
        "",
        "URL of the control endpoint that gives orders. `ecs-agent standalone` sets it itself.",
        ours=True,
    )
    control_token_file: Path | None = setting(
        "ECS_CONTROL_TOKEN_FILE",
        values.PATH,
        "",
        "File with the token that control requires. Read again when control refuses the current "
        "token. A host with a certificate of control's needs it no more (`docs/identities.md`). "
        "`ecs-agent join` writes it.",
        ours=True,
        empty=NoneType,
    )
    control_ca_file: Path | None = setting(
        "ECS_CONTROL_CA_FILE",
        values.PATH,
        "",
        "PEM file of the authority that signed control's certificate, trusted in addition to the "
        "system's authorities.",
        ours=True,
        empty=NoneType,
    )

    # Amazon ECS as control
    aws_region: str = setting(
        "AWS_DEFAULT_REGION",
        values.REGION,
        "",
        "Region of Amazon ECS, and of what a task definition names without a region. Required with "
        "`ECS_EXTERNAL`, unless `ECS_BACKEND_HOST` is set: then it is taken from the endpoint's "
        "name, or is `us-east-1` with a warning.",
        note="from instance metadata",
    )
    backend_host: str = setting(
        "ECS_BACKEND_HOST",
        values.BACKEND,
        "",
        "Host or URL of an ECS API to use instead of the region's; a bare host gets `https://`. "
        "Use `http://` only for tests and for an ECS API on loopback.",
        amazon_only=True,
        note="the region's endpoint",
    )
    external: bool = setting(
        "ECS_EXTERNAL",
        values.BOOL,
        "false",
        "This host is not an EC2 instance (ECS Anywhere): instance metadata is not used to "
        "identify it, and credentials come first from the settings or the rotating file.",
        amazon_only=True,
    )
    aws_access_key_id: SecretText = setting(
        "AWS_ACCESS_KEY_ID",
        values.SECRET,
        "",
        "Access key that the agent itself signs with; tasks have the keys of their roles.",
        note="from the sources listed in `docs/amazon-ecs.md`",
        empty=SecretText,
    )
    aws_secret_access_key: SecretText = setting(
        "AWS_SECRET_ACCESS_KEY",
        values.SECRET,
        "",
        "Secret part of the access key. Never logged, never stored.",
        empty=SecretText,
    )
    aws_session_token: SecretText = setting(
        "AWS_SESSION_TOKEN",
        values.SECRET,
        "",
        "Session token of a temporary access key. Never logged, never stored.",
        empty=SecretText,
    )
    alternate_credential_profile: str = setting(
        "ECS_ALTERNATE_CREDENTIAL_PROFILE",
        values.NAME,
        "default",
        "Profile to read in the rotating credentials file.",
    )
    rotating_credentials_file: Path = setting(
        "ECS_ROTATING_CREDENTIALS_FILE",
        values.PATH,
        "/root/.aws/credentials",
        "Credentials file that the SSM agent rewrites while the host runs. Amazon's agent sees the "
        "same file as `/rotatingcreds/credentials` in its container.",
        ours=True,
    )
    http_proxy: str = setting(
        "HTTP_PROXY",
        values.PROXY,
        "",
        "Proxy for calls to AWS; `host:port` or a URL. `http_proxy` is read too.",
    )
    https_proxy: str = setting(
        "HTTPS_PROXY",
        values.PROXY,
        "",
        "Proxy for `https://` addresses, including websockets. `https_proxy` is read too.",
        note="that of `HTTP_PROXY`",
    )
    no_proxy: str = setting(
        "NO_PROXY",
        values.TEXT,
        "",
        "Comma-separated hosts, domains and networks that are reached without a proxy. `no_proxy` "
        "is read too.",
        note="169.254.169.254 and 169.254.170.2",
    )
    metadata_disabled: bool = setting(
        "AWS_EC2_METADATA_DISABLED",
        values.BOOL,
        "false",
        "Do not use instance metadata; the host registers without an identity document.",
    )
    metadata_endpoint: str = setting(
        "AWS_EC2_METADATA_SERVICE_ENDPOINT",
        values.METADATA_URL,
        "",
        "URL of instance metadata. If set, the agent uses metadata on any host; otherwise only on "
        "EC2 instances, which it recognizes by their firmware.",
        note="`http://169.254.169.254`",
    )
    propagate_tags_from: Literal["none", "ec2_instance"] = setting(
        "ECS_CONTAINER_INSTANCE_PROPAGATE_TAGS_FROM",
        values.choice("none", "ec2_instance"),
        "none",
        "With `ec2_instance`, tags of the EC2 instance become tags of the container instance; "
        "for equal keys, `ECS_CONTAINER_INSTANCE_TAGS` wins.",
        amazon_only=True,
    )
    spot_draining: bool = setting(
        "ECS_ENABLE_SPOT_INSTANCE_DRAINING",
        values.BOOL,
        "false",
        "Watch for the EC2 spot interruption notice, and drain the host when it comes.",
        amazon_only=True,
    )
    warm_pools_check: bool = setting(
        "ECS_WARM_POOLS_CHECK",
        values.BOOL,
        "false",
        "Register only after Auto Scaling has moved the instance out of its warm pool.",
        amazon_only=True,
    )
    updates_enabled: bool = setting(
        "ECS_UPDATES_ENABLED",
        values.BOOL,
        "false",
        "Accepted, without effect: the agent refuses updates ordered by Amazon ECS with either "
        "value, because packages update it.",
        amazon_only=True,
    )
    exclude_ipv6_port_binding: bool = setting(
        "ECS_EXCLUDE_IPV6_PORTBINDING",
        values.BOOL,
        "true",
        "Do not report the `::` duplicate of a port binding.",
        amazon_only=True,
    )

    # AWS services that task definitions name
    aws_endpoint_url: str = setting(
        "AWS_ENDPOINT_URL",
        values.URL,
        "",
        "URL to use instead of the region's for each of the services below that has none of its "
        "own, as every AWS tool reads it. Amazon ECS itself is `ECS_BACKEND_HOST`.",
        ours=True,
        note="the region's endpoints",
    )
    ssm_endpoint_url: str = setting(
        "AWS_ENDPOINT_URL_SSM",
        values.URL,
        "",
        "URL of Systems Manager, whose Parameter Store keeps secrets of containers.",
        ours=True,
        note="that of `AWS_ENDPOINT_URL`",
    )
    secrets_manager_endpoint_url: str = setting(
        "AWS_ENDPOINT_URL_SECRETS_MANAGER",
        values.URL,
        "",
        "URL of Secrets Manager: secrets of containers, and logins to private registries.",
        ours=True,
        note="that of `AWS_ENDPOINT_URL`",
    )
    s3_endpoint_url: str = setting(
        "AWS_ENDPOINT_URL_S3",
        values.URL,
        "",
        "URL of S3, which keeps environment files. Buckets are then named in the path.",
        ours=True,
        note="that of `AWS_ENDPOINT_URL`",
    )
    ecr_endpoint_url: str = setting(
        "AWS_ENDPOINT_URL_ECR",
        values.URL,
        "",
        "URL of the API of ECR, which gives logins to its registries.",
        ours=True,
        note="that of `AWS_ENDPOINT_URL`",
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
        network_values.PORTS,
        "[22,2375,2376,51678,51679]",
        "TCP ports that no task may take. `ECS_PROMETHEUS_PORT` is added when Prometheus is on.",
    )
    reserved_ports_udp: tuple[int, ...] = setting(
        "ECS_RESERVED_PORTS_UDP", network_values.PORTS, "[]", "UDP ports that no task may take."
    )
    reserved_memory_mib: int = setting(
        "ECS_RESERVED_MEMORY",
        values.INT,
        "0",
        "MiB of memory that tasks cannot use.",
        bounds=Bounds(0, 65535, "refuse"),
    )
    available_logging_drivers: tuple[str, ...] = setting(
        "ECS_AVAILABLE_LOGGING_DRIVERS",
        values.LOG_DRIVERS,
        '["json-file","syslog","awslogs","fluentd","none"]',
        "Log drivers that tasks may use; each that the engine has becomes a capability of the instance.",
    )
    awslogs_execution_role: bool = setting(
        "ECS_ENABLE_AWSLOGS_EXECUTIONROLE_OVERRIDE",
        values.BOOL,
        "true",
        "Tell control that the log driver `awslogs` can write with a task's execution role.",
    )
    disable_privileged: bool = setting(
        "ECS_DISABLE_PRIVILEGED",
        values.BOOL,
        "false",
        "Refuse privileged containers, as Amazon's agent does, and nothing else by which a task can rule the "
        "host: see `ECS_HOST_POLICY_FILE`.",
    )
    host_policy_file: Path | None = setting(
        "ECS_HOST_POLICY_FILE",
        values.PATH,
        "",
        "The host's own policy, which control cannot override: what tasks may ask of this host. See "
        "[host-policy.md](host-policy.md).",
        ours=True,
        empty=NoneType,
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
        "Do not advertise container health checks, so that no task that has one is placed here.",
    )
    gpu_support: bool | None = setting(
        "ECS_ENABLE_GPU_SUPPORT",
        values.BOOL,
        "",
        "Offer the host's NVIDIA GPUs to tasks. `true` causes a warning if there are none.",
        note="on if the host has GPUs",
        empty=NoneType,
    )
    nvidia_runtime: str = setting(
        "ECS_NVIDIA_RUNTIME",
        values.NAME,
        "",
        "Runtime of the engine for containers with GPUs, which are then named in "
        "`NVIDIA_VISIBLE_DEVICES`.",
        note="none: GPUs are requested as devices",
    )
    nvidia_mps_pipes: Path | None = setting(
        "ECS_NVIDIA_MPS_PIPES",
        values.PATH,
        "",
        "Directory with the pipes of the host's MPS control daemon (`nvidia-cuda-mps-control`), usually "
        "`/tmp/nvidia-mps`. With it, containers whose definition has a `sharingStrategy` share GPUs here.",
        ours=True,
        empty=NoneType,
    )
    availability_zone: str = setting(
        "ECS_AVAILABILITY_ZONE",
        values.NAME,
        "",
        "Zone of the host for your own control endpoint: the attribute `ecs.availability-zone`, "
        "by which tasks are spread and constrained. Use the same name for hosts that fail "
        "together: a rack, a room, a site. Amazon ECS knows the zone itself.",
        ours=True,
        note="on EC2 the zone of the instance, otherwise the only zone of the control endpoint",
    )
    detailed_os_family: str = setting(
        "ECS_DETAILED_OS_FAMILY",
        values.NAME,
        "",
        "Operating system in detail, such as `debian_12`: the attribute `ecs.os-type-detailed`.",
        amazon_only=True,
        note="from `/etc/os-release`",
    )
