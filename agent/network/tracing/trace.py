"""Opens one connection from a task and reports which rules of the host's firewall decide on it.

The kernel itself is asked: a table that exists only meanwhile marks the packets of this one
connection, and the kernel reports each rule that they meet, whoever made it. That is exact for
nftables, which includes Docker's and firewalld's rules, but shows nothing of ``iptables-legacy``,
nor of packets that do not pass the host's own network stack. Where those of a task do not, because its
interface is on the wire itself, the rules in the task's namespace are asked in the same way. Only packets
of the task's side are traced, not the answers.

Everything here blocks, for at most ``LIMIT_S`` and the time of a few ``nft`` calls.
Tests: ``tests/unit/network/tracing``, ``tests/integration/network/test_trace.py``.
"""

from __future__ import annotations

import contextlib
import errno
import os
import selectors
import socket
import time
from functools import partial
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from agent.errors import NetworkFailure
from agent.model.network_views import TraceStep, TraceView
from agent.network.kernel import namespaces, nft
from agent.network.tracing import messages, steps

if TYPE_CHECKING:
    from collections.abc import Sequence

LIMIT_S: Final = 2.5
"""How long to wait for an answer of the other side."""
_CALM_S: Final = 0.1
"""How long the kernel's reports are awaited after the connection was decided."""
_NETFILTER: Final = 12
_TRACE_GROUP: Final = 9
"""``NFNLGRP_NFTRACE``."""
_ADD_MEMBERSHIP: Final = 1
_SOL_NETLINK: Final = 270
_BEFORE_ALL: Final = -500
_DATAGRAM: Final = 65_536
_ANSWERS: Final = {
    0: "connected",
    errno.ECONNREFUSED: "refused",
    errno.ETIMEDOUT: "no answer",
}


class Probe(NamedTuple):
    """The connection to try."""

    peer: str
    """An IPv4 or IPv6 address."""
    port: int
    protocol: str
    """``tcp`` or ``udp``."""


class Inside(NamedTuple):
    """Rules in the task's own namespace that decide what leaves it."""

    table: str
    """In the netdev family."""
    interface: str


def table_name(table: str) -> str:
    """Return the name of the table that exists during a trace."""
    return f"{table}_trace"


def clear(table: str) -> None:
    """Remove what a trace left whose process was killed; not an error if nothing is there.

    Raises:
        NetworkFailure: ``nft`` is missing or failed.
    """
    names = [{"family": family, "name": table_name(table)} for family in ("inet", "bridge")]
    nft.apply([{order: {"table": name}} for name in names for order in ("add", "delete")])


def ruleset(table: str, probe: Probe, source: str, source_port: int) -> list[dict[str, Any]]:
    """Return the commands for a table that has the packets of one connection traced. Pure."""
    marks = _marks(probe, source, source_port)
    commands = []
    for family, hooks in (("inet", ("prerouting", "output")), ("bridge", ("prerouting",))):
        place = {"family": family, "table": table}
        body: list[dict[str, Any]] = []
        for hook in hooks:
            body.append(nft.hooked(place, hook, "filter", hook, _BEFORE_ALL))
            body.append(nft.rule(place, hook, "trace", *marks))
        commands += nft.replacement(family, table, body)
    return commands


def ruleset_inside(
    table: str, interface: str, probe: Probe, source: str, source_port: int
) -> list[dict[str, Any]]:
    """Return the commands for such a table where packets leave the task's namespace. Pure."""
    place = {"family": "netdev", "table": table}
    marks = _marks(probe, source, source_port)
    return nft.replacement("netdev", table, [
        nft.hooked(place, "egress", "filter", "egress", _BEFORE_ALL, device=interface),
        nft.rule(place, "egress", "trace", *marks),
    ])  # fmt: skip


def _marks(probe: Probe, source: str, source_port: int) -> list[dict[str, Any]]:
    ip = "ip" if ip_address(probe.peer).version == 4 else "ip6"
    return [
        nft.match(nft.field(ip, "saddr"), source),
        nft.match(nft.field(ip, "daddr"), probe.peer),
        nft.match(nft.field(probe.protocol, "sport"), source_port),
        nft.match(nft.field(probe.protocol, "dport"), probe.port),
        {"mangle": {"key": nft.meta("nftrace"), "value": 1}},
    ]


