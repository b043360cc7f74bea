"""Lets the faults of a plan strike: each target's one after the other, different targets' side by side."""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.chaos import (
    faults_clock,
    faults_host,
    faults_network,
    faults_processes,
    faults_state,
    plan,
)
from tests.chaos.scene import Skip

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from tests.chaos.plan import Fault
    from tests.chaos.scene import Scene

STRIKES: dict[str, Callable[[Scene, Fault], AbstractContextManager[None]]] = {
    "agent killed": faults_processes.killed,
    "agent paused": faults_processes.paused,
    "control killed": faults_processes.killed,
    "control paused": faults_processes.paused,
    "engine killed": faults_processes.engine_killed,
    "engine paused": faults_processes.engine_paused,
    "agent short of memory": faults_processes.short_of_memory,
    "control short of memory": faults_processes.short_of_memory,
    "processors taken": faults_processes.processors_taken,
    "connection cut": faults_network.cut,
    "connection stalled": faults_network.stalled,
    "connection slow": faults_network.slow,
    "answers cut short": faults_network.cut_short,
    "packets dropped": faults_network.dropped,
    "packets lost at random": faults_network.lost,
    "agent's disk full": faults_state.disk_full,
    "agent's disk read-only": faults_state.disk_read_only,
    "control's disk full": faults_state.disk_full,
    "control's disk read-only": faults_state.disk_read_only,
    "agent's state file lost": faults_state.state_file_lost,
    "agent's state file damaged": faults_state.state_file_damaged,
    "agent's state replaced by an older copy": faults_state.state_older,
    "agent's directory lost": faults_state.directory_lost,
    "agent's directory removed while it runs": faults_state.directory_removed,
    "control's store replaced by an older copy": faults_state.store_older,
    "container killed": faults_host.container_killed,
    "container removed": faults_host.container_removed,
    "sandbox killed": faults_host.sandbox_killed,
    "sandbox removed": faults_host.sandbox_removed,
    "ended container started again": faults_host.ended_started_again,
    "container with a sandbox's name made": faults_host.name_taken,
    "container taken off its network": faults_host.off_its_network,
    "link of a task deleted": faults_host.link_deleted,
    "link of a task down": faults_host.link_down,
    "foreign link on the bridge": faults_host.foreign_link,
    "bridge deleted": faults_host.bridge_deleted,
    "bridge without address": faults_host.bridge_without_address,
    "firewall table deleted": faults_host.table_deleted,
    "engine's rules flushed": faults_host.rules_flushed,
    "forwarding off": faults_host.forwarding_off,
    "operator socket removed": faults_host.socket_removed,
    "pause image removed": faults_host.pause_image_removed,
    plan.CLOCK: faults_clock.stepped,
}
_BOUNDARY_LIMIT_S = 8.0
"""A fault whose boundary does not come strikes anyway."""


@dataclass
class Conductor:
    """Faults at work; a context manager, after which all is mended."""

    scene: Scene
    faults: list[Fault]
    struck: Counter[str] = field(default_factory=Counter)
    """Faults by kind, without those that found nothing to strike."""
    skipped: Counter[str] = field(default_factory=Counter)
    at_boundary: Counter[str] = field(default_factory=Counter)
    """Faults by the boundary at which they struck."""
    now: dict[str, str] = field(default_factory=dict)
    """What each target suffers now."""
    trouble: list[str] = field(default_factory=list)
    """Faults that could not be made or mended: errors of this package, or of the machine."""
    _threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> Conductor:
        lanes: dict[str, list[Fault]] = defaultdict(list)
        for fault in self.faults:
            lanes[fault.target].append(fault)
        for target, faults in lanes.items():
            thread = threading.Thread(
                target=self._conduct, args=(faults,), name=target, daemon=True
            )
            self._threads.append(thread)
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.scene.is_over.set()
        for thread in self._threads:
            thread.join()

    def _conduct(self, faults: list[Fault]) -> None:
        for fault in faults:
            early_s = fault.at_s - self.scene.history.now_s()
            if self.scene.is_over.wait(max(0.0, early_s)):
                return
            is_there = bool(fault.boundary) and self.scene.world.boundaries.wait(
                fault.boundary, _BOUNDARY_LIMIT_S
            )
            if self.scene.is_over.wait(fault.after_s if is_there else 0.0):
                return
            try:
                self._strike(fault, fault.boundary if is_there else "")
            except Skip as why:
                self.skipped[fault.kind] += 1
                self.scene.history.note(
                    "skipped", number=fault.number, kind=fault.kind, why=str(why)
                )
            except Exception as error:  # noqa: BLE001 - told in the end, with all that it did
                told = f"{fault.kind} ({fault.number}): {type(error).__name__}: {error}"
                self.trouble.append(told)
                self.scene.history.note("trouble", told=told)
            finally:
                self.now.pop(fault.target, None)

    def _strike(self, fault: Fault, boundary: str) -> None:
        history = self.scene.history
        history.note(
            "fault",
            number=fault.number,
            kind=fault.kind,
            target=fault.target,
            boundary=boundary,
            for_s=fault.for_s,
        )
        self.now[fault.target] = fault.kind
        with STRIKES[fault.kind](self.scene, fault):
            self.struck[fault.kind] += 1
            if boundary:
                self.at_boundary[boundary] += 1
            history.note("struck", number=fault.number)
            self.scene.hold(fault)
        history.note("mended", number=fault.number)
