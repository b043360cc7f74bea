"""Sends many requests for links, addresses and routes at once, and returns what the kernel says to each.

The kernel executes all messages of a datagram, in their order, before ``send`` returns; its answers wait in the
socket then. So there is nothing to wait for, and everything here blocks only for as long as the kernel works.

Sources: netlink(7), ``linux/netlink.h``.
Tests: ``tests/integration/network/test_sandbox.py``, ``tests/unit/network/kernel/test_route_requests.py``.
"""

from __future__ import annotations

import os
import socket
import struct
from typing import TYPE_CHECKING, Final

from pyroute2.netlink.exceptions import NetlinkError

from agent.errors import NetworkFailure
from agent.network.kernel.raw_messages import ACK, ERROR, REQUEST, attributes, message

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from agent.network.kernel.route_requests import Request

_SOL_NETLINK, _CAPPED_ANSWERS, _WORDS_IN_ANSWERS = 270, 10, 11
_HEADER: Final = struct.Struct("=IHHII")
_CODE: Final = struct.Struct("=i")
_WORDS: Final = 1
"""``NLMSGERR_ATTR_MSG``."""
_HAS_WORDS: Final = 0x200
"""``NLM_F_ACK_TLVS``, in the flags of an answer."""
_DATAGRAM: Final = 65_536
_LIMIT_S: Final = 10.0


def once(requests: Sequence[Request]) -> list[NetlinkError | None]:
    """Do what ``exchange`` does, with a socket in the network namespace of the calling thread.

    Raises:
        NetworkFailure: the kernel gives no socket, or did not answer.
    """
    try:
        talk = opened()
    except OSError as error:
        raise NetworkFailure(f"no netlink socket: {error}") from None
    with talk:
        return exchange(talk, requests)


def opened() -> socket.socket:
    """Return a socket for ``exchange`` in the network namespace of the calling thread.

    Raises:
        OSError: the kernel gives none.
    """
    talk = socket.socket(
        socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE
    )
    try:
        talk.settimeout(_LIMIT_S)
        for option in (_CAPPED_ANSWERS, _WORDS_IN_ANSWERS):
            talk.setsockopt(_SOL_NETLINK, option, 1)
        talk.bind((0, 0))
    except OSError:
        talk.close()
        raise
    return talk


def exchange(talk: socket.socket, requests: Sequence[Request]) -> list[NetlinkError | None]:
    """Have requests executed in their order; return the error of each, or None.

    Later ones are executed even if an earlier one fails. One caller at a time.

    Raises:
        NetworkFailure: the kernel did not answer; the socket is of no use any more.
    """
    sent = [
        message(kind, flags | REQUEST | ACK, number, body)
        for number, (kind, flags, body) in enumerate(requests, 1)
    ]
    found: list[NetlinkError | None] = [None] * len(requests)
    left = set(range(1, len(requests) + 1))
    try:
        talk.send(b"".join(_padded(each) for each in sent))
        while left:
            for number, error in answers(talk.recv(_DATAGRAM)):
                if number in left:
                    left.discard(number)
                    found[number - 1] = error
    except OSError as error:
        raise NetworkFailure(f"the kernel did not answer: {error}") from None
    return found


def answers(data: bytes) -> Iterator[tuple[int, NetlinkError | None]]:
    """Yield number and error of each answer in a datagram; stops at invalid data. Pure."""
    start = 0
    while start + _HEADER.size + _CODE.size <= len(data):
        length, kind, flags, number, _ = _HEADER.unpack_from(data, start)
        if length < _HEADER.size + _CODE.size or start + length > len(data):
            return
        if kind == ERROR:
            code = -_CODE.unpack_from(data, start + _HEADER.size)[0]
            # After the code comes the header of the request, and then what the kernel says of it.
            said = data[start + 2 * _HEADER.size + _CODE.size : start + length]
            yield number, _error(code, said if flags & _HAS_WORDS else b"")
        start += (length + 3) & ~3


def _error(code: int, said: bytes) -> NetlinkError | None:
    if not code:
        return None
    words = next((value for kind, value in attributes(said) if kind == _WORDS), b"")
    text = words.rstrip(b"\0").decode(errors="replace")
    return NetlinkError(code, text or os.strerror(code))


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
