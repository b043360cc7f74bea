"""Messages of DNS as bytes: what is asked, and answers. Pure.

Only what is needed to answer for our own names; everything else is passed on as it came. Sources: RFC 1035
(messages), RFC 2782 (SRV), RFC 3596 (AAAA), RFC 6891 (EDNS).
"""

from __future__ import annotations

import ipaddress
import struct
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

A: Final = 1
SOA: Final = 6
AAAA: Final = 28
SRV: Final = 33
ANY: Final = 255
_OPT: Final = 41
_IN: Final = 1
NO_ERROR: Final = 0
FORMAT_ERROR: Final = 1
SERVER_FAILURE: Final = 2
NO_SUCH_NAME: Final = 3

_HEADER: Final = struct.Struct("!HHHHHH")
_FIXED: Final = struct.Struct("!HHIH")
"""Type, class, TTL and length of a record, behind its name."""
_QUESTION: Final = struct.Struct("!HH")
_QUERY_ONLY: Final = 0xF800
"""The bits of an answer and of another operation than a query."""
_RESPONSE: Final = 0x8000
_AUTHORITATIVE: Final = 0x0400
_RECURSION_DESIRED: Final = 0x0100
_RECURSION_AVAILABLE: Final = 0x0080
_LABEL_MOST: Final = 63
_NAME_MOST: Final = 255
_PLAIN_BYTES: Final = 512
"""How long an answer may be without EDNS."""
OUR_BYTES: Final = 1232
"""How long an answer of ours may be: what passes every network unbroken."""


class Question(NamedTuple):
    """What somebody asks."""

    id: int
    name: str
    """Without the dot at the end, in lower case; empty for the root."""
    type: int
    wire: bytes
    """The question as it came, which its answer repeats."""
    recursion_desired: bool
    most_bytes: int
    """How long the answer may be."""
    has_edns: bool


class Answer(NamedTuple):
    """One record."""

    name: str
    type: int
    ttl_s: int
    data: bytes


class NotForUs(Exception):
    """The message is not a question that we could answer: it is passed on, or dropped."""


def read(message: bytes) -> Question:
    """Return what a datagram asks.

    Raises:
        NotForUs: it is not a query of one question in the class of the internet, or damaged.
    """
    try:
        return _read(message)
    except (struct.error, IndexError, UnicodeDecodeError):
        raise NotForUs("it is damaged") from None


def _read(message: bytes) -> Question:
    id_, flags, questions, answers, authorities, others = _HEADER.unpack_from(message)
    if flags & _QUERY_ONLY or questions != 1 or answers or authorities:
        raise NotForUs("it is not a query of one question")
    name, at = _name(message, _HEADER.size)
    kind, class_ = _QUESTION.unpack_from(message, at)
    end = at + _QUESTION.size
    if class_ != _IN:
        raise NotForUs("it is of another class")
    most_bytes = _most_bytes(message, end, others)
    return Question(
        id=id_,
        name=name,
        type=kind,
        wire=message[_HEADER.size : end],
        recursion_desired=bool(flags & _RECURSION_DESIRED),
        most_bytes=most_bytes or _PLAIN_BYTES,
        has_edns=bool(most_bytes),
    )


def _name(message: bytes, at: int) -> tuple[str, int]:
    """Return the name of a question, which is never compressed, and where it ends."""
    labels, length = [], 1
    while (size := message[at]) != 0:
        length += size + 1
        if size > _LABEL_MOST or length > _NAME_MOST or at + size >= len(message):
            raise NotForUs("its name is damaged")
        labels.append(message[at + 1 : at + 1 + size].decode("ascii").lower())
        if "." in labels[-1]:
            raise NotForUs("its name has a dot within a label")
        at += size + 1
    return ".".join(labels), at + 1


def _most_bytes(message: bytes, at: int, records: int) -> int:
    """Return how long the answer to a query with EDNS may be; 0 without."""
    for _ in range(records):
        _, at = _name(message, at)
        kind, size, _, length = _FIXED.unpack_from(message, at)
        if kind == _OPT:
            return min(max(int(size), _PLAIN_BYTES), OUR_BYTES)
        at += _FIXED.size + length
    return 0


def name_bytes(name: str) -> bytes:
    """Return a name as it is in a message; raises ``ValueError`` for one that cannot be."""
    labels = [label.encode("ascii") for label in name.split(".")] if name else []
    if any(not 1 <= len(label) <= _LABEL_MOST for label in labels):
        raise ValueError(f"{name!r} is not a name of DNS")
    found = b"".join(bytes([len(label)]) + label for label in labels) + b"\0"
    if len(found) > _NAME_MOST:
        raise ValueError(f"{name!r} is too long for a name of DNS")
    return found


def address_of(name: str, ttl_s: int, address: str) -> Answer:
    """Return the A or AAAA record of an address."""
    found = ipaddress.ip_address(address)
    return Answer(name, A if found.version == 4 else AAAA, ttl_s, found.packed)


def service_of(name: str, ttl_s: int, port: int, target: str) -> Answer:
    """Return the SRV record of a port at a target; all have the same priority and weight, as on AWS."""
    return Answer(name, SRV, ttl_s, struct.pack("!HHH", 1, 1, port) + name_bytes(target))


def authority_of(zone: str, ttl_s: int) -> Answer:
    """Return the SOA record of a zone: for how long the absence of a name may be remembered."""
    data = name_bytes(f"ns.{zone}") + name_bytes(f"hostmaster.{zone}")
    times = struct.pack("!IIIII", 1, 7200, 900, 1209600, ttl_s)
    return Answer(zone, SOA, ttl_s, data + times)


def response(
    question: Question,
    code: int,
    answers: Sequence[Answer] = (),
    *,
    authority: Answer | None = None,
    also: Iterable[Answer] = (),
) -> bytes:
    """Return the answer to a question.

    Answers that do not fit are left out: whoever asks gets some of several in any case. ``also`` are
    addresses of what the answers name, as far as they fit.
    """
    flags = _RESPONSE | _AUTHORITATIVE | _RECURSION_AVAILABLE | code
    flags |= _RECURSION_DESIRED if question.recursion_desired else 0
    own = b"\0" + _FIXED.pack(_OPT, OUR_BYTES, 0, 0) if question.has_edns else b""
    left = question.most_bytes - _HEADER.size - len(question.wire) - len(own)
    sections: list[list[bytes]] = []
    for records in (answers, [authority] if authority is not None else [], also):
        written = []
        for record in records:
            wire = _record(question, record)
            if len(wire) <= left:
                written.append(wire)
                left -= len(wire)
        sections.append(written)
    header = _HEADER.pack(
        question.id,
        flags,
        1,
        len(sections[0]),
        len(sections[1]),
        len(sections[2]) + question.has_edns,
    )
    return b"".join([header, question.wire, *sections[0], *sections[1], *sections[2], own])


def _record(question: Question, record: Answer) -> bytes:
    # The name of the question begins behind the header, where a pointer leads.
    name = b"\xc0\x0c" if record.name == question.name else name_bytes(record.name)
    return name + _FIXED.pack(record.type, _IN, record.ttl_s, len(record.data)) + record.data
