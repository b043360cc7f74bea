"""What the control endpoint stores: one struct per kind of key, and the keys themselves.

Values are JSON; an unknown field is ignored and a missing one has its default, so that an older
store is read by a newer program. Times are Unix seconds, 0 for "not yet". Nothing here does I/O.

::

    /clusters/<name>                      ClusterRecord
    /families/<family>                    FamilyRecord           revision counter
    /taskdefs/<family>/<revision padded>  TaskDefinitionRecord
    /instances/<cluster>/<id>             InstanceRecord
    /registrations/<client token>         instance ARN           makes registration idempotent
    /unheard/<instance id>                key of the instance    of one that registered without a token
                                                                 and made no call since
    /alive/<instance id>                  AliveRecord            under a lease: agentConnected
    /placement/<instance id>              empty                  put by whatever places on the
                                                                 instance, after comparing it
    /members/<cluster>                    empty                  put by whatever adds an instance to
                                                                 the cluster
    /tasks/<cluster>/<id>                 TaskRecord
    /assign/<instance id>/<task id>       AssignRecord           put in the same transaction as the
                                                                 task; what an agent's poll watches
    /manifests/<instance id>              number                 timeline of the last task manifest
    /runtokens/<cluster>/<client token>   RunTokenRecord         makes RunTask idempotent
    /meta/<name>                          text
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from msgspec import Struct, field

from agent.model.changes import NetworkInterface
from agent.model.resources import HostResources, Needs
from agent.model.task import NetworkBinding

if TYPE_CHECKING:
    from agent.controlplane.store.contract import KeyValue

RecordT = TypeVar("RecordT", bound=Struct)

CLUSTERS = "/clusters/"
FAMILIES = "/families/"
TASK_DEFINITIONS = "/taskdefs/"
INSTANCES = "/instances/"
REGISTRATIONS = "/registrations/"
MACHINES = "/machines/"
UNHEARD = "/unheard/"
ALIVE = "/alive/"
PLACEMENT = "/placement/"
MEMBERS = "/members/"
TASKS = "/tasks/"
ASSIGNMENTS = "/assign/"
MANIFESTS = "/manifests/"
RUN_TOKENS = "/runtokens/"
CONTROL_ID_KEY = "/meta/controlId"
"""Holds the id that names this store towards agents (``wire.Registered.control_id``)."""
HISTORY_KEY = "/meta/history"
"""Holds the id of the store's history: another one since the store was found to have gone back."""
HEALTH_KEY = "/meta/health"
"""Written to find out whether the store can be written again."""