def run(table: str, netns: int, probe: Probe, within: Inside | None = None) -> TraceView:
    """Try the connection once and return what happened to it. One call at a time per host.

    Args:
        table: name of the agent's tables.
        netns: descriptor of the namespace from which to connect; stays open.
        probe: the connection.
        within: rules in the namespace that decide what leaves it; None if those of the host do.

    Raises:
        NetworkFailure: the namespace cannot be entered, or ``nft`` failed.
    """
    with contextlib.ExitStack() as closing:
        try:
            ours, source = namespaces.inside(netns, lambda: _socket(probe))
        except OSError as error:
            if error.errno in (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EINVAL, errno.EACCES):
                # Its own routes, among them those that block addresses, lead nowhere.
                return _view(probe, "", "no route in the task's namespace", [])
            raise NetworkFailure(f"no connection can be tried from the task: {error}") from None
        closing.callback(ours.close)
        own, port = table_name(table), ours.getsockname()[1]
        listening = [_listen()]
        closing.callback(listening[0].close)
        closing.callback(clear, table)
        nft.apply(ruleset(own, probe, source, port))
        if within is not None:
            listening.append(namespaces.inside(netns, _listen))
            closing.callback(listening[1].close)
            closing.callback(namespaces.inside, netns, partial(nft.remove, "netdev", own))
            marking = ruleset_inside(own, within.interface, probe, source, port)
            namespaces.inside(netns, partial(nft.apply, marking))
        answer, events = _try(ours, listening, probe)
        found = _steps(events[0], own, table)
        if within is not None:
            reading = partial(_steps, events[1], own, within.table)
            found = namespaces.inside(netns, reading) + found
    return _view(probe, source, answer, found)


def _steps(events: list[messages.TraceEvent], own: str, ours: str) -> list[TraceStep]:
    """Return the steps of the first packet, with the texts of rules in this thread's namespace."""
    first = steps.first_packet(events, own)
    texts: dict[steps.RuleKey, str] = {}
    for family, name in {(event.family, event.table) for event in first}:
        listed = nft.run("nft", "-a", "list", "table", family, name)
        texts |= steps.texts_of(family, name, listed.stdout)
    return steps.steps_of(first, texts, ours)


def open_netns(pid: int) -> int:
    """Return a descriptor of a process's network namespace, which may be the host's.

    Raises:
        NetworkFailure: the process has ended.
    """
    try:
        return os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise NetworkFailure(f"process {pid} of the task has ended: {error.strerror}") from None


def _view(probe: Probe, source: str, answer: str, found: list[TraceStep]) -> TraceView:
    return TraceView(
        source=source,
        peer=probe.peer,
        port=probe.port,
        protocol=probe.protocol,
        answer=answer,
        dropped_by=steps.dropped_by(found),
        steps=found,
    )


def _socket(probe: Probe) -> tuple[socket.socket, str]:
    """Return a bound socket for the probe, and its address; runs inside the namespace."""
    family = socket.AF_INET if ip_address(probe.peer).version == 4 else socket.AF_INET6
    with socket.socket(family, socket.SOCK_DGRAM) as scout:
        scout.connect((probe.peer, probe.port))  # sends nothing, but chooses the address
        source = scout.getsockname()[0]
    kind = socket.SOCK_STREAM if probe.protocol == "tcp" else socket.SOCK_DGRAM
    made = socket.socket(family, kind | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    try:
        made.bind((source, 0))
    except OSError:
        made.close()
        raise
    return made, source


def _listen() -> socket.socket:
    kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
    listening = socket.socket(socket.AF_NETLINK, kind, _NETFILTER)
    try:
        listening.bind((0, 0))
        listening.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, _TRACE_GROUP)
    except OSError as error:
        listening.close()
        raise NetworkFailure(f"this kernel reports no traced packets: {error}") from None
    return listening


def _try(
    ours: socket.socket, listening: Sequence[socket.socket], probe: Probe
) -> tuple[str, list[list[messages.TraceEvent]]]:
    """Connect, or send one empty datagram; return how it ended and what the kernel reported to each."""
    events: list[list[messages.TraceEvent]] = [[] for _ in listening]
    answer = ""
    begun = ours.connect_ex((probe.peer, probe.port))
    if probe.protocol == "udp":
        ours.send(b"")
    elif begun not in (0, errno.EINPROGRESS):
        answer = _ANSWERS.get(begun, os.strerror(begun))
    until = time.monotonic() + (_CALM_S if answer else LIMIT_S)
    with selectors.DefaultSelector() as selector:
        for heard, each in zip(events, listening, strict=True):
            selector.register(each, selectors.EVENT_READ, heard)
        wanted = selectors.EVENT_WRITE if probe.protocol == "tcp" else selectors.EVENT_READ
        if not answer:
            selector.register(ours, wanted)
        while (left_s := until - time.monotonic()) > 0:
            for key, _ in selector.select(left_s):
                if key.data is not None:
                    reporting = cast("socket.socket", key.fileobj)
                    with contextlib.suppress(OSError):  # too many reports for the buffer
                        news = messages.decode(reporting.recv(_DATAGRAM))
                        key.data.extend(news)
                        if any(event.verdict == "drop" for event in news):
                            until = min(until, time.monotonic() + _CALM_S)
                    continue
                selector.unregister(ours)
                answer = _outcome(ours, probe)
                until = min(until, time.monotonic() + _CALM_S)
    return answer or "no answer", events


def _outcome(ours: socket.socket, probe: Probe) -> str:
    code = ours.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if probe.protocol == "udp" and code == 0:
        return "answered"
    return _ANSWERS.get(code, os.strerror(code))
