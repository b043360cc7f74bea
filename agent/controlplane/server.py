"""The control endpoint as one server: builds the store, the ECS API and the agents' protocols.

::

    POST /                ECS API, including the calls of Amazon's agent, and the others of ``api.table``
    GET  /acs/ws, /tcs/ws orders to and telemetry from Amazon's agent
    /v1/...               our agents' long poll
    GET  /healthz         200 "ok" if the store answers, else 503
    GET  /metrics, /prometheus/...  for programs that watch the fleet
    GET  /console/        a page for operators, if it is on

With a token file, the long poll requires a token, and Amazon's agent must sign with one.

Everything is built here, passed by constructor, and closed here: ``serve`` returns within two seconds
of a stop request, even while polls are held. ``front.operators`` authenticates operators,
``front.sites`` listens, and ``agent.listening`` limits what strangers may use.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
from msgspec import Struct
from msgspec.structs import replace

from agent.controlplane import records
from agent.controlplane.agents import tokens
from agent.controlplane.agents.amazon.wire import EcsWire
from agent.controlplane.agents.bound_hosts import Refusals
from agent.controlplane.agents.longpoll.http import AgentWire
from agent.controlplane.agents.parts import LEASE_S, AgentParts
from agent.controlplane.agents.tokens import AgentTokens
from agent.controlplane.agents.wakeups import WakeUps
from agent.controlplane.audit.files import AuditSettings
from agent.controlplane.audit.trail import Trail
from agent.controlplane.authorization.open_calls import OpenCalls
from agent.controlplane.backups import Backups, Schedule
from agent.controlplane.console.admission import Console
from agent.controlplane.discovery.loop import RegistrationLoop
from agent.controlplane.events import sending
from agent.controlplane.execute_command.sessions import CommandSessions
from agent.controlplane.fleet_network.ranges import RangePlan
from agent.controlplane.front import address as address_file
from agent.controlplane.front import certificate, keys, sites
from agent.controlplane.front.applications import Applications, variables_for_tasks
from agent.controlplane.front.forward_targets import Target
from agent.controlplane.front.operators import Open, Signed
from agent.controlplane.front.sites import Front, is_loopback, parse_listen
from agent.controlplane.history import History
from agent.controlplane.host_scaling.hooks import HostHooks
from agent.controlplane.host_scaling.loop import HostScalingLoop
from agent.controlplane.iam.directory import Directory
from agent.controlplane.iam.user_records import sealed_kinds
from agent.controlplane.janitor import Janitor
from agent.controlplane.log_settings import LogSettings, keep_logs
from agent.controlplane.metric_store import facts
from agent.controlplane.metric_store.store import FILE as METRICS_FILE
from agent.controlplane.metric_store.store import MetricStore
from agent.controlplane.monitoring.calls import Monitoring
from agent.controlplane.monitoring.reader_tokens import ReaderTokens
from agent.controlplane.names import DEFAULT_ACCOUNT, DEFAULT_REGION, Names
from agent.controlplane.parts import Parts
from agent.controlplane.roles.issuer import RoleIssuer
from agent.controlplane.roles.local import LocalRoles
from agent.controlplane.roles.settings import RoleSettings
from agent.controlplane.roles.sts import StsRoles
from agent.controlplane.scaling.action_loop import ActionLoop
from agent.controlplane.scaling.alarm_loop import AlarmLoop
from agent.controlplane.scaling.loop import ScalingLoop
from agent.controlplane.schedules.loop import ScheduleLoop
from agent.controlplane.secrets.keeper import SecretKeeper
from agent.controlplane.services.loop import ServiceLoop
from agent.controlplane.store.contract import Put, StoreFailure, absent
from agent.controlplane.store.sqlite import SqliteStore
from agent.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.controlplane.front.forwarder import Forwarder
    from agent.controlplane.metric_store.roll_up import Facts
    from agent.controlplane.pki.certificates import Certificates
    from agent.controlplane.store.contract import Store

DEFAULT_LISTEN = "127.0.0.1:6820"
STORE_FILE = "control.db"
SECRET_KEYS = "secrets.keys"  # noqa: S105 - name of a file
HOOK_RUNS = "host-hooks"

_log = structlog.get_logger(__name__)


class ControlSettings(Struct, frozen=True, kw_only=True):
    """Settings of a control endpoint."""

    data_dir: Path
    """Created if missing, mode 0700."""
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


async def serve(
    settings: ControlSettings,
    *,
    ready: Callable[[str, int], None],
    stop: asyncio.Event,
    reload: asyncio.Event | None = None,
) -> None:
    """Run a control endpoint until ``stop`` is set.

    Args:
        settings: where to listen and where to store state.
        ready: called once with host and port of ``listen`` when all addresses answer calls.
        stop: set it to stop; held polls are answered, and accepted calls are finished.
        reload: set it to reload keys and tokens; if a file is invalid, this is logged and the old
            ones stay in use.

    Raises:
        StoreFailure: the store cannot be opened, or another process has it open.
        ListenFailure: an address cannot be bound.
        ConfigError: an address is invalid, the TLS files, keys or tokens cannot be used, or calls of a service
            that is served here are to be sent on.
    """
    _check_addresses(settings)
    await asyncio.to_thread(_make_folders, settings.data_dir)
    agent_tokens = await asyncio.to_thread(AgentTokens.load, settings.token_file)
    async with contextlib.AsyncExitStack() as cleanup:
        store = await SqliteStore.open(settings.data_dir / STORE_FILE)
        cleanup.push_async_callback(store.close)
        certificates = await _certificates(settings, store)
        logs = await cleanup.enter_async_context(keep_logs(settings.logs, settings.data_dir))
        wakeups, refusals = WakeUps(store), Refusals()
        names = Names(settings.region, settings.account)
        webhook = await cleanup.enter_async_context(
            sending.webhook(settings.event_webhook_file, store, names, time.time)
        )
        sts = await cleanup.enter_async_context(
            StsRoles.open(settings.roles, region=settings.region)
        )
        keeper = await SecretKeeper.open(
            store, settings.secret_keys or settings.data_dir / SECRET_KEYS, sealed_kinds()
        )
        directory, open_calls = await _directory(store, keeper, names)
        local = LocalRoles(directory, names, clock=time.time, duration_s=settings.roles.duration_s)
        issuer = RoleIssuer(store, sts, wake=wakeups.wake, clock=time.time, local=local)
        hooks = await HostHooks.open(settings.host_hooks)
        metrics = await _metrics(settings.data_dir, store, hooks, cleanup)
        audit = await _audit(settings.audit, cleanup)
        parts = Parts(
            store=store,
            names=names,
            zone=settings.zone or f"{settings.region}a",
            secrets=keeper,
            directory=directory,
            is_open=settings.keys_file is None,
            roles=issuer,
            task_variables=await variables_for_tasks(settings.roles.task_endpoint, settings.region),
            keeps_logs=settings.keeps_logs and settings.logs.are_kept,
            log_store=logs.store,
            forwarders=logs.forwarders,
            no_logs_reason=logs.none_because,
            logs_are_down=logs.is_down,
            metrics=metrics,
            open_calls=open_calls,
            commands=CommandSessions(wake=wakeups.wake, open_calls=open_calls),
            audit=audit,
            host_hooks=hooks,
            certificates=certificates,
            problems=tuple(
                one.problem
                for one in (webhook, audit, hooks, refusals, certificates)
                if one is not None
            ),
        )
        agent_parts = await _agent_parts(parts, agent_tokens, store, wakeups, settings, refusals)
        wire, ecs = AgentWire(agent_parts), EcsWire(agent_parts)
        monitoring = Monitoring(
            parts, await ReaderTokens.open(settings.metrics_token_file), wakeups
        )
        applications = await Applications.open(
            parts,
            wire,
            ecs,
            monitoring,
            forwarder=await _forwarder(parts, settings.forward, cleanup),
            console=settings.console,
            has_keys=settings.keys_file is not None,
        )
        access = await _OperatorAccess.open(settings, agent_tokens, names, directory, open_calls)
        front = await Front.open(
            settings,
            certificates.context if certificates is not None else None,
            applications,
            access.operators,
            own_names_only=access.own_names_only,
        )
        cleanup.push_async_callback(front.close)
        cleanup.callback(wire.close)
        cleanup.callback(ecs.close)
        cleanup.callback(applications.close)
        front.warn(agent_tokens, is_open=settings.keys_file is None)
        host, port = front.operators
        async with asyncio.TaskGroup() as group:
            background = [
                group.create_task(wakeups.run(), name="wake-ups"),
                group.create_task(agent_parts.keep_certificates(), name="certificates"),
                group.create_task(issuer.run(), name="role credentials"),
                group.create_task(directory.run(), name="users and roles"),
                group.create_task(agent_parts.groups.run(), name="security groups"),
                group.create_task(agent_parts.fleet.run(), name="fleet network"),
                group.create_task(agent_parts.names.run(), name="names for hosts"),
                group.create_task(
                    Janitor(
                        parts, held_from=webhook.held_from if webhook is not None else None
                    ).run(),
                    name="janitor",
                ),
                group.create_task(metrics.run(), name="metrics"),
                group.create_task(ServiceLoop(parts).run(), name="services"),
                group.create_task(ScalingLoop(parts, metrics).run(), name="scaling"),
                group.create_task(AlarmLoop(parts, metrics).run(), name="alarms of deployments"),
                group.create_task(ScheduleLoop(parts).run(), name="schedules"),
                group.create_task(RegistrationLoop(store, names).run(), name="names of tasks"),
                group.create_task(ActionLoop(parts).run(), name="scheduled actions"),
                group.create_task(
                    HostScalingLoop(parts, hooks, settings.data_dir / HOOK_RUNS).run(),
                    name="managed scaling",
                ),
                group.create_task(_reseal(keeper), name="secret keys"),
                group.create_task(
                    _reload(
                        agent_tokens,
                        access,
                        keeper,
                        directory,
                        monitoring.tokens,
                        hooks,
                        reload or asyncio.Event(),
                    ),
                    name="reload",
                ),
            ]
            background += [
                group.create_task(one.run(), name=f"logs to {one.name}") for one in logs.forwarders
            ]
            if webhook is not None:
                background.append(group.create_task(webhook.run(), name="events to a webhook"))
            if settings.backups is not None:
                backups = Backups(store, settings.backups)
                background.append(group.create_task(backups.run(), name="backups"))
            _log.info(
                "control endpoint ready",
                host=host,
                port=port,
                agents=front.agents,
                region=settings.region,
            )
            await address_file.keep(
                settings.data_dir,
                sites.address(settings, host, port, applications.endpoint_variables),
                lambda tries: background.append(group.create_task(tries, name="address")),
            )
            ready(host, port)
            await stop.wait()
            wire.close()
            ecs.close()
            applications.close()
            for task in background:
                task.cancel()
    _log.info("control endpoint stopped")


def _check_addresses(settings: ControlSettings) -> None:
    for address in (settings.listen, *settings.agent_listen):
        parse_listen(address)


def _make_folders(data_dir: Path) -> None:
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    # On a full disk, control starts all the same; a program that then cannot run says so.
    with contextlib.suppress(OSError):
        (data_dir / HOOK_RUNS).mkdir(mode=0o700, exist_ok=True)


async def _directory(
    store: Store, keeper: SecretKeeper, names: Names
) -> tuple[Directory, OpenCalls]:
    """Return the directory of users, and what ends streams and sessions when it changes."""
    directory, open_calls = await Directory.open(store, keeper, names), OpenCalls()
    open_calls.follow(directory)
    return directory, open_calls


async def _certificates(settings: ControlSettings, store: Store) -> Certificates | None:
    """Return what control signs, and TLS; None where it has none.

    Raises:
        ConfigError: files cannot be used.
    """
    given = await asyncio.to_thread(certificate.context, settings.tls_certificate, settings.tls_key)
    if given is None and not settings.tls_own:
        return None
    if given is not None and settings.tls_own:
        raise ConfigError(
            f"--tls and {certificate.CERTIFICATE} contradict each other; give only one of them"
        )
    # Takes a quarter of a second, and many have no TLS.
    from agent.controlplane.pki.certificates import DIRECTORY, Certificates  # noqa: PLC0415

    return await Certificates.open(
        settings.data_dir / DIRECTORY,
        store,
        label=await _control_id(store),
        given=given,
        names=settings.tls_names,
    )


async def _metrics(
    data_dir: Path, store: Store, hooks: HostHooks, cleanup: contextlib.AsyncExitStack
) -> MetricStore:
    """Return the figures of tasks and hosts, which ``cleanup`` closes."""
    metrics = await MetricStore.open(data_dir / METRICS_FILE, partial(_facts, store, hooks))
    cleanup.push_async_callback(metrics.close)
    return metrics


async def _facts(store: Store, hooks: HostHooks) -> Facts:
    """Return the facts of this moment, of which figures are."""
    reservations = {tuple(pair): found.reservation for pair, found in hooks.figures.items()}
    return replace(await facts.read(store), reservations=reservations)


async def _audit(
    settings: AuditSettings | None, cleanup: contextlib.AsyncExitStack
) -> Trail | None:
    """Return the audit trail, which ``cleanup`` closes; None where none is kept."""
    if settings is None:
        return None
    trail = await Trail.open(settings)
    cleanup.push_async_callback(trail.close)
    return trail


async def _forwarder(
    parts: Parts, targets: Mapping[str, Target], cleanup: contextlib.AsyncExitStack
) -> Forwarder | None:
    """Return what sends calls on, which ``cleanup`` closes; None if no calls are."""
    if not targets:
        return None
    from agent.controlplane.front.forwarder import Forwarder  # noqa: PLC0415 - rarely needed

    forwarder = await Forwarder.open(parts, targets)
    cleanup.push_async_callback(forwarder.close)
    return forwarder


async def _agent_parts(
    parts: Parts,
    agent_tokens: AgentTokens,
    store: SqliteStore,
    wakeups: WakeUps,
    settings: ControlSettings,
    refusals: Refusals,
) -> AgentParts:
    """Return what the agents' wires share; ``store`` is that of ``parts``."""
    control_id = await _control_id(store)
    history = await History.open(store, control_id, seen_revision=store.seen_revision)
    return AgentParts.build(
        parts,
        agent_tokens,
        control_id=control_id,
        history=history,
        wakeups=wakeups,
        lease_s=settings.lease_s,
        fleet_plan=settings.fleet,
        refusals=refusals,
    )


