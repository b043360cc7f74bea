"""What the control endpoint stores: one struct per kind of key, and the keys themselves.

Values are JSON; unknown fields are ignored and missing fields have defaults, so that a newer program
can read an older store. Times are Unix seconds, 0 for "not yet". Nothing here does I/O.

::

    /clusters/<name>                      ClusterRecord
    /families/<family>                    FamilyRecord           revision counter
    /taskdefs/<family>/<revision padded>  TaskDefinitionRecord
    /instances/<cluster>/<id>             InstanceRecord
    /registrations/<client token>         instance ARN           makes registration idempotent
    /unheard/<instance id>                key of the instance    of a host that registered without a
                                                                 token and has made no call since
    /alive/<instance id>                  AliveRecord            under a lease: agentConnected
    /placement/<instance id>              empty                  put by everyone who places on the
                                                                 instance, after comparing it
    /members/<cluster>                    empty                  put by everyone who adds an instance
                                                                 to the cluster
    /tasks/<cluster>/<id>                 TaskRecord
    /assign/<instance id>/<task id>       AssignRecord           put in the same transaction as the
                                                                 task; what an agent's poll watches
    /manifests/<instance id>              number                 timeline of the last task manifest
    /services/<cluster>/<name>            ServiceRecord          (``services.record``)
    /service-events/<cluster>/<name>      EventsRecord           only put together with the service
    /service-rollouts/<cluster>/<name>    RolloutsRecord         the same
    /deleting/<family>/<revision padded>  empty                  put and deleted with the definition,
                                                                 while it is DELETE_IN_PROGRESS
    /account-settings/<name>              AccountSettingRecord
    /capacity-providers/<name>            CapacityProviderRecord (``tasks.providers``)
    /host-scaling/<cluster>/<provider>    ScalingRecord          (``host_scaling.record``)
    /runtokens/<cluster>/<client token>   RunTokenRecord         makes RunTask idempotent
    /fleet-members/, -ranges/, -keys/...  see ``fleet_network.members``
    /scaling/..., /scaling-activities/...  see ``scaling.target``
    /schedules/..., /schedule-rules/..., -groups/..., -deletions/...  see ``schedules.record``
    /discovery/...                        see ``discovery.record``
    /alarms/<name>                        AlarmRecord            (``scaling.alarm``)
    /security-groups/...                  see ``security_groups.group_records``
    /load-balancers/, /listeners/, /target-groups/, /targets/...  see ``loadbalancing.balancer_records``
    /parameters/..., /secrets/...         see ``secrets.secret_records``
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
DELETING = "/deleting/"
ACCOUNT_SETTINGS = "/account-settings/"
INSTANCES = "/instances/"
REGISTRATIONS = "/registrations/"
MACHINES = "/machines/"
TOKEN_NAMES = "/token-names/"  # noqa: S105 - no token
HOST_IDENTITIES = "/host-identities/"
UNHEARD = "/unheard/"
ALIVE = "/alive/"
PLACEMENT = "/placement/"
MEMBERS = "/members/"
TASKS = "/tasks/"
ASSIGNMENTS = "/assign/"
MANIFESTS = "/manifests/"
RUN_TOKENS = "/runtokens/"
SERVICES = "/services/"
SERVICE_EVENTS = "/service-events/"
SERVICE_ROLLOUTS = "/service-rollouts/"
CONTROL_ID_KEY = "/meta/controlId"
"""The id that identifies this store to agents (``wire.Registered.control_id``)."""
HISTORY_KEY = "/meta/history"
"""The id of the store's history; it changes when the store is found to be an older copy."""
HEALTH_KEY = "/meta/health"
"""Written to find out whether the store is writable again."""


