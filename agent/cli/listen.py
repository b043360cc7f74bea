"""``HOST:PORT`` of ``--listen`` and similar options: the option, its syntax, and a trial bind.

Pure except for the trial bind.
"""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Any

import click

from agent.cli.client import CliError
from agent.config import addresses
from agent.config.addresses import HostPort
from agent.errors import ExitCode

if TYPE_CHECKING:
    from collections.abc import Callable

SOCKET_PATH_LIMIT = 107
"""The longest path of a Unix socket that the kernel accepts, in bytes."""
_ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - address to connect to instead of a wildcard


def listen_option(help_text: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return the ``--listen`` option of a command that runs a control endpoint."""
    return click.option(
        "--listen",
        "listen_on",
        metavar="HOST:PORT",
        default=f"127.0.0.1:{addresses.CONTROL_PORT}",
        show_default=True,
        help=help_text,
    )


def parse(text: str, option: str = "--listen") -> HostPort:
    """Parse ``HOST:PORT``; an empty host means the loopback. Errors name ``option``.

    Raises:
        CliError: the text is not such an address.
    """
    try:
        return addresses.parse_listen(text)
    except ValueError as error:
        raise CliError(f"{option} {text}: {error}", exit_code=ExitCode.USAGE) from None


def url(address: HostPort) -> str:
    """Return the URL with which this machine reaches a server that listens on the address."""
    return f"http://{HostPort(_ANYWHERE.get(address.host, address.host), address.port).text()}"


def claim(address: HostPort) -> HostPort:
    """Check that the address can be bound, and return it; port 0 becomes a free port.

    Raises:
        CliError: the address cannot be bound; the text says how to fix it.
    """
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    try:
        info = socket.getaddrinfo(address.host, address.port, family, socket.SOCK_STREAM)[0]
        with socket.socket(info[0], socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(info[4])
            return HostPort(address.host, int(probe.getsockname()[1]))
    except OSError as error:
        raise CliError(cannot_listen(address, error)) from None


def cannot_listen(address: HostPort, error: OSError, option: str = "--listen") -> str:
    """Return one line that says why a server cannot listen and how to fix it."""
    wanted = f"{option} {address.text()}"
    if error.errno == 98:  # EADDRINUSE
        return f"{wanted}: the port is in use by another process; choose another port"
    if error.errno == 13:  # EACCES
        return f"{wanted}: only root may listen on this port; use a port above 1023"
    if error.errno == 99:  # EADDRNOTAVAIL
        return f"{wanted}: this machine does not have this address; use one that it has, or 0.0.0.0"
    if isinstance(error, socket.gaierror):
        return f"{wanted}: the host name is unknown; use an IP address"
    # asyncio sets a long text in strerror; the text of the error code is shorter.
    text = os.strerror(error.errno) if error.errno else str(error)
    return f"{wanted}: {text}; choose another address"
