"""What a control endpoint is told: addresses, files and what is on. Pure data."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct

from agent.controlplane.agents.parts import LEASE_S
from agent.controlplane.audit.files import AuditSettings
from agent.controlplane.backups import Schedule
from agent.controlplane.console.admission import Console
from agent.controlplane.fleet_network.ranges import RangePlan
from agent.controlplane.front.forward_targets import Target
from agent.controlplane.log_settings import LogSettings
from agent.controlplane.names import DEFAULT_ACCOUNT, DEFAULT_REGION
from agent.controlplane.roles.settings import RoleSettings
from agent.controlplane.store.etcd_settings import EtcdSettings

DEFAULT_LISTEN = "127.0.0.1:6820"
STORE_FILE = "control.db"
SECRET_KEYS = "secrets.keys"  # noqa: S105 - name of a file


class ControlSettings(Struct, frozen=True, kw_only=True):
    """Settings of a control endpoint."""

    data_dir: Path
    """Created if missing, mode 0700."""
    etcd: EtcdSettings | None = None
    """Where the fleet is kept; None for a file in ``data_dir``."""
    listen: str = DEFAULT_LISTEN
    """``HOST:PORT`` or ``[V6]:PORT``. Port 0 picks a free port; ``ready`` gets its number."""
    agent_listen: tuple[str, ...] = ()
    """Addresses that only serve agents, with both protocols, and health."""
    keys_file: Path | None = None
    """Operators must sign with one of its keys; created with a new key if missing. If None, everyone
    who can reach ``listen`` has full access."""
    socket: Path | None = None
    """Unix socket on which the owner needs no key."""
    token_file: Path | None = None
    """Agents must send one of its tokens, or sign with it; created with a new token if missing."""
    region: str = DEFAULT_REGION
    account: str = DEFAULT_ACCOUNT
    zone: str = ""
    """Availability zone of hosts that do not set one; if empty, the region's first."""
    metrics_token_file: Path | None = None
    """Who reads metrics and scrape targets must send one of its tokens, or be an operator; created with a
    new token if missing. If None, anyone who can reach an address may read them."""
    keeps_logs: bool = True
    """Whether logs of the driver ``awslogs`` are kept here; otherwise CloudWatch Logs has them."""
    backups: Schedule | None = None
    """When the store is backed up; None for never."""
    lease_s: float = LEASE_S
    """How long an agent may be silent before it is shown as disconnected."""
    tls_certificate: Path | None = None
    """PEM file with the certificate chain; used together with ``tls_key``."""
    tls_key: Path | None = None
    tls_own: bool = False
    """Whether TLS is on with a certificate that control's own authority signs; without ``tls_certificate``."""
    tls_names: tuple[str, ...] = ()
    """Names and addresses for that certificate, besides those of this machine."""
    secret_keys: Path | None = None
    """File with the keys that encrypt secrets, created when first needed. [default: in ``data_dir``]"""
    roles: RoleSettings = RoleSettings()
    """Of tasks, for which control gets credentials."""
    logs: LogSettings = LogSettings()
    """Of tasks."""
    host_hooks: Path | None = None
    """Names the programs that add and remove hosts of capacity providers (``host_scaling.hooks``); None for none."""
    event_webhook_file: Path | None = None
    """Names the webhook that gets all events (``events.webhook_file``); None for none."""
    audit: AuditSettings | None = None
    """Where calls of operators are recorded; None for nowhere."""
    forward: Mapping[str, Target] = {}
    """Where calls of services that are not served go, by their names (``front.forward_targets``)."""
    console: Console = Console.OFF
    """Whether ``listen`` serves the console, and for whom."""
    fleet: RangePlan | None = None
    """How the network of tasks is cut into ranges of hosts; None where there is no network between hosts."""
