"""The control endpoint as one server: builds the store, the ECS API and the agents' wire.

::

    POST /                ECS API (JSON 1.1), the calls of Amazon's agent among it
    GET  /acs/ws, /tcs/ws orders to and telemetry of Amazon's agent
    /v1/...               our agents' long poll
    GET  /healthz         200 "ok" when the store answers, else 503

Where there is a token file, the long poll asks for a token, and Amazon's agent must sign with one.

Everything is built here, handed over by constructor, and ends here: ``serve`` returns within two
seconds of being told to stop, also while polls are held. Nothing is verified about who calls the
ECS API: whoever reaches it is an operator. That is why there may be a second kind of address, which
serves agents alone, and why a warning is logged for everything that is open off the loopback.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import ssl
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
from aiohttp import web
from msgspec import Struct

from agent.config import addresses
from agent.controlplane import certificate, records
from agent.controlplane.api import (
    attributes,
    clusters,
    instances,
    tags,
    task_definitions,
    tasks,
)
from agent.controlplane.api.services import Services
from agent.controlplane.api.validation import EcsModel
from agent.controlplane.backups import Backups, Schedule
from agent.controlplane.ecs.wire import EcsWire
from agent.controlplane.front import address as address_file
from agent.controlplane.front import keys
from agent.controlplane.front.applications import Applications
from agent.controlplane.front.operators import Open, Owner, Signed
from agent.controlplane.history import History
from agent.controlplane.janitor import Janitor
from agent.controlplane.names import DEFAULT_ACCOUNT, DEFAULT_REGION, Names
from agent.controlplane.store.contract import Put, StoreFailure, absent
from agent.controlplane.store.sqlite import SqliteStore
from agent.controlplane.wire.auth import Gate
from agent.controlplane.wire.http import AgentWire
from agent.controlplane.wire.station import LEASE_S, Station
from agent.errors import AgentError, ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.controlplane.api.services import Handlers
    from agent.controlplane.store.contract import Store

DEFAULT_LISTEN = "127.0.0.1:6820"
STORE_FILE = "control.db"
_SHUTDOWN_S = 1.0
"""How long open calls may take when the server stops; held polls are answered at once."""
_HEALTH_LIMIT_S = 5.0
_LINGER_S = 2.0
"""How long the body of a call that was answered already is read away, so that the answer arrives."""
_BACKLOG = 1024

_log = structlog.get_logger(__name__)


class ControlSettings(Struct, frozen=True, kw_only=True):
    """How a control endpoint is run."""

    data_dir: Path
    """Made when it is missing, mode 0700."""
    listen: str = DEFAULT_LISTEN
    """``HOST:PORT`` or ``[V6]:PORT``. Port 0 takes a free one; ``ready`` is told which."""
    agent_listen: tuple[str, ...] = ()
    """Addresses that serve agents, by either wire, and health, and nothing else."""
    keys_file: Path | None = None
    """Operators must sign with one of its keys; made with a fresh one when missing. None lets everybody
    command who reaches ``listen``."""
    socket: Path | None = None
    """Unix socket by which the owner commands without a key."""
    token_file: Path | None = None
    """Agents must carry one of its tokens, or sign with it; made with a fresh one when missing."""
    region: str = DEFAULT_REGION
    account: str = DEFAULT_ACCOUNT
    zone: str = ""
    """Availability zone of hosts that do not say theirs; the region's first when empty."""
    backups: Schedule | None = None
    """When copies of the store are made; None for never."""
    lease_s: float = LEASE_S
    """How long an agent may be silent before it shows as disconnected."""
    tls_certificate: Path | None = None
    """PEM file with the chain; together with ``tls_key``."""
    tls_key: Path | None = None


class ListenFailure(AgentError):
    """An address cannot be bound; the cause is the ``OSError``."""

    def __init__(self, option: str, address: str, cause: OSError) -> None:
        super().__init__(f"{option} {address}: {cause.strerror or cause}; choose another address")
        self.option = option
        self.address = address
        self.cause = cause


class _Site(Struct, frozen=True):
    """One address and what it serves."""

    option: str
    address: str
    runner: web.AppRunner
    tls: ssl.SSLContext | None

    @property
    def is_open(self) -> bool:
        """Whether others than this machine reach it."""
        return not _is_loopback(parse_listen(self.address)[0])


