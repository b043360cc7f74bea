"""What a sender may take of a server, and how many connections the descriptor limit allows.

A connection is **proven** once a key, token or signature on it was verified, or where nothing is asked
for; until then it is a stranger's.
"""

from __future__ import annotations

import contextlib
import resource
from typing import Final

from msgspec import Struct

WANTED_DESCRIPTORS: Final = 65536
_KEPT_BACK: Final = 256
"""Descriptors for everything that is no connection: files, the store, the event loop."""
_MOST_CONNECTIONS: Final = 20480
_MOST_SILENT: Final = 4096
_MOST_UNPROVEN: Final = 4096
"""Both so many that a fleet behind one address may come back at once; memory is bounded besides."""
_MIB: Final = 1024 * 1024


class Limits(Struct, frozen=True, kw_only=True):
    """What one server allows all its senders together; times in seconds."""

    connections: int = _MOST_CONNECTIONS
    """Open connections in all; those that the next two do not take are for proven senders."""
    silent: int = _MOST_SILENT
    """On which nothing has come yet; they cost a descriptor and little else."""
    silent_per_address: int = _MOST_SILENT // 2
    """Of an IPv4 address, or of an IPv6 network of 64 bits."""
    unproven: int = _MOST_UNPROVEN
    """That have sent something, and have not proven who they are."""
    unproven_per_address: int = _MOST_UNPROVEN // 2
    unproven_bytes: int = 64 * _MIB
    """Received from unproven senders and still held in memory, an upper bound."""
    head_s: float = 10.0
    """From the first byte of a request to its whole head. The first byte of a connection and the TLS
    handshake have as long each."""
    head_bytes: int = 64 * 1024
    """Request line and headers."""
    idle_s: float = 75.0
    """A connection of a proven sender between two requests; the others are closed after an answer."""
    stall_s: float = 10.0
    """How often a connection is looked at; a reader that took nothing at three looks in a row is gone."""
    lingering_bytes: int = _MIB
    """Of a body that a stranger goes on sending after its answer; then the connection is cut."""
    answers_per_s: float = 10.0
    """Answers to strangers, of one address; those above it wait for ``answer_delay_s``."""
    answers_burst: int = 50
    answer_delay_s: float = 0.5


def for_servers(descriptors: int, servers: int) -> Limits:
    """Return the limits of each of several servers that share one process's descriptors.

    Args:
        descriptors: how many the process may have open.
        servers: how many servers it runs.
    """
    share = max(16, (descriptors - _KEPT_BACK) // servers)
    connections = min(share, _MOST_CONNECTIONS)
    silent = min(connections // 4, _MOST_SILENT)
    unproven = min(connections // 4, _MOST_UNPROVEN)
    return Limits(
        connections=connections,
        silent=silent,
        silent_per_address=max(2, silent // 2),
        unproven=unproven,
        unproven_per_address=max(2, unproven // 2),
    )


def raise_descriptor_limit(wanted: int = WANTED_DESCRIPTORS) -> int:
    """Raise the soft limit of descriptors as far as it is wanted and allowed; return what it is then.

    Never lowers it. A process that may not change it goes on with what it has.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
            soft = most
    return wanted if soft == resource.RLIM_INFINITY else soft
