"""How a control endpoint is, as ``ecs-agent control status`` shows it."""

from __future__ import annotations

from msgspec import Struct, field


class _Shown(Struct, frozen=True, kw_only=True, rename="camel"):
    pass


class StoreStatus(_Shown, frozen=True):
    """The store."""

    where: str
    """A file, or the endpoints of an etcd."""
    size_bytes: int
    """On disk; 0 while it is not known."""
    revision: int
    problem: str = ""
    """Why it does not work, for a person; empty if it does."""
    commit_s: float | None = None
    """How long a transaction took just now; None if it failed."""
    watch_s: float | None = None
    """How long after that a watch told of it; None if it did not in time."""


class LeaderStatus(_Shown, frozen=True):
    """The process that answers. Of several over one etcd, only that serves which leads."""

    host: str
    pid: int
    since: float
    """Unix seconds."""


class WakeUpStatus(_Shown, frozen=True):
    """From a commit that concerns a host to the answer to its poll, since the process started."""

    count: int
    p50_s: float
    """Upper bound of the bucket that it is in, likewise ``p99_s``; 0 without any."""
    p99_s: float


class SlowAgent(_Shown, frozen=True):
    """A connected agent that has not come back for its orders."""

    instance_arn: str
    hostname: str
    silent_s: float
    """Since its last poll ended."""


class HostsStatus(_Shown, frozen=True):
    """The registered hosts."""

    total: int
    connected: int
    draining: int
    polls: int
    """Polls that are held now."""


class ControlStatus(_Shown, frozen=True):
    """All of it."""

    version: str
    leader: LeaderStatus
    store: StoreStatus
    hosts: HostsStatus
    wake_ups: WakeUpStatus
    tasks_running: int = 0
    slow: list[SlowAgent] = field(default_factory=list)
    """The slowest, most silent first."""
    slow_count: int = 0
    troubles: list[str] = field(default_factory=list)
    """What does not work while control does, for a person."""
