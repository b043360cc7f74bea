"""Where control listens: which address serves whom, with or without TLS, and the limits of each.

Each address has its own table of connections, so that strangers on an agents' address use nothing of
the operators' address.

Tests: ``tests/unit/controlplane/test_server.py``.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from typing import TYPE_CHECKING, Final

import structlog
from msgspec import Struct

from agent.config import addresses
from agent.controlplane.front import address as address_file
from agent.controlplane.front.operators import Owner
from agent.errors import AgentError, ConfigError
from agent.listening import limits
from agent.listening.server import HttpServer

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from aiohttp import web

    from agent.controlplane.agents.tokens import AgentTokens
    from agent.controlplane.front.applications import Applications
    from agent.controlplane.front.operators import Open, Signed
    from agent.controlplane.server.settings import ControlSettings
    from agent.listening.limits import Limits

TRUSTED: Final = "pki/trusted.pem"
"""In the data directory: what signs control's certificate, if no other was given."""
_SHUTDOWN_S: Final = 1.0
"""How long open calls may take when the server stops; held polls are answered at once."""
_LINGER_S: Final = 2.0
"""How long the body of an answered call is still read and discarded, so that the response arrives."""

_SHARE_OF_SOCKET: Final = 16
"""One in so many descriptors is for the Unix socket, which nobody but control's owner uses."""

_log = structlog.get_logger(__name__)


class ListenFailure(AgentError):
    """An address cannot be bound; ``cause`` is the ``OSError``."""

    def __init__(self, option: str, address: str, cause: OSError) -> None:
        super().__init__(f"{option} {address}: {cause.strerror or cause}; choose another address")
        self.option = option
        self.address = address
        self.cause = cause


class Site(Struct, frozen=True):
    """One address and what it serves."""

    option: str
    address: str
    tls: ssl.SSLContext | None

    @property
    def is_open(self) -> bool:
        """Whether other machines can reach it."""
        return not is_loopback(parse_listen(self.address)[0])


class Front:
    """Everything that control listens on."""

    def __init__(self, sites: Sequence[Site], served: list[HttpServer]) -> None:
        """Take what ``open`` created."""
        self._sites = sites
        self._served = served

    @classmethod
    async def open(
        cls,
        settings: ControlSettings,
        tls: ssl.SSLContext | None,
        applications: Applications,
        operators: Signed | Open,
        *,
        own_names_only: bool,
    ) -> Front:
        """Listen on all addresses; ``close`` ends it.

        Raises:
            ListenFailure: an address cannot be bound; then no address is listened on.
        """
        sites = plan(settings, tls)
        descriptors = limits.raise_descriptor_limit()
        of_owner = descriptors // _SHARE_OF_SOCKET if settings.socket is not None else 0
        bounds = limits.for_servers(descriptors - of_owner, len(sites))
        front = cls(sites, [])
        try:
            await front._serve(
                settings.socket,
                applications,
                applications.for_operators(
                    operators, own_names_only=own_names_only, with_console=True
                ),
                bounds,
                limits.for_servers(of_owner, 1),
            )
        except BaseException:
            await front.close()
            raise
        return front

    async def _serve(
        self,
        unix: Path | None,
        applications: Applications,
        for_operators: web.Application,
        bounds: Limits,
        of_owner: Limits,
    ) -> None:
        for_all, *for_agents = self._sites
        self._served.append(await _listening(for_all, for_operators, bounds))
        for site in for_agents:
            server = await _listening(site, applications.for_agents(), bounds)
            self._served.append(server)
        if unix is not None:
            owner = applications.for_operators(Owner(applications.names))
            self._served.append(await _listening_unix(unix, owner, of_owner))

    @property
    def operators(self) -> tuple[str, int]:
        """Host and port of the operators' address."""
        host, port = self._served[0].addresses[0][:2]
        return host, port

    @property
    def agents(self) -> list[tuple[str, int]]:
        """Host and port of each address that serves agents."""
        of_agents = self._served[1 : len(self._sites)] or self._served[:1]
        return [where[:2] for server in of_agents for where in server.addresses]

    async def close(self) -> None:
        """Stop listening, and end open calls."""
        async with asyncio.TaskGroup() as group:
            for server in self._served:
                group.create_task(server.close())

    def warn(self, agent_tokens: AgentTokens, *, is_open: bool) -> None:
        """Log what others on the network can do or read here; nothing if everything is protected."""
        sites = self._sites
        operators = sites[0]
        plain = [site.address for site in sites if site.is_open and site.tls is None]
        if is_open:
            reached = "from the network" if operators.is_open else "as any user of this machine"
            _log.warning(
                f"open: anyone who can reach this port, {reached}, controls every host of the fleet as "
                "root; remove --open, and sign with the keys that are then created",
                address=operators.address,
            )
        elif operators.is_open and operators.tls is None:
            _log.warning(
                "operators are served without TLS outside the loopback: requests and responses, "
                "including secrets of tasks, can be read on the network; give --tls, or "
                "--tls-certificate and --tls-key",
                address=operators.address,
            )
        elif plain:
            _log.warning(
                "agents are served without TLS outside the loopback: tokens, orders and registry "
                "credentials can be read on the network; give --tls, or --tls-certificate and --tls-key",
                addresses=plain,
            )
        if agent_tokens.file is None and any(site.is_open for site in sites[1:]):
            _log.warning(
                "agents are admitted without a token outside the loopback: anyone who can reach this "
                "port can register as a host and get tasks; give --token-file",
                addresses=[site.address for site in sites[1:] if site.is_open],
            )


