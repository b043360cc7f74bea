"""What one sender may use of a server, and how many connections the descriptor limit allows.

A connection is **proven** once a key, token or signature on it was verified, or if the server
requires none. Until then it is a stranger's.
"""

from __future__ import annotations

import contextlib
import resource
from typing import Final

from msgspec import Struct

WANTED_DESCRIPTORS: Final = 65536
_KEPT_BACK: Final = 256
"""Descriptors reserved for everything except connections: files, the store, the event loop."""
_MOST_CONNECTIONS: Final = 20480
_MOST_SILENT: Final = 4096
_MOST_UNPROVEN: Final = 4096
"""Both are large enough for a fleet behind one address to reconnect at once; memory has its own
limit."""
_MIB: Final = 1024 * 1024


class Limits(Struct, frozen=True, kw_only=True):
    """Limits of one server for all senders together; times in seconds."""

    connections: int = _MOST_CONNECTIONS
    """Open connections in total; what ``silent`` and ``unproven`` leave is for proven senders."""
    silent: int = _MOST_SILENT
    """Connections that have sent nothing yet; they cost little more than a descriptor."""
    silent_per_address: int = _MOST_SILENT // 2
    """Silent connections per IPv4 address or IPv6 /64 network."""
    unproven: int = _MOST_UNPROVEN
    """Connections that have sent something but are not proven."""
    unproven_per_address: int = _MOST_UNPROVEN // 2
    unproven_bytes: int = 64 * _MIB
    """Upper bound for data from unproven senders that is held in memory."""
    head_s: float = 10.0
    """From the first byte of a request to the end of its head. Also the limit for a connection's
    first byte, and for the TLS handshake."""
    head_bytes: int = 64 * 1024
    """Size of request line and headers."""
    idle_s: float = 75.0
    """How long a proven connection may idle between requests; others are closed after the
    answer."""
    stall_s: float = 10.0
    """Interval of checks; a reader that made no progress in three checks in a row is
    disconnected."""
    lingering_bytes: int = _MIB
    """Request body that a stranger may still send after its answer; then the connection is
    closed."""
    answers_per_s: float = 10.0
    """Answers to strangers per address; answers above this rate wait for ``answer_delay_s``."""
    answers_burst: int = 50
    answer_delay_s: float = 0.5


def for_servers(descriptors: int, servers: int) -> Limits:
    """Return the limits for each of several servers that share the descriptors of one process.

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
    """Raise the soft descriptor limit to ``wanted`` or as far as allowed; return the new limit.

    Never lowers it. A process that may not change it keeps the limit that it has.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
            soft = most
    return wanted if soft == resource.RLIM_INFINITY else soft
