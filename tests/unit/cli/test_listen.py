from __future__ import annotations

import errno
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.cli import listen
from agent.cli.client import CliError
from agent.cli.listen import Address
from agent.errors import ExitCode


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:80", Address("127.0.0.1", 80)),
        ("localhost:0", Address("localhost", 0)),
        (":8080", Address("127.0.0.1", 8080)),
        ("[::1]:8080", Address("::1", 8080)),
    ],
)
def test_addresses(text: str, address: Address) -> None:
    assert listen.parse(text) == address


@pytest.mark.parametrize(
    "text", ["", "80", "host", "host:", "host:x", "::1:80", "h:65536", "a b:1"]
)
def test_other_texts_are_refused_in_one_line(text: str) -> None:
    with pytest.raises(CliError, match="is not HOST:PORT; write for example") as caught:
        listen.parse(text)
    assert caught.value.exit_code == ExitCode.USAGE


@given(st.text(max_size=40))
def test_any_text_is_an_address_or_refused(text: str) -> None:
    try:
        address = listen.parse(text)
    except CliError:
        return
    assert 0 <= address.port <= 65535
    assert address.host


def test_a_wildcard_is_reached_through_the_loopback() -> None:
    assert Address("0.0.0.0", 1).url() == "http://127.0.0.1:1"
    assert Address("::", 1).url() == "http://[::1]:1"


def test_port_0_becomes_a_free_port() -> None:
    assert listen.claim(Address("127.0.0.1", 0)).port > 0


def test_a_port_in_use_is_one_line() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen(1)
        port = taken.getsockname()[1]
        with pytest.raises(CliError) as caught:
            listen.claim(Address("127.0.0.1", port))
    assert str(caught.value) == (
        f"--listen 127.0.0.1:{port}: the port is in use by another process; choose another port"
    )


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (PermissionError(errno.EACCES, "x"), "use one above 1023"),
        (OSError(errno.EADDRNOTAVAIL, "x"), "this machine has no such address"),
        (socket.gaierror(-2, "Name or service not known"), "write an IP address"),
        (OSError(errno.ENETDOWN, "x"), "Network is down"),
    ],
)
def test_other_troubles_name_their_mend(error: OSError, told: str) -> None:
    assert told in listen.cannot_listen(Address("h", 1), error)