async def serve(
    settings: ControlSettings,
    *,
    ready: Callable[[str, int], None],
    stop: asyncio.Event,
    reload: asyncio.Event | None = None,
) -> None:
    """Run a control endpoint until ``stop`` is set.

    Args:
        settings: where to listen and where to keep state.
        ready: called once with host and port of ``listen`` when calls are answered everywhere.
        stop: set it to end; held polls are answered, what was accepted is finished.
        reload: set it to have the token file read anew; a bad one is logged, the old tokens stay.

    Raises:
        StoreFailure: the store cannot be opened, or another process has it open.
        ListenFailure: an address cannot be bound.
        ConfigError: an address is none, or the TLS files or the token file cannot be used.
    """
    tls = await asyncio.to_thread(certificate.context, settings.tls_certificate, settings.tls_key)
    for address in (settings.listen, *settings.agent_listen):
        parse_listen(address)
    await asyncio.to_thread(settings.data_dir.mkdir, mode=0o700, parents=True, exist_ok=True)
    gate = Gate(settings.token_file)
    await asyncio.to_thread(gate.load)
    store = await SqliteStore.open(settings.data_dir / STORE_FILE)
    try:
        services = Services(
            store=store,
            names=Names(settings.region, settings.account),
            zone=settings.zone or f"{settings.region}a",
        )
        model = await asyncio.to_thread(EcsModel.load)
        control_id = await _control_id(store)
        history = await History.open(store, control_id, seen_revision=store.seen_revision)
        station = Station.build(
            services, gate, control_id=control_id, history=history, lease_s=settings.lease_s
        )
        wire, ecs = AgentWire(station), EcsWire(station)
        applications = Applications(services, model, handlers(), wire, ecs)
        door = await _Door.open(settings, gate)
        sites = _sites(
            settings,
            tls,
            applications.for_operators(door.operators, own_names_only=door.own_names_only),
            applications.for_agents(),
        )
        owners = _runner(applications.for_operators(Owner()))
        async with contextlib.AsyncExitStack() as cleanup:
            for runner in {owners, *(site.runner for site in sites)}:
                await runner.setup()
                cleanup.push_async_callback(runner.cleanup)
            cleanup.callback(wire.close)
            cleanup.callback(ecs.close)
            for site in sites:
                await _start(site)
            if settings.socket is not None:
                await _start_unix(owners, settings.socket)
            _warn(sites, gate, is_open=settings.keys_file is None)
            host, port = sites[0].runner.addresses[0][:2]
            async with asyncio.TaskGroup() as group:
                background = [
                    group.create_task(station.bells.run(), name="wake-ups"),
                    group.create_task(Janitor(services).run(), name="janitor"),
                    group.create_task(
                        _reload(gate, door, reload or asyncio.Event()), name="reload"
                    ),
                ]
                if settings.backups is not None:
                    backups = Backups(store, settings.backups)
                    background.append(group.create_task(backups.run(), name="backups"))
                _log.info(
                    "control endpoint ready",
                    host=host,
                    port=port,
                    agents=[address[:2] for address in sites[-1].runner.addresses],
                    region=settings.region,
                )
                await asyncio.to_thread(
                    address_file.write, settings.data_dir, _address(settings, host, port)
                )
                ready(host, port)
                await stop.wait()
                wire.close()
                ecs.close()
                for task in background:
                    task.cancel()
    finally:
        await store.close()
    _log.info("control endpoint stopped")


def _sites(
    settings: ControlSettings,
    tls: ssl.SSLContext | None,
    for_all: web.Application,
    for_agents: web.Application,
) -> list[_Site]:
    """Return what to listen on, ``listen`` first.

    The address of operators speaks TLS like any other, but for one case: on the loopback beside an
    address for agents, where there is nothing to hide it from and the tools would need the CA.
    """
    whole = _runner(for_all)
    first = _Site("--listen", settings.listen, whole, tls)
    if not settings.agent_listen:
        return [first]
    plain = first if first.is_open else _Site(first.option, first.address, whole, None)
    agents = _runner(for_agents)
    return [
        plain,
        *(_Site("--agent-listen", where, agents, tls) for where in settings.agent_listen),
    ]


def _address(settings: ControlSettings, host: str, port: int) -> address_file.Address:
    """Return how the owner reaches the operators' address."""
    here = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - what to call instead of a wildcard
    has_tls = settings.tls_certificate is not None and not (
        settings.agent_listen and _is_loopback(parse_listen(settings.listen)[0])
    )
    return address_file.Address(
        url=f"{'https' if has_tls else 'http'}://{addresses.HostPort(here, port).text()}",
        region=settings.region,
        keys_file=str(settings.keys_file or ""),
        certificate=str(settings.tls_certificate) if has_tls else "",
        socket=str(settings.socket or ""),
    )


def _runner(app: web.Application) -> web.AppRunner:
    return web.AppRunner(
        app, access_log=None, shutdown_timeout=_SHUTDOWN_S, lingering_time=_LINGER_S
    )


async def _start(site: _Site) -> None:
    host, port = parse_listen(site.address)
    server = web.TCPSite(site.runner, host, port, ssl_context=site.tls, backlog=_BACKLOG)
    try:
        await server.start()
    except OSError as error:
        raise ListenFailure(site.option, site.address, error) from error


