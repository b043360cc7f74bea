"""Adds and removes elements of nftables sets by netlink: one short transaction, no process.

``nft`` takes several milliseconds to start, which is too long for something needed at every launch.
Sources: ``linux/netfilter/nf_tables.h``, ``linux/netfilter/nfnetlink.h``.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import threading
from typing import TYPE_CHECKING, Final, NamedTuple

from agent.errors import NetworkFailure
from agent.network.kernel.raw_messages import ACK, ERROR, NESTED, REQUEST, attribute, message

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

BRIDGE_FAMILY: Final = 7
"""``NFPROTO_BRIDGE``."""
INET_FAMILY: Final = 1
"""``NFPROTO_INET``."""
_NETFILTER: Final = 12
_NFTABLES: Final = 10
_BATCH_BEGIN, _BATCH_END = 0x10, 0x11
_NEW_ELEMENT, _DELETE_ELEMENT = _NFTABLES << 8 | 12, _NFTABLES << 8 | 14
_CREATE: Final = 0x400
_LIST_TABLE, _LIST_SET, _LIST_ELEMENTS = 1, 2, 3
_LIST_ITEM, _ELEMENT_KEY, _DATA_VALUE = 1, 1, 1
_ELEMENT_DATA, _DATA_VERDICT, _VERDICT_CODE, _VERDICT_CHAIN = 2, 2, 1, 2
_GOTO: Final = struct.pack("!i", -4)
"""``NFT_GOTO``."""
_HEADER: Final = struct.Struct("=IHHII")
_FAMILY_HEADER: Final = struct.Struct("=BB")
_RESOURCE: Final = struct.Struct("!H")
_CODE: Final = struct.Struct("=i")
_DATAGRAM: Final = 65_536
AT_ONCE: Final = 400
"""Changes per transaction; more of them do not fit the send buffer."""
_LIMIT_S: Final = 10.0
_LINK_NAME_BYTES: Final = 16


def link_key(name: str) -> bytes:
    """Return the name of a link as it is stored in a set. Pure."""
    return name.encode().ljust(_LINK_NAME_BYTES, b"\0")


class Change(NamedTuple):
    """One element to add or remove."""

    set_name: str
    key: bytes
    """As stored in the set: fields in network byte order, each padded to four bytes."""
    removed: bool = False
    chain: str = ""
    """For a map of verdicts: the chain in which to continue."""


def encode(family: int, table: str, changes: Sequence[Change], sequence: int) -> bytes:
    """Return one transaction; only its last change is acknowledged. Pure.

    Messages are numbered from ``sequence``; there are two more of them than changes.
    """
    messages = [_message(_BATCH_BEGIN, REQUEST, sequence, 0, _NFTABLES)]
    for number, change in enumerate(changes, sequence + 1):
        flags = REQUEST if change.removed else REQUEST | _CREATE
        flags |= ACK if number == sequence + len(changes) else 0
        kind = _DELETE_ELEMENT if change.removed else _NEW_ELEMENT
        item = attribute(_ELEMENT_KEY | NESTED, attribute(_DATA_VALUE, change.key))
        if change.chain and not change.removed:
            item += _continue_in(change.chain)
        content = (
            attribute(_LIST_TABLE, table.encode() + b"\0")
            + attribute(_LIST_SET, change.set_name.encode() + b"\0")
            + attribute(_LIST_ELEMENTS | NESTED, attribute(_LIST_ITEM | NESTED, item))
        )
        messages.append(_message(kind, flags, number, family, 0, content))
    messages.append(_message(_BATCH_END, REQUEST, sequence + len(changes) + 1, 0, _NFTABLES))
    return b"".join(messages)


def _continue_in(chain: str) -> bytes:
    verdict = attribute(_VERDICT_CODE, _GOTO) + attribute(_VERDICT_CHAIN, chain.encode() + b"\0")
    return attribute(_ELEMENT_DATA | NESTED, attribute(_DATA_VERDICT | NESTED, verdict))


def _message(
    kind: int, flags: int, sequence: int, family: int, resource: int, content: bytes = b""
) -> bytes:
    body = _FAMILY_HEADER.pack(family, 0) + _RESOURCE.pack(resource) + content
    return message(kind, flags, sequence, body)


def errors(data: bytes) -> list[tuple[int, int]]:
    """Return number and error of each answer in a datagram; 0 is an acknowledgement. Pure."""
    found = []
    start = 0
    while start + _HEADER.size <= len(data):
        length, kind, _, sequence, _ = _HEADER.unpack_from(data, start)
        if length < _HEADER.size or start + length > len(data):
            break
        if kind == ERROR and length >= _HEADER.size + _CODE.size:
            found.append((sequence, -_CODE.unpack_from(data, start + _HEADER.size)[0]))
        start += (length + 3) & ~3
    return found


class SetElements:
    """Changes the sets of one table. Safe for any number of threads; every call blocks."""

    def __init__(self, family: int, table: str) -> None:
        """Take the names; nothing is opened before the first change."""
        self._family = family
        self._table = table
        self._socket: socket.socket | None = None
        self._sequence = 0
        self._lock = threading.Lock()
        self.port_id = 0
        """Identifies our own changes in kernel messages; 0 before the first."""

    def commit(self, changes: Iterable[Change]) -> None:
        """Make the changes, some hundred per transaction. Adding an existing element succeeds.

        Raises:
            FileNotFoundError: there is no such table, set, or element to remove; the transaction
                had no effect.
            NetworkFailure: the kernel refused for another reason.
        """
        left = list(changes)
        with self._lock:
            while left:
                now, left = left[:AT_ONCE], left[AT_ONCE:]
                self._transact(now)

    def close(self) -> None:
        """Close the socket; a later change opens another one."""
        with self._lock:
            self._drop()

    def _transact(self, changes: Sequence[Change]) -> None:
        try:
            talk = self._opened()
            first = self._sequence
            self._sequence = (first + len(changes) + 2) & 0x7FFF_FFFF
            talk.send(encode(self._family, self._table, changes, first))
            code = _answer(talk, first, len(changes))
        except OSError as error:
            self._drop()  # unread data must not be taken for the answer to the next request
            raise NetworkFailure(f"rules of ports cannot be changed: {error}") from None
        if code == errno.ENOENT:
            raise FileNotFoundError(code, os.strerror(code), self._table)
        if code:
            raise NetworkFailure(f"the kernel refused rules of ports: {os.strerror(code)}")

    def _opened(self) -> socket.socket:
        if self._socket is None:
            kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC
            self._socket = socket.socket(socket.AF_NETLINK, kind, _NETFILTER)
            self._socket.bind((0, 0))
            self._socket.settimeout(_LIMIT_S)
            self.port_id = self._socket.getsockname()[0]
        return self._socket

    def _drop(self) -> None:
        if self._socket is not None:
            self._socket.close()
        self._socket = None


def _answer(talk: socket.socket, first: int, count: int) -> int:
    """Return the error of a transaction, or 0. The answers are available once it was sent.

    After a failure there is only one answer: to the message that failed, or to the first one.
    """
    while True:
        for number, code in errors(talk.recv(_DATAGRAM)):
            if code and first <= number <= first + count + 1:
                return code
            if number == first + count:
                return 0
