"""What all handlers of the ECS API share, and the type of a handler."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from agent.controlplane.authorization.open_calls import OpenCalls
from agent.controlplane.execute_command.sessions import CommandSessions
from agent.controlplane.front.errors import UnsupportedFeatureException
from agent.controlplane.log_store.contract import LogStoreDown, LogStoreOff
from agent.controlplane.monitoring.figures import Figures
from agent.controlplane.names import DEFAULT_REGION, Names
from agent.controlplane.roles.contract import NoRoles
from agent.controlplane.scheduler.fleet import Fleet
from agent.controlplane.secrets.sealing import SecretsFailure
from agent.controlplane.services.view import ServiceView

if TYPE_CHECKING:
    from agent.controlplane.audit.trail import Trail
    from agent.controlplane.host_scaling.hooks import HostHooks
    from agent.controlplane.iam.directory import Directory
    from agent.controlplane.log_forward.forwarder import Forwarder
    from agent.controlplane.log_store.store import LogStore
    from agent.controlplane.metric_store.store import MetricStore
    from agent.controlplane.pki.certificates import Certificates
    from agent.controlplane.roles.contract import RoleSource
    from agent.controlplane.secrets.keeper import SecretKeeper
    from agent.controlplane.store.contract import Store


class StorePlace(NamedTuple):
    """Where the store is, for those who watch it."""

    where: str = ""
    """A file, or the endpoints of an etcd."""
    size_bytes: Callable[[], int] = int
    """Returns its size on disk, 0 if that is not known; may block for a moment."""


@dataclass(frozen=True, slots=True)
class Parts:
    """Everything that handlers share; built once when the control endpoint starts."""

    store: Store
    names: Names = field(default_factory=Names)
    zone: str = f"{DEFAULT_REGION}a"
    """Availability zone of hosts that do not set one."""
    clock: Callable[[], float] = time.time
    """Unix seconds."""
    secrets: SecretKeeper | None = None
    """None where control keeps no secrets."""
    directory: Directory | None = None
    """Knows users and roles; None where there are none."""
    is_open: bool = False
    """Whether everyone may make all calls (``--open``)."""
    roles: RoleSource = field(default_factory=NoRoles, repr=False)
    """Has the credentials of tasks' roles."""
    task_variables: Mapping[str, str] = field(default_factory=dict)
    """For containers of tasks with a role that is kept here: where their SDKs find this control endpoint."""
    keeps_logs: bool = True
    """Whether logs of the driver ``awslogs`` are kept here; otherwise CloudWatch Logs has them."""
    log_store: LogStore | None = None
    """None where control keeps no logs."""
    forwarders: Sequence[Forwarder] = ()
    """Of its events."""
    no_logs_reason: str = "logs are off on this control"
    """Why there is no ``log_store``."""
    logs_are_down: bool = False
    """Whether there should be one."""
    metrics: MetricStore | None = None
    """The figures of tasks and hosts; None where control keeps none."""
    audit: Trail | None = None
    """Records the calls of operators; None where control keeps no audit trail."""
    host_hooks: HostHooks | None = None
    """The programs that add and remove hosts; None where there are none."""
    certificates: Certificates | None = None
    """What control signs; None where it has no TLS."""
    problems: Sequence[Callable[[], str]] = ()
    """Each returns what does not work in another part, for a person; empty for nothing."""
    open_calls: OpenCalls = field(default_factory=OpenCalls, repr=False)
    """Streams and sessions, which end with the right to have them."""
    commands: CommandSessions = field(default_factory=CommandSessions, repr=False)
    """Sessions with commands in containers."""
    store_place: StorePlace = field(default_factory=StorePlace)
    figures: Figures = field(default_factory=Figures, repr=False)
    """Counts of what is done, for those who watch control."""
    fleet: Fleet = field(init=False, repr=False)
    services: ServiceView = field(init=False, repr=False)

    def logs(self) -> LogStore:
        """Return the log store.

        Raises:
            LogStoreOff: this control keeps no logs.
            LogStoreDown: it would, and cannot.
        """
        if self.log_store is not None:
            return self.log_store
        if self.logs_are_down:
            raise LogStoreDown(self.no_logs_reason)
        raise LogStoreOff(self.no_logs_reason)

    def metric_store(self) -> MetricStore:
        """Return the metric store; raises ``UnsupportedFeatureException`` where there is none."""
        if self.metrics is None:
            raise UnsupportedFeatureException("this control endpoint keeps no metrics")
        return self.metrics

    def keeper(self) -> SecretKeeper:
        """Return what keeps the secrets; raises ``SecretsFailure`` where nothing does."""
        if self.secrets is None:
            raise SecretsFailure("this control endpoint keeps no secrets")
        return self.secrets

    def troubles(self) -> list[str]:
        """Return what does not work while control does, a line each for a person."""
        found = [one.problem for one in (self.log_store, *self.forwarders) if one is not None]
        found += [self.no_logs_reason] if self.logs_are_down else []
        others = [problem() for problem in self.problems]
        return [
            *(f"logs: {problem}" for problem in found if problem),
            *(problem for problem in others if problem),
        ]

    def __post_init__(self) -> None:
        object.__setattr__(self, "fleet", Fleet(self.store))
        object.__setattr__(self, "services", ServiceView(self.store, self.clock))


Handler = Callable[[Parts, dict[str, Any]], Awaitable[dict[str, Any]]]
"""``async def create_cluster(parts, request) -> response``.

The request has been checked against the service model: types are right, required members are present,
enums are valid, nulls and unknown members are removed. The response is a dict in the shape of the
model: ``None`` is left out, times are Unix seconds or aware datetimes. Raises ``front.errors.ApiError``.
"""

Handlers = Mapping[str, Handler]
"""Handlers by operation name; each module of this package has one such table."""