class Record(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """Base of all records: immutable, camelCase, without defaults. Change with ``replace``."""


class ClusterRecord(Record, frozen=True):
    """A cluster. ``status`` is ACTIVE or INACTIVE (deleted, but still returned by describe)."""

    name: str
    arn: str
    status: str = "ACTIVE"
    created_at: float = 0.0
    settings: list[dict[str, str]] = field(default_factory=list)
    """As given to CreateCluster; stored and shown, but without effect."""
    configuration: dict[str, Any] = field(default_factory=dict)
    """Only the configuration of execute command, which tasks cannot use yet."""
    tags: dict[str, str] = field(default_factory=dict)
    capacity_providers: list[str] = field(default_factory=list)
    default_strategy: list[dict[str, Any]] = field(default_factory=list)
    """As CreateCluster takes it (``CapacityProviderStrategyItem``)."""
    connect_namespace: str = ""
    """ARN of the namespace of services with Service Connect that name none; empty if there is none."""


class FamilyRecord(Record, frozen=True):
    """The revision counter of a family; revisions are never reused."""

    family: str
    last_revision: int = 0


class TaskDefinitionRecord(Record, frozen=True):
    """One revision of a task definition."""

    arn: str
    family: str
    revision: int
    definition: dict[str, Any]
    """As DescribeTaskDefinition shows it: ``containerDefinitions``, ``volumes``, ``networkMode``,
    ``cpu``... with the defaults of the service; without ARN, family, revision, status and times,
    which are separate fields."""
    status: str = "ACTIVE"
    """ACTIVE, INACTIVE or DELETE_IN_PROGRESS."""
    registered_at: float = 0.0
    deregistered_at: float = 0.0
    delete_requested_at: float = 0.0
    registered_by: str = ""
    requires_attributes: list[str] = field(default_factory=list)
    """Names of the attributes that a container instance must have."""
    compatibilities: list[str] = field(default_factory=list)
    tags: dict[str, str] = field(default_factory=dict)


class AccountSettingRecord(Record, frozen=True):
    """An account setting that was set."""

    value: str


class AttributeRecord(Record, frozen=True):
    """One attribute of a container instance."""

    value: str | None = None
    """None for an attribute without a value, such as a capability."""
    custom: bool = False
    """True if an operator set it: registrations of the agent then do not change it."""


class InstanceRecord(Record, frozen=True):
    """A host that has registered."""

    id: str
    arn: str
    cluster: str
    """Name of the cluster."""
    resources: HostResources
    client_token: str
    """Created by the agent once per state directory."""
    machine: str = ""
    """Digest of the identifiers of its machine; empty if it reports none."""
    bound_to: str = ""
    """Who may speak for it (``agents.bindings``); empty if nobody is known to."""
    session: str = ""
    """Digest of the secret of its newest registration; empty if its agent got none."""
    generation: int = 1
    """Grows with every registration: a call with an older one comes from another, outdated agent."""
    history: str = ""
    """History of the store when the instance was created: it may have tasks that the store lost."""
    recovering: bool = False
    """Whether its agent still has to report its tasks after the store became older."""
    status: str = "ACTIVE"
    """ACTIVE, DRAINING or INACTIVE (deregistered, but returned by describe for a while)."""
    status_reason: str = ""
    attributes: dict[str, AttributeRecord] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    agent_version: str = ""
    agent_hash: str = ""
    ec2_instance_id: str = ""
    version: int = 1
    """Shown by DescribeContainerInstances; grows with every change that it shows."""
    registered_at: float = 0.0
    deregistered_at: float = 0.0

    @property
    def shown_ec2_id(self) -> str:
        """Its id for tools that ask EC2 about hosts, see ``ec2_id``."""
        return ec2_id(self.id, self.ec2_instance_id)

    @property
    def attribute_values(self) -> dict[str, str | None]:
        """Attribute values by name, for placement and the query language."""
        return {name: attribute.value for name, attribute in self.attributes.items()}


def ec2_id(instance_id: str, ec2_instance_id: str) -> str:
    """Return a host's id in EC2: that of the instance that it is, or else one that follows from its id here."""
    return ec2_instance_id or f"i-{instance_id[:17]}"


class HostIdentityRecord(Record, frozen=True):
    """The identity of a host, for which control's authority signs certificates."""

    id: str
    """Chosen by control; the same in all its certificates."""
    instance_arn: str = ""
    """Of the container instance that registered with it last; empty if none has."""
    hostname: str = ""
    """What the host said of itself."""
    peer: str = ""
    """Where the newest certificate was asked for."""
    serial: str = ""
    """Of the newest certificate, in hexadecimal."""
    serial_before: str = ""
    """Of the one that it replaced: the host may not have got the newest one."""
    issued_at: float = 0.0
    renewed_at: float = 0.0
    """0 if it never was."""
    expires_at: float = 0.0
    revoked_at: float = 0.0
    """0 if it is not."""
    revoked_because: str = ""


class AliveRecord(Record, frozen=True):
    """Marks an agent as connected, for as long as the lease of its key lasts."""

    generation: int
    since: float = 0.0


class ContainerRecord(Record, frozen=True):
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
    """Whether the definition has a health check, so that UNKNOWN means "not known yet"."""
    essential: bool = True
    cpu: int = 0
    memory: int | None = None
    memory_reservation: int | None = None
    gpu_ids: list[str] = field(default_factory=list)
    network_bindings: list[NetworkBinding] = field(default_factory=list)
    network_interfaces: list[NetworkInterface] = field(default_factory=list)


class AttachmentRecord(Record, frozen=True):
    """A network interface of a task, as DescribeTasks shows it."""

    id: str
    type: str = "ElasticNetworkInterface"
    status: str = "PRECREATED"
    details: dict[str, str] = field(default_factory=dict)


class RoleRecord(Record, frozen=True):
    """A role of a task. Its credentials are never stored (``roles``), only what names them."""

    arn: str
    """As the definition or the run names it: an ARN, or a name."""
    credentials_id: str
    """By which containers ask for its credentials; the same for the task's whole life."""


class ConnectedPort(Record, frozen=True):
    """A registry that a task is in by Service Connect, and the port that it is registered with."""

    registry_id: str
    port: int
    """Of the container."""
    alias_port: int = 0
    """That clients use; 0 if it is the same."""


class WaitingRecord(Record, frozen=True):
    """What a task that waits for a host needs of it (``tasks.waiting``)."""

    cpu_units: int = 0
    memory_mib: int = 0
    tcp_ports: frozenset[int] = frozenset()
    udp_ports: frozenset[int] = frozenset()
    gpus: dict[str, int] = field(default_factory=dict)
    """Container name to the number of GPUs that it needs for itself."""
    all_gpus: str = ""
    """The container that needs every GPU of its host."""
    gpu_shares: dict[str, int] = field(default_factory=dict)
    """Container name to the MiB of one GPU that it shares."""
    attributes: dict[str, str] = field(default_factory=dict)
    """Attributes that the host must have; an empty value only requires the name."""
    constraints: list[dict[str, Any]] = field(default_factory=list)
    """Placement constraints as RunTask takes them, like the next."""
    strategies: list[dict[str, Any]] = field(default_factory=list)


class TaskRecord(Record, frozen=True):
    """A task, as known to control."""

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
    """As given to RunTask (``TaskOverride``)."""
    roles: dict[str, RoleRecord] = field(default_factory=dict)
    """The roles that control gets credentials for, by their ``payload.RoleType``."""
    kept_here: list[str] = field(default_factory=list)
    """Each ``valueFrom`` of its secrets whose value control itself keeps and gives to its agent."""
    network_configuration: dict[str, Any] = field(default_factory=dict)
    needs: Needs = field(default_factory=Needs)
    """Resources that the task uses on its instance while its assignment exists."""
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
    ran_at: float = 0.0
    """When control first saw it RUNNING, by control's own clock."""
    stopping_at: float = 0.0
    execution_stopped_at: float = 0.0
    stopped_at: float = 0.0
    settled_at: float = 0.0
    """When control set it to STOPPED, by control's own clock; the other times come from the agent."""
    stop_code: str = ""
    stopped_reason: str = ""
    drains_until: float = 0.0
    """Until when it may finish its requests before its agent is told to stop it, though its desired status is
    STOPPED already; 0 if it does not (``services.balancing``)."""
    protected_until: float = 0.0
    """Until when its service may not stop it (``tasks.protection``); 0 if it never was protected."""
    waiting: WaitingRecord | None = None
    """Of a task that waits for a host: it has no instance, and its status is PROVISIONING."""
    version: int = 1
    """Grows with every change that DescribeTasks shows."""
    tags: dict[str, str] = field(default_factory=dict)
    client_token: str = ""
    adopted: bool = False
    """Reported by its agent after the store had lost it: its payload cannot be built, because the
    definition may be lost too."""
    registry_id: str = ""
    """The registry of its service (``discovery``); empty if there is none."""
    registry_port: int = 0
    """The port that it is registered with; 0 for none."""
    connect_namespace: str = ""
    """Id of the namespace whose names of Service Connect it finds; empty without Service Connect."""
    connected_ports: list[ConnectedPort] = field(default_factory=list)
    """What others find of it by Service Connect."""
    counted: bool = False
    """Whether its service has taken note of its end (``services.failures``)."""
    recent_changes: list[str] = field(default_factory=list)
    """Ids of the last applied reports, newest last: a repeated report changes nothing."""


class AssignRecord(Record, frozen=True):
    """Assigns a task to an instance, with its desired status. Deleted when the task is STOPPED."""

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
            desired_status="RUNNING" if task.drains_until else task.desired_status,
            stop_code=task.stop_code,
            stopped_reason=task.stopped_reason,
            has_roles=bool(task.roles),
        )


