"""Messages between an agent and the control endpoint (long poll), version 1.

Apart from the model, this is the only thing that ``upstream`` (the client) and ``controlplane`` (the
server) share. JSON over HTTP/1.1 keep-alive. Every call carries the generation from its
registration in the ``X-Ecs-Generation`` header; a call with an older one is answered 409
(``StaleGeneration``).

====== ============================================== ==========================================
GET    ``/v1/hello``                                  ``?cluster=NAME`` → 200 ``Hello``
POST   ``/v1/instances``                              ``Register`` → 200 ``Registered``
GET    ``/v1/instances/{id}/assignments``             ``?after=REV&wait=S&credentials=N`` → 200
                                                      ``Assignments``, 204 nothing new, 410 ask again
                                                      from 0; S is in seconds and may be a fraction
POST   ``/v1/instances/{id}/changes``                 ``Changes`` → 200 ``ChangesAnswer``
POST   ``/v1/instances/{id}/usage``                   ``usage.Usage`` → 204; bounded, every 20 s, and
                                                      never sent again
POST   ``/v1/instances/{id}/held``                    ``Held`` → 200 ``ChangesAnswer``
POST   ``/v1/instances/{id}/brought``                 ``Held`` → 200 ``ChangesAnswer``
POST   ``/v1/instances/{id}/status``                  ``InstanceStatus`` → 204
POST   ``/v1/instances/{id}/protection``              see ``protection``
GET    ``/v1/instances/{id}/commands/{session}``      a WebSocket with the messages of ``exec``, after a
                                                      ``CommandOrder``: control is its client
POST   ``/v1/identities``                             ``AskedIdentity`` → 200 ``HostIdentity``
GET    ``/v1/authority``                              ``?at=S`` → 200 ``AuthorityAnswer``; needs no token
DELETE ``/v1/instances/{id}``                         leave → 204
====== ============================================== ==========================================

``{id}`` is the last element of the instance ARN. Errors are ``{"code": ..., "message": ...}``:
400 ``InvalidRequest``, 401 ``Unauthorized``, 404 ``InstanceUnknown``, 409 ``StaleGeneration``,
410 ``RevisionCompacted``, 429 (``TooManyHosts``) and 5xx: try again. Bodies above 1 KiB may be gzipped, both ways.

If control requires tokens, every call carries one as ``Authorization: Bearer TOKEN``.

Every call of an agent, its registration included, has the **host key** in the ``X-Ecs-Host-Key`` header: a secret that the
agent makes once per state directory and that nobody else has. The registration binds the instance to it, and then
control answers calls about the instance only if they have this key, else 404 ``InstanceUnknown``: the agent registers again,
and proves that it is the same host by its machine or its client token. Agents of before this had no key; their
instances are bound by the first call that has one.

A process that says its ``process_id`` when it registers gets a ``session``, and sends it as ``X-Ecs-Session`` with each later
call. It is in memory alone, so that a copy of the host's files has to register; that is refused with 409
(``StaleGeneration``) while the process that registered before is there.

The store of control can go back in time: someone restores an older copy of it. Its orders are then
outdated, and no task may be stopped because of them. Therefore a store has a **history**, which
gets a new id when control finds that the store went back. The agent remembers the last history and
revision that it saw:

- It does not obey an answer of another history or of an older revision. It registers again and
  reports what it saw. Every agent that starts does the same.
- If control finds that it went back (``Registered.went_back``), the agent reports the tasks it
  holds (``held``). Control adopts those that it forgot, and learns the state of the others.
- Then the agent asks from revision 0 and obeys the answers again.

A host that is registered as a new instance may run tasks from before. No full set stops them. The agent
says what it **brought**, after each registration, as long as there is any, and before it asks for
orders; a container of which it has no record has an empty payload. Control answers each task: ``ok``, it
is this instance's from now on; ``rejected``, nobody wants it, and the agent stops it; ``elsewhere``, it is
left as it is.
"""

from __future__ import annotations

import msgspec
from msgspec import Struct, field

from agent.model.changes import TaskChange
from agent.model.fleet import FleetHost, FleetUpdate
from agent.model.names import NameUpdates
from agent.model.payload import Credentials
from agent.model.resources import HostResources
from agent.model.security_groups import GroupUpdates

GENERATION_HEADER = "X-Ecs-Generation"
HOST_KEY_HEADER = "X-Ecs-Host-Key"
SESSION_HEADER = "X-Ecs-Session"
CONTROL_NAME = "control.ecs-host-agent.internal"
"""Name in each certificate that control's authority signs for control itself, wherever control is reached."""


