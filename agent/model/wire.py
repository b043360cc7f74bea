"""Messages between an agent and the control endpoint (long poll), version 1.

The only thing that ``control`` (the client) and ``controlplane`` (the server) share besides the
model. JSON over HTTP/1.1 keep-alive. Every call carries the generation that registration gave, in
the ``X-Ecs-Generation`` header; a call with an older one is answered 409 (``StaleGeneration``).

====== ============================================== ==========================================
GET    ``/v1/hello``                                  ``?cluster=NAME`` → 200 ``Hello``
POST   ``/v1/instances``                              ``Register`` → 200 ``Registered``
GET    ``/v1/instances/{id}/assignments``             ``?after=REV&wait=S`` → 200 ``Assignments``,
                                                      204 nothing new, 410 ask again from 0;
                                                      S seconds, also a fraction
POST   ``/v1/instances/{id}/changes``                 ``Changes`` → 200 ``ChangesAnswer``
POST   ``/v1/instances/{id}/metrics``                 ``metrics.MetricsBatch`` → 204
POST   ``/v1/instances/{id}/held``                    ``Held`` → 200 ``ChangesAnswer``
DELETE ``/v1/instances/{id}``                         leave → 204
====== ============================================== ==========================================

``{id}`` is the last element of the instance ARN. Errors are ``{"code": ..., "message": ...}``:
400 ``InvalidRequest``, 401 ``Unauthorized``, 404 ``InstanceUnknown``, 409 ``StaleGeneration``,
410 ``RevisionCompacted``, 429 and 5xx: try again. Bodies above 1 KiB may be gzip in both directions.

Where control asks for tokens, every call carries one as ``Authorization: Bearer TOKEN``.

A store of control can go back: an older copy is put in its place. What it then wants is not what it
wanted last, and nobody may be stopped by it. Therefore a store has a **history**, which gets a new id
when it is found to have gone back, and the agent keeps the history and the revision that it saw last:

- An answer of another history, or of an older revision, is not obeyed. The agent registers again and
  says what it saw. So does every agent that starts.
- Where control finds that it went back (``Registered.went_back``), the agent says what it holds
  (``held``). Control takes back the tasks that it forgot, and what became of the others.
- After that the agent asks from revision 0, and what it is told counts again.
"""

from __future__ import annotations

import msgspec
from msgspec import Struct, field

from agent.model.changes import TaskChange
from agent.model.resources import HostResources

GENERATION_HEADER = "X-Ecs-Generation"


class _Wire(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    pass


class Hello(_Wire, frozen=True):
    """Who control is. The ``Date`` header of the answer is its clock."""

    control_id: str
    """Names the control endpoint's store."""
    version: str
    region: str = ""
    clusters: list[str] = field(default_factory=list)
    """Names of the clusters that exist, in order; at most 100."""
    takes_cluster: bool | None = None
    """Whether a host may register into the cluster that was asked after; None when none was."""


class Register(_Wire, frozen=True):
    """Who the host is and what it offers."""

    cluster: str
    client_token: str
    """Made once per state directory; two calls with one token are one registration."""
    resources: HostResources
    instance_arn: str = ""
    """The ARN of an earlier registration: register the same instance again."""
    attributes: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    agent_version: str = ""
    agent_hash: str = ""
    ec2_instance_id: str = ""
    """Where the host is an EC2 instance that said so."""
    known_tasks: list[str] = field(default_factory=list)
    """ARNs of the tasks that this agent holds, stopped and unreported ones included."""
    seen_control_id: str = ""
    """The control whose answers the next two are of; empty when there was none."""
    seen_history: str = ""
    seen_revision: int = 0
    """The newest revision whose orders this agent took."""


class Registered(_Wire, frozen=True):
    """Answer to ``Register``."""

    instance_arn: str
    generation: int
    lease_s: float
    """Without a call for this long the instance counts as disconnected."""
    control_id: str
    """Names the control endpoint's store: another id means another control, not a newer answer."""
    cluster_arn: str = ""
    history: str = ""
    """Of control's store; empty from a control that does not know histories."""
    went_back: bool = False
    """The store is older than what this agent saw: say what is held before asking for orders."""


class Assignment(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """What control wants of one task."""

    task_arn: str
    desired_status: str
    """RUNNING or STOPPED."""
    payload: msgspec.Raw = field(default_factory=lambda: msgspec.Raw(b"{}"))
    """A ``payload.TaskPayload``; decoded by itself, so that a broken one harms no other task."""
    stop_code: str = ""
    stopped_reason: str = ""


class Assignments(_Wire, frozen=True):
    """Everything that changed after the asked revision; with ``full``, everything there is."""

    revision: int
    full: bool = False
    """True in answer to ``after=0``: a task that is not listed is not wanted."""
    instance_status: str = "ACTIVE"
    """ACTIVE or DRAINING."""
    tasks: list[Assignment] = field(default_factory=list)
    history: str = ""
    """Of control's store; the revision counts within it."""


class HeldTask(_Wire, frozen=True):
    """One task that an agent holds, for a control that may have forgotten it."""

    payload: msgspec.Raw
    """The ``payload.TaskPayload`` that the agent was given."""
    change: TaskChange
    """Where the task stands now, as a report."""


class Held(_Wire, frozen=True):
    """A part of what an agent holds, in any order."""

    tasks: list[HeldTask]
    last: bool = False
    """True in the part behind which nothing comes."""


class Changes(_Wire, frozen=True):
    """A batch of reports, oldest first."""

    changes: list[TaskChange]


class ChangeAnswer(_Wire, frozen=True):
    """What became of one reported change."""

    id: str
    status: str
    """``ok`` (also for a repeated id) or ``rejected`` (never send it again)."""
    message: str = ""


class ChangesAnswer(_Wire, frozen=True):
    """One answer per change, in the same order."""

    results: list[ChangeAnswer]


class ErrorBody(_Wire, frozen=True):
    """Body of every answer that is not a success."""

    code: str
    message: str = ""
