"""``HOST:PORT`` of ``--listen`` and its like: the option, its syntax, and whether it can be had.

Pure but for one test bind.
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
"""Bytes of a Unix socket's path that the kernel takes."""
_ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - what to call instead of a wildcard


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
    """Parse ``HOST:PORT``; an empty host means the loopback. ``option`` is named in the error.

    Raises:
        CliError: the text is no such address.
    """
    try:
        return addresses.parse_listen(text)
    except ValueError as error:
        raise CliError(f"{option} {text}: {error}", exit_code=ExitCode.USAGE) from None


def url(address: HostPort) -> str:
    """Return the URL under which this machine reaches a server that listens there."""
    return f"http://{HostPort(_ANYWHERE.get(address.host, address.host), address.port).text()}"


def claim(address: HostPort) -> HostPort:
    """Return the address as it can be bound now: port 0 becomes a free one.

    Raises:
        CliError: the address cannot be bound; the text names the mend.
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
    """Return one line that says why a server cannot listen, and the mend."""
    wanted = f"{option} {address.text()}"
    if error.errno == 98:  # EADDRINUSE
        return f"{wanted}: the port is in use by another process; choose another port"
    if error.errno == 13:  # EACCES
        return f"{wanted}: only root may listen on this port; use one above 1023"
    if error.errno == 99:  # EADDRNOTAVAIL
        return f"{wanted}: this machine has no such address; use one of its own, or 0.0.0.0"
    if isinstance(error, socket.gaierror):
        return f"{wanted}: the host name is unknown; write an IP address"
    # asyncio puts a long sentence of its own into strerror; the code's own text is shorter.
    text = os.strerror(error.errno) if error.errno else str(error)
    return f"{wanted}: {text}; choose another address"
