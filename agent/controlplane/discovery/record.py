"""What is stored about names. Plain data.

::

    /discovery/namespaces/<id>                    NamespaceRecord
    /discovery/namespace-names/<name>             id of the namespace; names of namespaces are in lower case
    /discovery/registries/<id>                    RegistryRecord
    /discovery/registry-names/<namespace>/<name>  id of the registry
    /discovery/instances/<registry>/<id>          RegisteredInstance
    /discovery/aliases/<namespace>/<name>         AliasRecord: a name of Service Connect
    /discovery/guards/<namespace or registry>     empty; put by everyone who adds or changes something in it
    /discovery/operations/<id>                    OperationRecord, for a day (``janitor``)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec import field

from agent.controlplane.records import Record

if TYPE_CHECKING:
    from agent.controlplane.names import Names

NAMESPACES: Final = "/discovery/namespaces/"
NAMESPACE_NAMES: Final = "/discovery/namespace-names/"
REGISTRIES: Final = "/discovery/registries/"
REGISTRY_NAMES: Final = "/discovery/registry-names/"
INSTANCES: Final = "/discovery/instances/"
ALIASES: Final = "/discovery/aliases/"
GUARDS: Final = "/discovery/guards/"
OPERATIONS: Final = "/discovery/operations/"

HTTP: Final = "HTTP"
DNS_PRIVATE: Final = "DNS_PRIVATE"
DNS_HTTP: Final = "DNS_HTTP"
HEALTHY: Final = "HEALTHY"
UNHEALTHY: Final = "UNHEALTHY"
UNKNOWN: Final = "UNKNOWN"
MULTIVALUE: Final = "MULTIVALUE"
WEIGHTED: Final = "WEIGHTED"

IPV4: Final = "AWS_INSTANCE_IPV4"
IPV6: Final = "AWS_INSTANCE_IPV6"
PORT: Final = "AWS_INSTANCE_PORT"
NEEDED: Final = {"A": IPV4, "AAAA": IPV6, "SRV": PORT}
"""The attribute that an instance must have for a DNS record, by the type of the record."""


class NamespaceRecord(Record, frozen=True):
    """A namespace."""

    id: str
    arn: str
    name: str
    type: str
    """HTTP or DNS_PRIVATE."""
    soa_ttl_s: int = 15
    """Of a DNS namespace: for how long a client may remember that there is no such name."""
    description: str = ""
    tags: dict[str, str] = field(default_factory=dict)
    created_at: float = 0.0
    creator_request_id: str = ""
    fingerprint: str = ""
    """Hash of the request that created it."""
    operation_id: str = ""
    """Of that request."""

    @property
    def is_dns(self) -> bool:
        """Whether hosts answer its names in DNS, and its registries may have DNS records."""
        return self.type == DNS_PRIVATE


class RegistryRecord(Record, frozen=True):
    """A registry: a Cloud Map service."""

    id: str
    arn: str
    name: str
    namespace_id: str
    dns_records: dict[str, int] = field(default_factory=dict)
    """TTL in seconds by the type of record; empty for the type HTTP, whose name is not in DNS."""
    routing_policy: str = MULTIVALUE
    """MULTIVALUE or WEIGHTED: whether an answer of DNS has up to eight instances, or one."""
    has_custom_health: bool = False
    """Whether its instances have a health status that somebody sets."""
    failure_threshold: int = 1
    """Shown, and without effect, as on AWS."""
    description: str = ""
    tags: dict[str, str] = field(default_factory=dict)
    created_at: float = 0.0
    creator_request_id: str = ""
    fingerprint: str = ""
    """Hash of the request that created it."""
    ecs_service: str = ""
    """ARN of the ECS service whose Service Connect made it, and which alone changes it; empty for all others."""

    @property
    def type(self) -> str:
        """HTTP or DNS_HTTP."""
        return DNS_HTTP if self.dns_records else HTTP


class RegisteredInstance(Record, frozen=True):
    """An instance: an address and its attributes, under the name of a registry."""

    id: str
    attributes: dict[str, str] = field(default_factory=dict)
    health: str = ""
    """HEALTHY or UNHEALTHY as it was set; empty if the registry has no custom health."""
    creator_request_id: str = ""
    operation_id: str = ""
    task: str = ""
    """Key of the task that it stands for; empty if an operator registered it."""


class AliasRecord(Record, frozen=True):
    """A name of Service Connect: what tasks with Service Connect in its namespace find by it."""

    ecs_service: str
    """ARN of the ECS service that it leads to."""
    registries: list[str] = field(default_factory=list)
    """Ids of the registries that its tasks are in: those of several deployments while one follows another."""


class OperationRecord(Record, frozen=True):
    """A call that AWS does in the background, and control at once."""

    id: str
    type: str
    targets: dict[str, str]
    """Ids by kind: NAMESPACE, SERVICE, INSTANCE."""
    at: float = 0.0


def namespace_key(namespace_id: str) -> str:
    """Return the key of a namespace."""
    return f"{NAMESPACES}{namespace_id}"


def namespace_name_key(name: str) -> str:
    """Return the key of a namespace's name, whatever its case."""
    return f"{NAMESPACE_NAMES}{name.lower()}"


def registry_key(registry_id: str) -> str:
    """Return the key of a registry."""
    return f"{REGISTRIES}{registry_id}"


def registry_name_key(namespace: NamespaceRecord, name: str) -> str:
    """Return the key of a registry's name, in DNS whatever its case."""
    return f"{registry_names_prefix(namespace.id)}{name.lower() if namespace.is_dns else name}"


def registry_names_prefix(namespace_id: str) -> str:
    """Return the prefix of the names of the registries of a namespace."""
    return f"{REGISTRY_NAMES}{namespace_id}/"


def instances_prefix(registry_id: str) -> str:
    """Return the prefix of the instances of a registry."""
    return f"{INSTANCES}{registry_id}/"


def instance_key(registry_id: str, instance_id: str) -> str:
    """Return the key of an instance."""
    return f"{instances_prefix(registry_id)}{instance_id}"


def alias_key(namespace_id: str, name: str) -> str:
    """Return the key of a name of Service Connect, which is in lower case."""
    return f"{ALIASES}{namespace_id}/{name}"


def guard_key(parent_id: str) -> str:
    """Return the key that tells whether something in a namespace or registry was changed."""
    return f"{GUARDS}{parent_id}"


def operation_key(operation_id: str) -> str:
    """Return the key of an operation."""
    return f"{OPERATIONS}{operation_id}"


def registry_id_of(names: Names, arn: str) -> str:
    """Return the id of the registry that an ARN names; empty if it is not one of this control endpoint."""
    prefix = names.registry("")
    return arn.removeprefix(prefix) if arn.startswith(prefix) else ""
