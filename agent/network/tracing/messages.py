"""Decodes the kernel's messages about the rules that a traced packet meets. Pure.

Source: ``linux/netfilter/nf_tables.h``, enum ``nft_trace_attributes``; ``net/netfilter/nf_tables_trace.c``.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

_HEADER: Final = struct.Struct("=IHHII")
_FAMILY_BYTES: Final = 4
"""Size of ``struct nfgenmsg``, which begins with the family."""
_ATTRIBUTE: Final = struct.Struct("=HH")
_TYPE_MASK: Final = 0x3FFF
_TRACE: Final = 10 << 8 | 17
_TABLE, _CHAIN, _HANDLE, _KIND, _VERDICT, _POLICY = 1, 2, 3, 4, 5, 16
_CODE, _TO_CHAIN = 1, 2
_FAMILIES: Final = {1: "inet", 2: "ip", 3: "arp", 5: "netdev", 7: "bridge", 10: "ip6"}
_KINDS: Final = {1: "policy", 2: "return", 3: "rule"}
_VERDICTS: Final = {
    0: "drop", 1: "accept", 2: "stolen", 3: "queue", 4: "repeat", -1: "continue", -2: "break",
    -3: "jump", -4: "goto", -5: "return",
}  # fmt: skip


class TraceEvent(NamedTuple):
    """One thing that happened to a traced packet."""

    family: str
    table: str
    chain: str
    kind: str
    """``rule``, ``return``, or ``policy`` at the end of a base chain."""
    handle: int
    """Of the rule within its table; 0 for a policy."""
    verdict: str
    """For a jump with the name of the chain."""


def decode(datagram: bytes) -> list[TraceEvent]:
    """Return the events in a datagram; other messages, and broken ones, are skipped."""
    events = []
    for kind, body in _messages(datagram):
        if kind != _TRACE or len(body) < _FAMILY_BYTES:
            continue
        found = dict(_attributes(body[_FAMILY_BYTES:]))
        what = _KINDS.get(_number(found.get(_KIND, b"")))
        if what is None:
            continue
        events.append(
            TraceEvent(
                _FAMILIES.get(body[0], str(body[0])),
                _text(found.get(_TABLE, b"")),
                _text(found.get(_CHAIN, b"")),
                what,
                int.from_bytes(found.get(_HANDLE, b"")),
                _verdict(what, found),
            )
        )
    return events


def _verdict(kind: str, found: dict[int, bytes]) -> str:
    if kind == "policy":
        return _VERDICTS.get(_number(found.get(_POLICY, b"")), "")
    inner = dict(_attributes(found.get(_VERDICT, b"")))
    verdict = _VERDICTS.get(_number(inner.get(_CODE, b"")), "")
    return f"{verdict} {_text(inner.get(_TO_CHAIN, b''))}".strip()


def _messages(datagram: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + _HEADER.size <= len(datagram):
        length, kind, *_ = _HEADER.unpack_from(datagram, at)
        if length < _HEADER.size or at + length > len(datagram):
            return
        yield kind, datagram[at + _HEADER.size : at + length]
        at += (length + 3) & ~3


def _attributes(body: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + _ATTRIBUTE.size <= len(body):
        length, kind = _ATTRIBUTE.unpack_from(body, at)
        if length < _ATTRIBUTE.size or at + length > len(body):
            return
        yield kind & _TYPE_MASK, body[at + _ATTRIBUTE.size : at + length]
        at += (length + 3) & ~3


def _number(value: bytes) -> int:
    return int.from_bytes(value, signed=True)


def _text(value: bytes) -> str:
    return value.rstrip(b"\0").decode(errors="replace")
