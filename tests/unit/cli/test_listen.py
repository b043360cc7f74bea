from __future__ import annotations

import errno
import socket

import pytest

from agent.cli import listen
from agent.cli.client import CliError
from agent.config.addresses import HostPort
from agent.errors import ExitCode


def test_what_is_no_address_names_its_option() -> None:
    with pytest.raises(CliError) as caught:
        listen.parse("127.0.0.1:99999", "--agent-listen")
    assert caught.value.exit_code == ExitCode.USAGE
    assert str(caught.value) == (
        "--agent-listen 127.0.0.1:99999: has the port 99999, which is too large; the largest is 65535"
    )


def test_a_wildcard_is_reached_through_the_loopback() -> None:
    assert listen.url(HostPort("0.0.0.0", 1)) == "http://127.0.0.1:1"
    assert listen.url(HostPort("::", 1)) == "http://[::1]:1"


def test_port_0_becomes_a_free_port() -> None:
    assert listen.claim(HostPort("127.0.0.1", 0)).port > 0


def test_a_port_in_use_is_one_line() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen(1)
        port = taken.getsockname()[1]
        with pytest.raises(CliError) as caught:
            listen.claim(HostPort("127.0.0.1", port))
    assert str(caught.value) == (
        f"--listen 127.0.0.1:{port}: the port is in use by another process; choose another port"
    )


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (PermissionError(errno.EACCES, "x"), "use a port above 1023"),
        (OSError(errno.EADDRNOTAVAIL, "x"), "this machine does not have this address"),
        (socket.gaierror(-2, "Name or service not known"), "use an IP address"),
        (OSError(errno.ENETDOWN, "x"), "Network is down"),
    ],
)
def test_other_troubles_name_their_mend(error: OSError, told: str) -> None:
    assert told in listen.cannot_listen(HostPort("h", 1), error)