class _OperatorAccess:
    """Access by TCP: for callers with a key from the file, or for everyone."""

    def __init__(
        self,
        file: Path | None,
        operators: Signed | Open,
        open_calls: OpenCalls,
        *,
        is_loopback: bool,
    ) -> None:
        self._file = file
        self._open_calls = open_calls
        self._is_loopback = is_loopback
        self.operators = operators

    @property
    def own_names_only(self) -> bool:
        """Whether to check host names against DNS rebinding by web pages."""
        return self._file is None and self._is_loopback

    @classmethod
    async def open(
        cls,
        settings: ControlSettings,
        agent_tokens: AgentTokens,
        names: Names,
        directory: Directory,
        open_calls: OpenCalls,
    ) -> _OperatorAccess:
        """Read the keys; raises ``ConfigError`` if the file of keys cannot be used."""
        file, is_local = settings.keys_file, is_loopback(parse_listen(settings.listen)[0])
        if file is None:
            return cls(None, Open(names), open_calls, is_loopback=is_local)
        found = await asyncio.to_thread(keys.load, file)
        signed = Signed(found, note=agent_tokens.note, names=names, directory=directory)
        open_calls.take_root_keys(frozenset(found))
        return cls(file, signed, open_calls, is_loopback=is_local)

    async def reload(self) -> None:
        """Reload the file of keys; an invalid file changes nothing."""
        if self._file is None or not isinstance(self.operators, Signed):
            return
        try:
            found = await asyncio.to_thread(keys.load, self._file)
        except ConfigError as error:
            _log.error("keys not reloaded; the old keys stay in use", error=str(error))
        else:
            self.operators.take(found)
            self._open_calls.take_root_keys(frozenset(found))
            _log.info("keys loaded", file=str(self._file), keys=len(found))