def plan(settings: ControlSettings, tls: ssl.SSLContext | None) -> list[Site]:
    """Return what to listen on, ``listen`` first.

    The operators' address uses TLS like any other, except on the loopback next to an address for
    agents: there is nobody to hide the traffic from, and the tools would need the CA.
    """
    first = Site("--listen", settings.listen, tls)
    if not settings.agent_listen:
        return [first]
    plain = first if first.is_open else Site(first.option, first.address, None)
    return [plain, *(Site("--agent-listen", where, tls) for where in settings.agent_listen)]


def address(
    settings: ControlSettings, host: str, port: int, endpoint_variables: list[str]
) -> address_file.Address:
    """Return how the owner reaches the operators' address, where these variables say so to AWS tools."""
    here = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - address to connect to instead of a wildcard
    is_on = settings.tls_own or settings.tls_certificate is not None
    trusted = settings.tls_certificate or settings.data_dir / TRUSTED
    has_tls = is_on and not (
        settings.agent_listen and is_loopback(parse_listen(settings.listen)[0])
    )
    return address_file.Address(
        url=f"{'https' if has_tls else 'http'}://{addresses.HostPort(here, port).text()}",
        region=settings.region,
        keys_file=str(settings.keys_file or ""),
        certificate=str(trusted) if has_tls else "",
        socket=str(settings.socket or ""),
        audit_file=str(settings.audit.file) if settings.audit else "",
        endpoint_variables=endpoint_variables,
    )


async def _listening(site: Site, app: web.Application, bounds: Limits) -> HttpServer:
    host, port = parse_listen(site.address)
    server = await _server(app, bounds)
    try:
        await server.listen_tcp(host, port, site.tls)
    except OSError as error:
        await server.close()
        raise ListenFailure(site.option, site.address, error) from error
    return server


async def _listening_unix(path: Path, app: web.Application, bounds: Limits) -> HttpServer:
    """Listen on a Unix socket that only the owner can use; replaces an old socket file."""
    server = await _server(app, bounds)
    try:
        server.listen(await asyncio.to_thread(_unix_socket, path), is_trusted=True)
    except OSError as error:
        await server.close()
        raise ListenFailure("--socket", str(path), error) from error
    return server


async def _server(app: web.Application, bounds: Limits) -> HttpServer:
    return await HttpServer.open(app, bounds, shutdown_s=_SHUTDOWN_S, lingering_s=_LINGER_S)


def _unix_socket(path: Path) -> socket.socket:
    path.unlink(missing_ok=True)
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        made.bind(str(path))
        path.chmod(0o600)  # Nobody can connect before this, because nothing listens yet.
    except OSError:
        made.close()
        raise
    return made


def parse_listen(text: str) -> tuple[str, int]:
    """Return host and port of ``HOST:PORT``; an empty host means the loopback.

    Raises:
        ConfigError: the text is not such an address.
    """
    try:
        return addresses.parse_listen(text)
    except ValueError as error:
        raise ConfigError(f"listen {text!r} {error}") from None


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach a host name. Pure."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