class _Wire(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    pass


class Hello(_Wire, frozen=True):
    """Identifies control. The ``Date`` header of the answer is its clock."""

    control_id: str
    """Id of the control endpoint's store."""
    version: str
    region: str = ""
    clusters: list[str] = field(default_factory=list)
    """Names of the existing clusters, in order; at most 100."""
    takes_cluster: bool | None = None
    """Whether a host may register into the requested cluster; None if none was requested."""


class Register(_Wire, frozen=True):
    """Identifies the host and lists what it offers."""

    cluster: str
    client_token: str
    """Created once per state directory; two calls with the same token are one registration."""
    resources: HostResources
    machine_id: str = ""
    """Says which machine this is, also after everything in the state directory was lost."""
    machine_key: str = ""
    """Secret of that machine: the same id and key are the same instance."""
    process_id: str = ""
    """Made anew by each process of the agent, and nowhere stored; asks for a session."""
    instance_arn: str = ""
    """ARN of an earlier registration; registers the same instance again."""
    attributes: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    agent_version: str = ""
    agent_hash: str = ""
    ec2_instance_id: str = ""
    """Set if the host is an EC2 instance and its metadata says so."""
    known_tasks: list[str] = field(default_factory=list)
    """ARNs of the tasks that this agent holds, including stopped and unreported ones."""
    fleet: FleetHost | None = None
    """What the host says of itself for the network between hosts; None if it takes no part."""
    seen_control_id: str = ""
    """The control that the next two fields refer to; empty if there was none."""
    seen_history: str = ""
    seen_revision: int = 0
    """The newest revision whose orders this agent accepted."""
    seen_generation: int = 0
    """That of the newest registration as ``instance_arn``."""


class Registered(_Wire, frozen=True):
    """Answer to ``Register``."""

    instance_arn: str
    generation: int
    lease_s: float
    """An instance that makes no call for this long counts as disconnected."""
    control_id: str
    """Id of the control endpoint's store; another id means another control, not a newer answer."""
    session: str = ""
    """Secret of this registration; empty if control gives none."""
    cluster_arn: str = ""
    history: str = ""
    """History of control's store; empty if control does not support histories."""
    went_back: bool = False
    """The store is older than what this agent saw: report held tasks before asking for orders."""


class AskedIdentity(_Wire, frozen=True):
    """A certificate request of a host, for a new identity or for the one that it calls with."""

    request: str
    """PKCS #10 as PEM, without names."""
    hostname: str = ""


class HostIdentity(_Wire, frozen=True):
    """An identity of a host: its certificate, and whom to trust."""

    id: str
    certificate: str
    """PEM."""
    expires_at: float
    renew_at: float
    """Unix times."""
    authority: str = ""
    """Certificates of control's authorities, PEM."""
    control_name: str = ""
    """The name in control's own certificate; empty if an operator gave that, with the names of its machine."""


class AuthorityAnswer(_Wire, frozen=True):
    """Who signs the certificates of hosts."""

    certificate: str
    """PEM."""
    control_name: str = ""
    """As in ``HostIdentity``."""


class Assignment(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """What control wants for one task."""

    task_arn: str
    desired_status: str
    """RUNNING or STOPPED."""
    payload: msgspec.Raw = field(default_factory=lambda: msgspec.Raw(b"{}"))
    """A ``payload.TaskPayload``; decoded separately, so that a bad one affects no other task."""
    stop_code: str = ""
    stopped_reason: str = ""


class TaskCredentials(_Wire, frozen=True):
    """Fresh credentials for one role of a task; never written anywhere."""

    task_arn: str
    role_type: str
    """A ``payload.RoleType``."""
    credentials: Credentials


class CommandOrder(_Wire, frozen=True):
    """Somebody wants to run a command in a container of a task: connect for it. It may come repeatedly."""

    session_id: str
    task_arn: str


class Assignments(_Wire, frozen=True):
    """Everything that changed after the given revision; with ``full``, everything."""

    revision: int
    full: bool = False
    """True in an answer to ``after=0``: a task that is not listed is not wanted."""
    instance_status: str = "ACTIVE"
    """ACTIVE or DRAINING."""
    tasks: list[Assignment] = field(default_factory=list)
    history: str = ""
    """History of control's store; the revision belongs to it."""
    credentials: list[TaskCredentials] = field(default_factory=list)
    """What was issued to tasks of this instance after the serial that was asked with."""
    security_groups: GroupUpdates | None = None
    """What changed after the given revision in the groups that this host's tasks need."""
    fleet: FleetUpdate | None = None
    """What changed after the given revision in the network between hosts."""
    names: NameUpdates | None = None
    """What changed after the given revision in the names of tasks."""
    credentials_serial: int = 0
    """With which to ask next: of one run of control, like the revision. An agent that asks with none is
    sent credentials in payloads alone."""
    commands: list[CommandOrder] = field(default_factory=list)
    """Sessions that control expects this agent to connect for."""


class InstanceStatus(_Wire, frozen=True):
    """The status that an operator at the host wants for its instance."""

    status: str
    """ACTIVE, or DRAINING: nothing is placed on it."""


class HeldTask(_Wire, frozen=True):
    """One task that an agent holds, for a control that may have forgotten it."""

    payload: msgspec.Raw
    """The ``payload.TaskPayload`` that the agent received."""
    change: TaskChange
    """The current state of the task, as a report."""


class Held(_Wire, frozen=True):
    """A part of what an agent holds, in any order."""

    tasks: list[HeldTask]
    last: bool = False
    """True in the last part."""


class Changes(_Wire, frozen=True):
    """A batch of reports, oldest first."""

    changes: list[TaskChange]


class ChangeAnswer(_Wire, frozen=True):
    """The result of one reported change."""

    id: str
    status: str
    """``ok`` (also for a repeated id) or ``rejected`` (do not send it again)."""
    message: str = ""


ELSEWHERE = "elsewhere"
"""Answer to a task that was brought: it is another instance's, or may be; leave it as it is."""


class ChangesAnswer(_Wire, frozen=True):
    """One answer per change, in the same order."""

    results: list[ChangeAnswer]


class ErrorBody(_Wire, frozen=True):
    """Body of every error answer."""

    code: str
    message: str = ""
