"""Messages of the kernel, as its netlink sockets send them."""

from __future__ import annotations

import socket
import struct

NEW_LINK, DEL_LINK, NEW_ADDRESS, DEL_ADDRESS = 16, 17, 20, 21
NEW_ROUTE, DEL_ROUTE, NEW_NETCONF = 24, 25, 80
UP = 1
AF_BRIDGE = 7


def message(kind: int, body: bytes) -> bytes:
    length = 16 + len(body)
    return struct.pack("=IHHII", length, kind, 0, 0, 0) + body + bytes(-length % 4)


def attribute(kind: int, value: bytes) -> bytes:
    length = 4 + len(value)
    return struct.pack("=HH", length, kind) + value + bytes(-length % 4)


def number(kind: int, value: int) -> bytes:
    return attribute(kind, struct.pack("=i", value))


def link(
    kind: int, index: int, flags: int, name: str, master: int = 0, family: int = 0, mac: str = ""
) -> bytes:
    body = struct.pack("=BBHiII", family, 0, 1, index, flags, 0)
    body += attribute(3, name.encode() + b"\0") + number(4, 1500)
    body += attribute(1, bytes.fromhex(mac)) if mac else b""
    return message(kind, body + (number(10, master) if master else b""))


def address(kind: int, index: int) -> bytes:
    return message(kind, struct.pack("=BBBBI", 2, 24, 0, 0, index))


def route(kind: int, oif: int, target: str = "10.9.0.0", protocol: int = 2) -> bytes:
    head = struct.pack("=8BI", 2, 24, 0, 0, 254, protocol, 253, 1, 0)
    return message(kind, head + attribute(1, socket.inet_aton(target)) + number(4, oif))


def switch(index: int, forwarding: int) -> bytes:
    return message(NEW_NETCONF, b"\2\0\0\0" + number(1, index) + number(2, forwarding))


def rule(kind: int, table: str, chain: str = "") -> bytes:
    body = b"\1\0\0\0" + attribute(1, table.encode() + b"\0")
    return message(10 << 8 | kind, body + (attribute(2, chain.encode() + b"\0") if chain else b""))