class RunTokenRecord(Record, frozen=True):
    """The tasks that a RunTask call with a client token created."""

    fingerprint: str
    """Hash of the request: using the token for another request is an error."""
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
    """Return the key of one revision, padded so that keys sort like numbers."""
    return f"{TASK_DEFINITIONS}{family}/{revision:09d}"


def deleting_key(family: str, revision: int) -> str:
    """Return the key that marks a revision to be deleted."""
    return f"{DELETING}{family}/{revision:09d}"


def account_setting_key(name: str) -> str:
    """Return the key of an account setting."""
    return f"{ACCOUNT_SETTINGS}{name}"


def instances_prefix(cluster: str) -> str:
    """Return the prefix of the instances of a cluster."""
    return f"{INSTANCES}{cluster}/"


def instance_key(cluster: str, instance_id: str) -> str:
    """Return the key of an instance."""
    return f"{INSTANCES}{cluster}/{instance_id}"


def key_of_instance(arn: str) -> str:
    """Return the key of an instance by its ARN; that of no instance if the ARN is empty.

    The host of a task may be of another cluster than the task (``scheduler.fleet.LENT``).
    """
    return f"{INSTANCES}{'/'.join(arn.split('/')[-2:])}"


def registration_key(client_token: str) -> str:
    """Return the key that stores the instance of a client token; the token may be any text."""
    return f"{REGISTRATIONS}{_digest(client_token)}"


