"""The ingress as a whole: builds its parts, runs them, and ends them in order."""

from __future__ import annotations

import asyncio
import os
import pwd
import resource
from pathlib import Path
from typing import TYPE_CHECKING, Final

import structlog
from msgspec import Struct

from agent.errors import ConfigError, leaves
from agent.ingress.configuration import Place
from agent.ingress.link import Link
from agent.ingress.process import Haproxy
from agent.ingress.proxy import Proxy
from agent.upstream.credentials import Token, is_readable_on_the_way
from agent.upstream.longpoll.exchange import CallLimits, parse_endpoint
from agent.upstream.longpoll.http_client import HttpClient

if TYPE_CHECKING:
    from collections.abc import Callable

SOCKET_PATH_BYTES: Final = 90
"""HAProxy adds a suffix to a path of a socket while it binds it; the kernel takes 107."""
_USER: Final = "haproxy"
_CONNECTIONS: Final = 20_000
_OTHER_FILES: Final = 2000
"""Files of HAProxy besides those of requests: listening sockets, health checks."""

_log = structlog.get_logger(__name__)


class IngressSettings(Struct, frozen=True, kw_only=True):
    """Settings of an ingress."""

    endpoint: str
    """URL of control."""
    token_file: Path | None = None
    """None where control asks for no token."""
    ca_file: Path | None = None
    haproxy: Path
    """The program."""
    run_dir: Path
    """For its configuration and sockets; created if missing. Not for two ingresses at once."""
    address: str = "*"
    """Where listeners listen."""
    balancers: tuple[str, ...] = ()
    """Names of the load balancers to serve; none for all."""
    stop_s: float = 30.0
    """How long requests may take to finish at the end."""


async def serve(
    settings: IngressSettings, *, stop: asyncio.Event, ready: Callable[[], None]
) -> None:
    """Run an ingress until ``stop`` is set; ``ready`` is called once it follows control.

    At the end control is told, HAProxy takes no more connections, and requests may finish for ``stop_s``.

    Raises:
        ConfigError: a setting cannot be used.
    """
    endpoint = parse_endpoint(settings.endpoint)
    place = await asyncio.to_thread(_place, settings)
    if settings.token_file is not None and is_readable_on_the_way(endpoint):
        _log.warning("the token is sent unencrypted; use https:// for control", url=str(endpoint))
    client = await HttpClient.open(
        endpoint, CallLimits(), token=Token(file=settings.token_file), ca_file=settings.ca_file
    )
    haproxy = Haproxy(settings.haproxy, settings.run_dir / "haproxy.cfg", place.socket)
    link = Link(client, settings.balancers)
    try:
        async with asyncio.TaskGroup() as group:
            running = [
                group.create_task(link.run(), name="link to control"),
                group.create_task(Proxy(haproxy, link, place).run(), name="proxy"),
            ]
            ready()
            await stop.wait()
            for task in running:
                task.cancel()
    except ExceptionGroup as failures:
        for error in leaves(failures):
            if isinstance(error, ConfigError):
                raise error from None
        raise
    finally:
        await link.leave()
        await haproxy.stop(settings.stop_s if stop.is_set() else 0.0)
        await client.close()
    _log.info("ingress stopped")


def _place(settings: IngressSettings) -> Place:
    """Make the directory; return what a proxy has on this host. Blocks; raises ``ConfigError``."""
    run_dir = settings.run_dir
    try:
        run_dir.mkdir(mode=0o711, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"--run-dir {run_dir}: {error.strerror}; choose a directory that can be written"
        ) from None
    socket = run_dir / "haproxy.sock"
    if len(os.fsencode(socket)) > SOCKET_PATH_BYTES:
        raise ConfigError(
            f"--run-dir {run_dir}: is too long for a socket in it; use a shorter path"
        )
    return Place(
        socket=socket,
        log=run_dir / "health.sock",
        address=settings.address,
        user=_user(),
        connections=_connections(),
    )


def _connections() -> int:
    """Return how many connections the limit of open files allows, with two of them for each."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = _CONNECTIONS if most == resource.RLIM_INFINITY else (most - _OTHER_FILES) // 2
    return max(100, min(_CONNECTIONS, allowed))


def _user() -> str:
    """Return whom HAProxy's workers run as if root has started it; empty to stay as they are."""
    if os.geteuid() != 0:
        return ""
    try:
        pwd.getpwnam(_USER)
    except KeyError:
        return ""
    return _USER
