"""What control tells an ingress, and what it reports: plain data of their wire, JSON.

An ingress is a proxy on a host that carries the requests of load balancers. The calls have the token of agents.

======================================== =================================================================
GET ``/v1/ingresses/ID``                 ``Truth``; 204 if nothing has changed. Query: ``run`` and ``after``
                                         of the last ``Truth``, ``wait`` (seconds), ``reported=1`` once it
                                         has reported, ``balancer`` (a name; may be repeated, none for
                                         all). Renews the lease.
POST ``/v1/ingresses/ID/health``         ``Reports`` → ``Reported``
DELETE ``/v1/ingresses/ID``              204; the ingress is gone
======================================== =================================================================

Control sends everything once and then what has changed; each message is whole for what it names. What an ingress
has reported ends with its lease; ``is_known`` says whether that lives, and everything is reported again if not.
"""

from __future__ import annotations

from msgspec import Struct, field


class _Wire(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """Unknown fields are ignored, so that either side may be newer."""


class Condition(_Wire, frozen=True):
    """One condition of a rule; one of its values must match."""

    kind: str
    """As ``RuleCondition.Field`` of Elastic Load Balancing."""
    values: tuple[str, ...] = ()
    header: str = ""
    pairs: tuple[tuple[str, str], ...] = ()
    """Key (may be empty) and value, of ``query-string``."""


class Share(_Wire, frozen=True):
    """A target group that gets a share of the requests."""

    group: str
    """Its id."""
    weight: int = 1


class Rule(_Wire, frozen=True):
    """A rule of a listener."""

    conditions: tuple[Condition, ...] = ()
    """All must match; none for the default rule."""
    kind: str = "forward"
    """``forward``, ``redirect`` or ``fixed-response``."""
    shares: tuple[Share, ...] = ()
    """Of ``forward``."""
    settings: dict[str, str] = field(default_factory=dict)
    """Of the others, as Elastic Load Balancing has them."""


class Listener(_Wire, frozen=True):
    """A port that is listened on."""

    id: str
    port: int
    protocol: str
    """HTTP or TCP."""
    idle_s: int = 60
    rules: tuple[Rule, ...] = ()
    """In the order in which they are tried; the last one has no conditions."""


class Check(_Wire, frozen=True):
    """How the health of targets is checked."""

    protocol: str = "HTTP"
    port: int = 0
    """0 for that of each target."""
    path: str = "/"
    matcher: str = "200"
    interval_s: int = 30
    timeout_s: int = 5
    healthy_threshold: int = 5
    unhealthy_threshold: int = 2


class Group(_Wire, frozen=True):
    """A target group."""

    id: str
    protocol: str
    """HTTP or TCP."""
    least_requests: bool = False
    """Whether the target with the fewest requests is chosen; otherwise one after the other."""
    check: Check = Check()


class Target(_Wire, frozen=True):
    """A target of a group."""

    name: str
    """What names it in its group."""
    address: str
    port: int
    drains: bool = False
    """Whether it gets no new requests."""


class Truth(_Wire, frozen=True):
    """What has changed for an ingress."""

    run: str
    """Of whom ``serial`` is; a number of another one means nothing."""
    serial: int
    """What the next call is ``after``."""
    is_known: bool = False
    """Whether control has the ingress' reports."""
    listeners: tuple[Listener, ...] | None = None
    """All of them, with ``groups``; None if neither has changed."""
    groups: tuple[Group, ...] | None = None
    """All that a listener names."""
    targets: dict[str, tuple[Target, ...]] = field(default_factory=dict)
    """All targets of each group that is named, by its id."""


class TargetReport(_Wire, frozen=True):
    """What an ingress knows of a target."""

    state: str
    """``initial``, ``healthy`` or ``unhealthy``."""
    reason: str = ""
    description: str = ""
    is_idle: bool = False
    """Whether it was taken out of use here, and has no requests any more."""


class Reports(_Wire, frozen=True):
    """What an ingress knows of all targets of some groups."""

    groups: dict[str, dict[str, TargetReport] | None]
    """By group id and target name; None for a group that it does not serve any more."""
    balancers: tuple[str, ...] = ()
    """Names of the load balancers that it serves; none for all."""
    is_whole: bool = False
    """Whether this is all that it knows, so that control may forget the rest."""


class Reported(_Wire, frozen=True):
    """The answer to reports."""

    is_known: bool
    """False if they were not taken: everything is to be reported, with ``is_whole``."""
