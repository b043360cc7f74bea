"""Questions and answers of DNS as a client writes and reads them; shares nothing with the agent."""

from __future__ import annotations

import socket
import struct
from typing import NamedTuple

A, SOA, TXT, AAAA, SRV, OPT, ANY = 1, 6, 16, 28, 33, 41, 255


class Record(NamedTuple):
    """One record, with its data as a text where the type is known."""

    name: str
    type: int
    ttl_s: int
    data: str


class Response(NamedTuple):
    """An answer; ``code`` 3 says that there is no such name."""

    id: int
    code: int
    answers: list[Record]
    authority: list[Record]
    others: list[Record]


def query(name: str, kind: int = A, *, id_: int = 4711, edns_bytes: int = 0) -> bytes:
    """Return a question, with EDNS if it says how long the answer may be."""
    labels = b"".join(bytes([len(each)]) + each.encode() for each in name.split(".") if each)
    others = b"\0" + struct.pack("!HHIH", OPT, edns_bytes, 0, 0) if edns_bytes else b""
    header = struct.pack("!HHHHHH", id_, 0x0100, 1, 0, 0, 1 if others else 0)
    return header + labels + b"\0" + struct.pack("!HH", kind, 1) + others


def read_response(message: bytes) -> Response:
    """Return what an answer says; fails for one that has a byte too many or too few."""
    id_, flags, questions, *counts = struct.unpack_from("!HHHHHH", message)
    assert flags & 0x8000, "it is an answer"
    at = 12
    for _ in range(questions):
        _, at = _name(message, at)
        at += 4
    sections = []
    for count in counts:
        section = []
        for _ in range(count):
            name, at = _name(message, at)
            kind, _, ttl_s, length = struct.unpack_from("!HHIH", message, at)
            at += 10
            section.append(Record(name, kind, ttl_s, _data(message, kind, at, length)))
            at += length
        sections.append(section)
    assert at == len(message)
    return Response(id_, flags & 15, *sections)


def _data(message: bytes, kind: int, at: int, length: int) -> str:
    data = message[at : at + length]
    if kind == A:
        return socket.inet_ntop(socket.AF_INET, data)
    if kind == AAAA:
        return socket.inet_ntop(socket.AF_INET6, data)
    if kind == SRV:
        port = struct.unpack_from("!H", data, 4)[0]
        return f"{_name(message, at + 6)[0]}:{port}"
    return data.hex()


def _name(message: bytes, at: int) -> tuple[str, int]:
    labels, end = [], 0
    while size := message[at]:
        if size >= 0xC0:
            end = end or at + 2
            at = struct.unpack_from("!H", message, at)[0] & 0x3FFF
            continue
        labels.append(message[at + 1 : at + 1 + size].decode())
        at += size + 1
    return ".".join(labels), end or at + 1