def machine_key(machine: str) -> str:
    """Return the key that stores the instance of a machine, by its digest (``agents.machines``)."""
    return f"{MACHINES}{machine}"


def token_name_key(name: str) -> str:
    """Return the key that stores the instance whose host alone has the token with this name."""
    return f"{TOKEN_NAMES}{name}"


def host_identity_key(host_id: str) -> str:
    """Return the key of an identity of a host."""
    return f"{HOST_IDENTITIES}{host_id}"


def unheard_key(instance_id: str) -> str:
    """Return the key that exists until a host that registered without a token makes a call."""
    return f"{UNHEARD}{instance_id}"


def alive_key(instance_id: str) -> str:
    """Return the key that exists while the instance's agent is connected."""
    return f"{ALIVE}{instance_id}"


def placement_key(instance_id: str) -> str:
    """Return the key that guards the free space of an instance.

    Everyone who places tasks reads it first, compares its ``mod_revision`` and puts it in the
    transaction that creates the tasks, so that two schedulers never use the same space.
    """
    return f"{PLACEMENT}{instance_id}"


def members_key(cluster: str) -> str:
    """Return the key that guards that a cluster is empty.

    A deletion of the cluster reads it first and compares it: if an instance was added in between, the
    deletion starts again. Additions do not conflict with each other.
    """
    return f"{MEMBERS}{cluster}"


def tasks_prefix(cluster: str) -> str:
    """Return the prefix of the tasks of a cluster."""
    return f"{TASKS}{cluster}/"


def task_key(cluster: str, task_id: str) -> str:
    """Return the key of a task."""
    return f"{TASKS}{cluster}/{task_id}"


def assignments_prefix(instance_id: str) -> str:
    """Return the prefix of the tasks of an instance."""
    return f"{ASSIGNMENTS}{instance_id}/"


def assignment_key(instance_id: str, task_id: str) -> str:
    """Return the key that assigns a task to an instance."""
    return f"{ASSIGNMENTS}{instance_id}/{task_id}"


def manifest_key(instance_id: str) -> str:
    """Return the key of the latest timeline number of an instance's task manifests."""
    return f"{MANIFESTS}{instance_id}"


def run_token_key(cluster: str, client_token: str) -> str:
    """Return the key of a RunTask call's client token; the token may be any text."""
    return f"{RUN_TOKENS}{cluster}/{_digest(client_token)}"


def service_key(cluster: str, name: str) -> str:
    """Return the key of a service."""
    return f"{SERVICES}{cluster}/{name}"


def service_events_key(cluster: str, name: str) -> str:
    """Return the key of a service's events."""
    return f"{SERVICE_EVENTS}{cluster}/{name}"


def service_rollouts_key(cluster: str, name: str) -> str:
    """Return the key of a service's service deployments."""
    return f"{SERVICE_ROLLOUTS}{cluster}/{name}"


def last_element(key: str) -> str:
    """Return what follows the last slash: the id or name at the end of a key."""
    return key.rsplit("/", 1)[-1]


encode = msgspec.json.Encoder(order="deterministic").encode
"""Return a record in its stored form; equal records give equal bytes."""

_decoders: dict[type[Struct], msgspec.json.Decoder[Any]] = {}


def decode(kind: type[RecordT], kv: KeyValue) -> RecordT:
    """Return the record that is stored at a key.

    Raises:
        msgspec.DecodeError: the value is not such a record (also ``msgspec.ValidationError``).
    """
    decoder = _decoders.get(kind)
    if decoder is None:
        decoder = _decoders[kind] = msgspec.json.Decoder(kind)
    record: RecordT = decoder.decode(kv.value)
    return record


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