class _Record(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """Base of all records: immutable, camelCase, defaults left out. Change with ``replace``."""


class ClusterRecord(_Record, frozen=True):
    """A cluster. ``status`` is ACTIVE or INACTIVE (deleted, kept so that a describe can say so)."""

    name: str
    arn: str
    status: str = "ACTIVE"
    created_at: float = 0.0
    settings: list[dict[str, str]] = field(default_factory=list)
    """As CreateCluster takes them; kept and shown, not acted upon."""
    configuration: dict[str, Any] = field(default_factory=dict)
    """That of execute command alone, which no task can ask for yet."""
    tags: dict[str, str] = field(default_factory=dict)
    capacity_providers: list[str] = field(default_factory=list)
    default_strategy: list[dict[str, Any]] = field(default_factory=list)
    """As CreateCluster takes it (``CapacityProviderStrategyItem``)."""


class FamilyRecord(_Record, frozen=True):
    """The revision counter of a family; revisions are never used again."""

    family: str
    last_revision: int = 0


class TaskDefinitionRecord(_Record, frozen=True):
    """One revision of a task definition."""

    arn: str
    family: str
    revision: int
    definition: dict[str, Any]
    """As DescribeTaskDefinition shows it: ``containerDefinitions``, ``volumes``, ``networkMode``,
    ``cpu``... with the service's defaults filled in; without arn, family, revision, status and
    times, which stand beside it."""
    status: str = "ACTIVE"
    """ACTIVE or INACTIVE."""
    registered_at: float = 0.0
    deregistered_at: float = 0.0
    registered_by: str = ""
    requires_attributes: list[str] = field(default_factory=list)
    """Names of the attributes that a container instance must have."""
    compatibilities: list[str] = field(default_factory=list)
    tags: dict[str, str] = field(default_factory=dict)


class AttributeRecord(_Record, frozen=True):
    """One attribute of a container instance."""

    value: str | None = None
    """None for an attribute that only exists, like a capability."""
    custom: bool = False
    """True when an operator put it: a registration of the agent then leaves it alone."""


class InstanceRecord(_Record, frozen=True):
    """A host that registered."""

    id: str
    arn: str
    cluster: str
    """Name of the cluster."""
    resources: HostResources
    client_token: str
    """Made by the agent once per state directory."""
    machine: str = ""
    """Digest of what its machine says of itself; empty where it says nothing."""
    generation: int = 1
    """Grows with every registration: a call with an older one comes from a stale twin."""
    history: str = ""
    """That of the store when the instance was made: it may hold tasks that a later one forgot."""
    recovering: bool = False
    """Whether its agent has still to say what it holds, since the store went back."""
    status: str = "ACTIVE"
    """ACTIVE, DRAINING or INACTIVE (deregistered, kept for a while so that a describe can say so)."""
    status_reason: str = ""
    attributes: dict[str, AttributeRecord] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    agent_version: str = ""
    agent_hash: str = ""
    ec2_instance_id: str = ""
    version: int = 1
    """Shown by DescribeContainerInstances; grows with every change that is seen there."""
    registered_at: float = 0.0
    deregistered_at: float = 0.0

    @property
    def attribute_values(self) -> dict[str, str | None]:
        """Attribute values by name, as placement and the query language read them."""
        return {name: attribute.value for name, attribute in self.attributes.items()}


class AliveRecord(_Record, frozen=True):
    """Says that an agent is connected, for as long as the lease of its key lasts."""

    generation: int
    since: float = 0.0


class ContainerRecord(_Record, frozen=True):
    """One container of a task, as DescribeTasks shows it."""

    name: str
    arn: str
    image: str = ""
    image_digest: str = ""
    runtime_id: str = ""
    last_status: str = "PENDING"
    """PENDING, RUNNING or STOPPED."""
    exit_code: int | None = None
    reason: str = ""
    health_status: str = "UNKNOWN"
    health_check: bool = False
    """True when the definition has a health check, so that UNKNOWN means "not known yet"."""
    essential: bool = True
    cpu: int = 0
    memory: int | None = None
    memory_reservation: int | None = None
    gpu_ids: list[str] = field(default_factory=list)
    network_bindings: list[NetworkBinding] = field(default_factory=list)
    network_interfaces: list[NetworkInterface] = field(default_factory=list)


class AttachmentRecord(_Record, frozen=True):
    """A network interface of a task, as DescribeTasks shows it."""

    id: str
    type: str = "ElasticNetworkInterface"
    status: str = "PRECREATED"
    details: dict[str, str] = field(default_factory=dict)


class RoleRecord(_Record, frozen=True):
    """A role of a task. Its credentials are never stored (``roles``), only what names them."""

    arn: str
    """As the definition or the run names it: an ARN, or a name."""
    credentials_id: str
    """By which containers ask for its credentials; the same for the task's whole life."""


class TaskRecord(_Record, frozen=True):
    """A task as control knows it."""

    id: str
    arn: str
    cluster: str
    """Name of the cluster."""
    task_definition_arn: str
    family: str
    revision: int
    instance_id: str = ""
    instance_arn: str = ""
    desired_status: str = "RUNNING"
    """RUNNING or STOPPED."""
    last_status: str = "PENDING"
    """PROVISIONING, PENDING, RUNNING, DEPROVISIONING, STOPPED..."""
    containers: list[ContainerRecord] = field(default_factory=list)
    attachments: list[AttachmentRecord] = field(default_factory=list)
    attributes: dict[str, str] = field(default_factory=dict)
    overrides: dict[str, Any] = field(default_factory=dict)
    """As RunTask took them (``TaskOverride``)."""
    roles: dict[str, RoleRecord] = field(default_factory=dict)
    """Those that control must get credentials for, by their ``payload.RoleType``."""
    kept_here: list[str] = field(default_factory=list)
    """Each ``valueFrom`` of its secrets whose value control itself keeps and gives to its agent."""
    network_configuration: dict[str, Any] = field(default_factory=dict)
    needs: Needs = field(default_factory=Needs)
    """What the task takes from its instance while its assignment exists."""
    cpu: str = ""
    memory: str = ""
    group: str = ""
    started_by: str = ""
    launch_type: str = "EC2"
    capacity_provider: str = ""
    platform_version: str = ""
    platform_family: str = ""
    availability_zone: str = ""
    connectivity: str = ""
    connectivity_at: float = 0.0
    health_status: str = "UNKNOWN"
    enable_execute_command: bool = False
    created_at: float = 0.0
    pull_started_at: float = 0.0
    pull_stopped_at: float = 0.0
    started_at: float = 0.0
    stopping_at: float = 0.0
    execution_stopped_at: float = 0.0
    stopped_at: float = 0.0
    settled_at: float = 0.0
    """When control made it STOPPED, by control's own clock; the other times are the agent's."""
    stop_code: str = ""
    stopped_reason: str = ""
    version: int = 1
    """Grows with every change that DescribeTasks shows."""
    tags: dict[str, str] = field(default_factory=dict)
    client_token: str = ""
    adopted: bool = False
    """Taken back from its agent after the store had forgotten it: nothing can be built from the
    definition, which may be forgotten too."""
    recent_changes: list[str] = field(default_factory=list)
    """Ids of the last reports applied, newest last: a repeated one changes nothing."""


class AssignRecord(_Record, frozen=True):
    """That a task is an instance's, and what is wanted of it. Deleted when the task is STOPPED."""

    task_arn: str
    cluster: str
    desired_status: str = "RUNNING"
    stop_code: str = ""
    stopped_reason: str = ""
    has_roles: bool = False
    """Whether the task has roles that control gets credentials for."""

    @classmethod
    def of(cls, task: TaskRecord) -> AssignRecord:
        """Return the assignment of a task as it is wanted now."""
        return cls(
            task_arn=task.arn,
            cluster=task.cluster,
            desired_status=task.desired_status,
            stop_code=task.stop_code,
            stopped_reason=task.stopped_reason,
            has_roles=bool(task.roles),
        )


class RunTokenRecord(_Record, frozen=True):
    """The tasks that a RunTask call with a client token made."""

    fingerprint: str
    """Hash of the request: the token with another request is an error."""
    task_arns: list[str]
    at: float = 0.0


def cluster_key(name: str) -> str:
    """Return the key of a cluster."""
    return f"{CLUSTERS}{name}"


def family_key(family: str) -> str:
    """Return the key of a family's revision counter."""
    return f"{FAMILIES}{family}"


def task_definitions_prefix(family: str) -> str:
    """Return the prefix of all revisions of a family, in revision order."""
    return f"{TASK_DEFINITIONS}{family}/"


def task_definition_key(family: str, revision: int) -> str:
    """Return the key of one revision, padded so that keys sort as numbers do."""
    return f"{TASK_DEFINITIONS}{family}/{revision:09d}"


def instances_prefix(cluster: str) -> str:
    """Return the prefix of the instances of a cluster."""
    return f"{INSTANCES}{cluster}/"


def instance_key(cluster: str, instance_id: str) -> str:
    """Return the key of an instance."""
    return f"{INSTANCES}{cluster}/{instance_id}"


def registration_key(client_token: str) -> str:
    """Return the key that names the instance of a client token, which may hold any character."""
    return f"{REGISTRATIONS}{_digest(client_token)}"


def machine_key(machine: str) -> str:
    """Return the key that names the instance of a machine, by its digest (``agents.machines``)."""
    return f"{MACHINES}{machine}"


def unheard_key(instance_id: str) -> str:
    """Return the key that exists until a host that registered without a token makes a call."""
    return f"{UNHEARD}{instance_id}"


def alive_key(instance_id: str) -> str:
    """Return the key that exists while the instance's agent is connected."""
    return f"{ALIVE}{instance_id}"


def placement_key(instance_id: str) -> str:
    """Return the key that guards the free space of an instance.

    Whoever places tasks reads it first, compares its ``mod_revision`` and puts it in the
    transaction that makes the tasks: two schedulers then never give away the same space.
    """
    return f"{PLACEMENT}{instance_id}"


def members_key(cluster: str) -> str:
    """Return the key that guards a cluster's being empty.

    Whoever deletes the cluster reads it first and compares it: an instance that was added in
    between makes the deletion start again. Those who add never wait for each other.
    """
    return f"{MEMBERS}{cluster}"


def tasks_prefix(cluster: str) -> str:
    """Return the prefix of the tasks of a cluster."""
    return f"{TASKS}{cluster}/"


def task_key(cluster: str, task_id: str) -> str:
    """Return the key of a task."""
    return f"{TASKS}{cluster}/{task_id}"


def assignments_prefix(instance_id: str) -> str:
    """Return the prefix that holds the tasks of an instance."""
    return f"{ASSIGNMENTS}{instance_id}/"


def assignment_key(instance_id: str, task_id: str) -> str:
    """Return the key that says that a task is an instance's."""
    return f"{ASSIGNMENTS}{instance_id}/{task_id}"


def manifest_key(instance_id: str) -> str:
    """Return the key that holds how far the timeline of an instance's task manifests has come."""
    return f"{MANIFESTS}{instance_id}"


def run_token_key(cluster: str, client_token: str) -> str:
    """Return the key of a RunTask call's client token, which may hold any character."""
    return f"{RUN_TOKENS}{cluster}/{_digest(client_token)}"


def last_element(key: str) -> str:
    """Return what follows the last slash: the id or name that a key ends with."""
    return key.rsplit("/", 1)[-1]


encode = msgspec.json.Encoder(order="deterministic").encode
"""Return a record as it is stored; equal records give equal bytes."""

_decoders: dict[type[Struct], msgspec.json.Decoder[Any]] = {}


def decode(kind: type[RecordT], kv: KeyValue) -> RecordT:
    """Return the record that a key holds.

    Raises:
        msgspec.DecodeError: the value is no such record (also ``msgspec.ValidationError``).
    """
    decoder = _decoders.get(kind)
    if decoder is None:
        decoder = _decoders[kind] = msgspec.json.Decoder(kind)
    record: RecordT = decoder.decode(kv.value)
    return record


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
