"""The control endpoint as one server: builds the store, the ECS API and the agents' wire.

::

    POST /                ECS API (JSON 1.1)
    /v1/instances...      agents' wire
    GET  /healthz         200 "ok" when the store answers, else 503

Everything is built here, handed over by constructor, and ends here: ``serve`` returns within two
seconds of being told to stop, also while polls are held. Nothing is verified about who calls:
whoever reaches the port is an operator, which is why a warning is logged off the loopback.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import ssl
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
from aiohttp import web
from msgspec import Struct

from agent.controlplane import records
from agent.controlplane.api import (
    attributes,
    clusters,
    instances,
    tags,
    task_definitions,
    tasks,
)
from agent.controlplane.api.dispatch import EcsApi
from agent.controlplane.api.services import Services
from agent.controlplane.api.validation import EcsModel
from agent.controlplane.janitor import Janitor
from agent.controlplane.names import DEFAULT_ACCOUNT, DEFAULT_REGION, Names
from agent.controlplane.store.contract import Put, StoreFailure, absent
from agent.controlplane.store.sqlite import SqliteStore
from agent.controlplane.wire.http import LEASE_S, AgentWire
from agent.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.controlplane.api.services import Handlers
    from agent.controlplane.store.contract import Store

DEFAULT_LISTEN = "127.0.0.1:6820"
STORE_FILE = "control.db"
_SHUTDOWN_S = 1.0
"""How long open calls may take when the server stops; held polls are answered at once."""
_HEALTH_LIMIT_S = 5.0
_BACKLOG = 1024
_LISTEN = re.compile(r"(?:\[([0-9A-Fa-f:.%\w]+)\]|([^:\[\]\s]*)):([0-9]{1,5})")

_log = structlog.get_logger(__name__)


class ControlSettings(Struct, frozen=True, kw_only=True):
    """How a control endpoint is run."""

    data_dir: Path
    """Made when it is missing, mode 0700."""
    listen: str = DEFAULT_LISTEN
    """``HOST:PORT`` or ``[V6]:PORT``. Port 0 takes a free one; ``ready`` is told which."""
    region: str = DEFAULT_REGION
    account: str = DEFAULT_ACCOUNT
    lease_s: float = LEASE_S
    """How long an agent may be silent before it shows as disconnected."""
    tls_certificate: Path | None = None
    """PEM file with the chain; together with ``tls_key``."""
    tls_key: Path | None = None


async def serve(
    settings: ControlSettings, *, ready: Callable[[str, int], None], stop: asyncio.Event
) -> None:
    """Run a control endpoint until ``stop`` is set.

    Args:
        settings: where to listen and where to keep state.
        ready: called once with host and port when calls are answered.
        stop: set it to end; held polls are answered, what was accepted is finished.

    Raises:
        StoreFailure: the store cannot be opened, or another process has it open.
        OSError: the address cannot be bound.
        ConfigError: ``listen`` is no address, or the TLS files cannot be used.
    """
    tls = _tls(settings)
    parse_listen(settings.listen)
    await asyncio.to_thread(settings.data_dir.mkdir, mode=0o700, parents=True, exist_ok=True)
    store = await SqliteStore.open(settings.data_dir / STORE_FILE)
    try:
        await _serve_store(settings, store, tls, ready=ready, stop=stop)
    finally:
        await store.close()


async def _serve_store(
    settings: ControlSettings,
    store: Store,
    tls: ssl.SSLContext | None,
    *,
    ready: Callable[[str, int], None],
    stop: asyncio.Event,
) -> None:
    services = Services(store=store, names=Names(settings.region, settings.account))
    model = await asyncio.to_thread(EcsModel.load)
    wire = AgentWire(services, control_id=await _control_id(store), lease_s=settings.lease_s)
    app = _application(services, EcsApi(services, model, handlers()), wire)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=_SHUTDOWN_S)
    await runner.setup()
    try:
        host, port = parse_listen(settings.listen)
        site = web.TCPSite(runner, host, port, ssl_context=tls, backlog=_BACKLOG)
        await site.start()
        host, port = runner.addresses[0][:2]
        if tls is None and not _is_loopback(host):
            _log.warning(
                "listening without TLS off the loopback: whoever reaches this port commands the "
                "fleet; listen on 127.0.0.1, or put TLS and authentication in front",
                host=host,
                port=port,
            )
        async with asyncio.TaskGroup() as group:
            background = [
                group.create_task(wire.run(), name="wake-ups"),
                group.create_task(Janitor(services).run(), name="janitor"),
            ]
            _log.info("control endpoint ready", host=host, port=port, region=settings.region)
            ready(host, port)
            await stop.wait()
            wire.close()
            for task in background:
                task.cancel()
    finally:
        wire.close()
        await runner.cleanup()
    _log.info("control endpoint stopped")


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


def _application(services: Services, api: EcsApi, wire: AgentWire) -> web.Application:
    async def health(_: web.Request) -> web.Response:
        try:
            async with asyncio.timeout(_HEALTH_LIMIT_S):
                await services.store.get(records.CONTROL_ID_KEY)
        except (StoreFailure, TimeoutError) as error:
            return web.Response(status=503, text=f"store: {error!r}\n")
        return web.Response(text="ok\n")

    app = web.Application()
    app.router.add_post("/", api.handle)
    app.router.add_get("/healthz", health)
    wire.add_routes(app.router)
    return app


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
    match = _LISTEN.fullmatch(text)
    if match is None or int(match[3]) > 65535:
        raise ConfigError(
            f"listen {text!r} is not HOST:PORT; write for example {DEFAULT_LISTEN} or [::1]:6820"
        )
    return match[1] or match[2] or "127.0.0.1", int(match[3])


def _tls(settings: ControlSettings) -> ssl.SSLContext | None:
    if settings.tls_certificate is None and settings.tls_key is None:
        return None
    if settings.tls_certificate is None or settings.tls_key is None:
        raise ConfigError("TLS needs both a certificate and a key; give the one that is missing")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(settings.tls_certificate, settings.tls_key)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"TLS certificate {settings.tls_certificate} and key {settings.tls_key} cannot be "
            f"used: {error}; give PEM files that belong together"
        ) from None
    return context


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