async def _start_unix(runner: web.AppRunner, path: Path) -> None:
    """Listen on a Unix socket of the owner's alone; one that is left from before is replaced."""
    try:
        await asyncio.to_thread(path.unlink, missing_ok=True)
        await web.UnixSite(runner, path).start()
        await asyncio.to_thread(path.chmod, 0o600)
    except OSError as error:
        raise ListenFailure("--socket", str(path), error) from error


def _warn(sites: list[_Site], gate: Gate, *, is_open: bool) -> None:
    """Log what others on the network may do or read here; nothing when all is closed."""
    operators, *_ = sites
    plain = [site.address for site in sites if site.is_open and site.tls is None]
    if is_open:
        reached = "off the loopback" if operators.is_open else "as any user of this machine"
        _log.warning(
            f"open: whoever reaches this port, {reached}, commands every host of the fleet as root; "
            "leave --open out, and sign with the keys that are made then",
            address=operators.address,
        )
    elif operators.is_open and operators.tls is None:
        _log.warning(
            "operators are served without TLS off the loopback: what they ask and are told, secrets "
            "of tasks among it, can be read on the way; give --tls-certificate and --tls-key",
            address=operators.address,
        )
    elif plain:
        _log.warning(
            "agents are served without TLS off the loopback: tokens, orders and registry "
            "credentials can be read on the way; give --tls-certificate and --tls-key",
            addresses=plain,
        )
    if gate.file is None and any(site.is_open for site in sites[1:]):
        _log.warning(
            "agents are let in without a token off the loopback: whoever reaches this port can "
            "register as a host and is given tasks; give --token-file",
            addresses=[site.address for site in sites[1:] if site.is_open],
        )


class _Door:
    """Who commands the endpoint by TCP, by the keys in a file or all who reach it."""

    def __init__(self, file: Path | None, operators: Signed | Open, *, is_loopback: bool) -> None:
        self._file = file
        self._is_loopback = is_loopback
        self.operators = operators

    @property
    def own_names_only(self) -> bool:
        """Whether a page that has pointed its name at this host could come in."""
        return self._file is None and self._is_loopback

    @classmethod
    async def open(cls, settings: ControlSettings, gate: Gate) -> _Door:
        """Return the door; raises ``ConfigError`` for a file of keys that cannot be used."""
        file, is_loopback = settings.keys_file, _is_loopback(parse_listen(settings.listen)[0])
        if file is None:
            return cls(None, Open(), is_loopback=is_loopback)
        found = await asyncio.to_thread(keys.load, file)
        return cls(file, Signed(found, note=gate.note), is_loopback=is_loopback)

    async def reload(self) -> None:
        """Read the file of keys anew; a bad one changes nothing."""
        if self._file is None or not isinstance(self.operators, Signed):
            return
        try:
            found = await asyncio.to_thread(keys.load, self._file)
        except ConfigError as error:
            _log.error("keys not taken; the old keys stay", error=str(error))
        else:
            self.operators.keys = found
            _log.info("keys read", file=str(self._file), keys=len(found))


async def _reload(gate: Gate, door: _Door, asked: asyncio.Event) -> None:
    """Read tokens and keys anew whenever it is asked for, until cancelled.

    Agents that came with a token that is gone are cut off at once.
    """
    while True:
        await asked.wait()
        asked.clear()
        await door.reload()
        try:
            found = await asyncio.to_thread(gate.read)
        except ConfigError as error:
            _log.error("token file not taken; the old tokens stay", error=str(error))
        else:
            ended = gate.take(found)
            _log.info(
                "token file read", file=str(gate.file or ""), tokens=len(found), calls_ended=ended
            )


def handlers() -> Handlers:
    """Return every operation of the ECS API that is served."""
    return {
        **clusters.HANDLERS,
        **tags.HANDLERS,
        **task_definitions.HANDLERS,
        **instances.HANDLERS,
        **attributes.HANDLERS,
        **tasks.handlers(),
    }


async def _control_id(store: Store) -> str:
    """Return the id that names this store towards agents; made once, by whoever is first."""
    key = records.CONTROL_ID_KEY
    await store.txn([absent(key)], [Put(key, uuid.uuid4().hex.encode())])
    kv = await store.get(key)
    if kv is None:
        raise StoreFailure(f"{key} was written and is not there")
    return kv.value.decode()


def parse_listen(text: str) -> tuple[str, int]:
    """Return host and port of ``HOST:PORT``; an empty host means the loopback.

    Raises:
        ConfigError: the text is no such address.
    """
    try:
        return addresses.parse_listen(text)
    except ValueError as error:
        raise ConfigError(f"listen {text!r} {error}") from None


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
