"""What is between an agent and control is cut, slow and lossy."""

from __future__ import annotations

import contextlib
import subprocess
from typing import TYPE_CHECKING

from tests.chaos import proxy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.chaos.plan import Fault
    from tests.chaos.scene import Scene

_SLOWEST_S = 0.6
_MOST_LOST = 60
"""Percent of packets."""


@contextlib.contextmanager
def cut(scene: Scene, fault: Fault) -> Iterator[None]:
    """Close all connections; nobody listens."""
    with _mode(scene, fault, proxy.CUT):
        yield


@contextlib.contextmanager
def stalled(scene: Scene, fault: Fault) -> Iterator[None]:
    """Accept connections, and pass nothing on."""
    with _mode(scene, fault, proxy.STALLED):
        yield


@contextlib.contextmanager
def slow(scene: Scene, fault: Fault) -> Iterator[None]:
    """Pass on some bytes at a time, late."""
    with _mode(scene, fault, proxy.SLOW, 0.05 + fault.chance * _SLOWEST_S):
        yield


@contextlib.contextmanager
def cut_short(scene: Scene, fault: Fault) -> Iterator[None]:
    """End each connection after some bytes."""
    with _mode(scene, fault, proxy.SHORT):
        yield


@contextlib.contextmanager
def dropped(scene: Scene, fault: Fault) -> Iterator[None]:
    """Drop every packet between agent and proxy, so that nobody is told."""
    with _rules(scene, fault, ""):
        yield


@contextlib.contextmanager
def lost(scene: Scene, fault: Fault) -> Iterator[None]:
    """Drop some of the packets."""
    percent = 10 + int(fault.chance * (_MOST_LOST - 10))
    with _rules(scene, fault, f"numgen random mod 100 < {percent} "):
        yield


@contextlib.contextmanager
def _mode(scene: Scene, fault: Fault, mode: str, delay_s: float = 0.0) -> Iterator[None]:
    between = scene.world.proxies[scene.number(fault)]
    between.become(mode, delay_s)
    try:
        yield
    finally:
        between.become(proxy.FLOWS)


@contextlib.contextmanager
def _rules(scene: Scene, fault: Fault, match: str) -> Iterator[None]:
    number = scene.number(fault)
    port = scene.world.proxies[number].port
    table = f"chaos_{number}"
    rules = (
        f"table inet {table} {{\nchain out {{\ntype filter hook output priority -450;\n"
        f"tcp dport {port} {match}drop\ntcp sport {port} {match}drop\n}}\n}}\n"
    )
    subprocess.run(["nft", "-f", "-"], input=rules.encode(), check=True)
    try:
        yield
    finally:
        subprocess.run(["nft", "delete", "table", "inet", table], check=False)