async def _reload(
    agent_tokens: AgentTokens,
    access: _OperatorAccess,
    keeper: SecretKeeper,
    directory: Directory,
    readers: ReaderTokens,
    hooks: HostHooks,
    asked: asyncio.Event,
) -> None:
    """Reload tokens, keys and programs on each request, until cancelled.

    Agents whose token is gone are cut off at once.
    """
    while True:
        await asked.wait()
        asked.clear()
        await access.reload()
        await keeper.reload()
        try:
            await directory.reopen()
        except StoreFailure as error:
            _log.error("sessions of roles not reloaded", error=str(error))
        try:
            await readers.reload()
        except ConfigError as error:
            _log.error("tokens of readers not reloaded; the old ones stay", error=str(error))
        try:
            await hooks.reload()
        except ConfigError as error:
            _log.error("programs of hosts not reloaded; the old ones stay", error=str(error))
        try:
            found = await asyncio.to_thread(tokens.read, agent_tokens.file)
        except ConfigError as error:
            _log.error("token file not reloaded; the old tokens stay in use", error=str(error))
        else:
            ended = agent_tokens.take(found)
            _log.info(
                "token file loaded",
                file=str(agent_tokens.file or ""),
                tokens=len(found),
                calls_ended=ended,
            )


async def _reseal(keeper: SecretKeeper) -> None:
    """End a change of secret keys that an earlier process began."""
    try:
        sealed, _ = await keeper.reseal()
    except StoreFailure as error:
        _log.warning("secrets not encrypted with the newest key", error=str(error))
    else:
        if sealed:
            _log.info("secrets encrypted with the newest key", count=sealed)


async def _control_id(store: Store) -> str:
    """Return the id that identifies this store to agents; created once, by the first process."""
    key = records.CONTROL_ID_KEY
    await store.txn([absent(key)], [Put(key, uuid.uuid4().hex.encode())])
    kv = await store.get(key)
    if kv is None:
        raise StoreFailure(f"{key} is missing right after it was written; check the disk")
    return kv.value.decode()
