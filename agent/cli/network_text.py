"""Rows of the tables of ``ecs-agent network``. Pure.

Tests: ``tests/unit/cli/test_network.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from agent.cli import render
from agent.cli.columns import NOTHING, Column
from agent.cli.task_text import SHORT_ID
from agent.model.fleet import WIREGUARD
from agent.model.ids import task_id

if TYPE_CHECKING:
    from agent.model.network_views import (
        DeviceView,
        FleetPeerView,
        PoolView,
        RuleView,
        SandboxView,
        TraceStep,
        TraceView,
    )

POOLS: Final = (
    Column("POOL"),
    Column("GATEWAY", yields=2),
    Column("INTERFACE"),
    Column("MTU", yields=3),
    Column("USED"),
    Column("RESTING", yields=1, usual=lambda row: row[5] == "0"),
    Column("SIZE"),
)
SANDBOXES: Final = (
    Column("ADDRESS"),
    Column("STATE"),
    Column("TASK", beginning=SHORT_ID),
    Column("LINK", yields=3),
    Column("MAC", yields=2),
    Column("CONTAINER", beginning=SHORT_ID, yields=1),
)
DEVICES: Final = (
    Column("LINK"),
    Column("KIND", yields=2),
    Column("STATE"),
    Column("MTU", yields=1),
    Column("ADDRESS", yields=3),
    Column("RECEIVED"),
    Column("SENT"),
)
PEERS: Final = (
    Column("HOST", beginning=SHORT_ID),
    Column("RANGE"),
    Column("BY", yields=1),
    Column("ADDRESS"),
    Column("STATE"),
    Column("HANDSHAKE", yields=2),
    Column("RECEIVED", yields=3),
    Column("SENT", yields=3),
)
RULES: Final = (
    Column("TABLE", yields=1),
    Column("CHAIN"),
    Column("RULE", least=24),
    Column("PACKETS"),
    Column("BYTES"),
)

STEPS: Final = (
    Column("TABLE", yields=1),
    Column("CHAIN", least=10),
    Column("RULE", least=24),
    Column("VERDICT", least=8),
)


def pool(view: PoolView) -> list[str]:
    """Return the row of a pool."""
    counts = (view.mtu, view.held, view.resting, view.size)
    return [view.cidr, view.gateway or NOTHING, view.interface, *map(str, counts)]


def sandbox(view: SandboxView) -> list[str]:
    """Return the row of a sandbox."""
    task = task_id(view.task) if view.task else NOTHING
    addresses = f"{view.ipv4} {view.ipv6}".rstrip()
    return [addresses, view.state, task, view.interface, view.mac, view.container_id or NOTHING]


def device(view: DeviceView) -> list[str]:
    """Return the row of a link."""
    traffic = (render.size(view.rx_bytes), render.size(view.tx_bytes))
    return [view.name, view.kind, view.state, str(view.mtu), view.ipv4 or NOTHING, *traffic]


def peer(view: FleetPeerView, now: float) -> list[str]:
    """Return the row of another host, at a Unix time."""
    state = "NOT REACHED" if view.problem else "REACHED"
    through = [NOTHING] * 3
    if view.driver == WIREGUARD:
        shaken = view.last_handshake
        when = f"{render.span(max(0.0, now - shaken))} ago" if shaken else "never"
        through = [when, render.size(view.rx_bytes), render.size(view.tx_bytes)]
    ranges = f"{view.range} {view.ipv6_range}".strip()
    return [view.id, ranges, view.driver, view.address, state, *through]


def rule(view: RuleView) -> list[str]:
    """Return the row of a rule."""
    counts = [NOTHING, NOTHING]
    if view.packets is not None:
        counts = [str(view.packets), render.size(view.bytes or 0)]
    return [f"{view.family} {view.table}", view.chain, view.rule, *counts]


def step(view: TraceStep) -> list[str]:
    """Return the row of one decision about a traced packet."""
    return [f"{view.family} {view.table}", view.chain, view.rule, view.verdict]


def is_through(view: TraceView) -> bool:
    """Return whether a traced connection came about; true for UDP that nobody dropped or refused."""
    if view.dropped_by is not None:
        return False
    if view.protocol == "udp":
        return view.answer in {"answered", "no answer"}
    return view.answer == "connected"


def conclusion(view: TraceView) -> str:
    """Return in one sentence what happened to a traced connection."""
    way = f"{view.source or 'the task'} to {view.peer} port {view.port}/{view.protocol}"
    if view.dropped_by is not None:
        by = view.dropped_by
        where = f"chain {by.chain} of table {by.family} {by.table}"
        return f"{way} is dropped by '{by.rule}' in {where}"
    if not view.source:
        return f"{way}: {view.answer}; its own routes lead nowhere, or block this address"
    if not view.steps:
        return f"{way}: {view.answer}; no nftables rule of this host saw the packet"
    passed = [each for each in view.steps if each.verdict == "accept" and each.rule != "policy"]
    by_what = f"let through by '{passed[-1].rule}'" if passed else "let through by the policies"
    return f"{way} is {by_what}: {view.answer}"
