"""One host of a run: engine, control and agents as processes, their disks, and the proxies between them."""

from __future__ import annotations

import contextlib
import subprocess
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from agent.cli.client import CliError
from tests.chaos.boundaries import Boundaries
from tests.chaos.engine import Engine
from tests.chaos.engine_log import EngineLog
from tests.chaos.proxy import Proxies, Proxy
from tests.support.fleet import ACS, LONG_POLL, Agent, Control, Fleet, Process

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.chaos.history import History

DISK_MIB = {"agent": 16, "control": 96}
"""Sizes of the disks for state: small enough to be filled at once."""
STARTED = b'"agent started"'
"""What an agent logs once it has begun to work."""
_LOOK_EVERY_S = 0.3
_RESTART_AFTER_S = 0.5
_EXCUSED_FOR_S = 15.0
_FIRST_PORT, _PORTS = 33_000, 2000
"""Dynamic ports of the first agent, and how many each has."""


@dataclass
class Supervised:
    """A process that is started again when it ends by itself, as a service manager does."""

    process: Process
    history: History
    lock: threading.RLock = field(default_factory=threading.RLock)
    unexpected: list[str] = field(default_factory=list)
    _is_wanted: bool = False
    _excuses: int = 0
    _excused_until_s: float = 0.0
    _lacks_something: int = 0
    _log_begins: int = 0
    """Where the log of the process that runs now begins."""

    @contextlib.contextmanager
    def may_exit(self) -> Iterator[None]:
        """Let it end by itself now, and for a moment after, since it takes its time."""
        self._excuses += 1
        try:
            yield
        finally:
            self._excuses -= 1
            self._excused_until_s = time.monotonic() + _EXCUSED_FOR_S

    @contextlib.contextmanager
    def may_fail_to_start(self) -> Iterator[None]:
        """Let it end with a message now if it is still starting; what has started has to go on."""
        self._lacks_something += 1
        try:
            yield
        finally:
            self._lacks_something -= 1

    def start(self) -> None:
        """Start it, and keep it running from now on."""
        with self.lock:
            if not self.process.is_alive():
                self._start()
            self._is_wanted = True

    def _start(self) -> None:
        self._log_begins = self.process.log.stat().st_size if self.process.log.exists() else 0
        self.process.start()

    def _has_started(self) -> bool:
        with self.process.log.open("rb") as log:
            log.seek(self._log_begins)
            return STARTED in log.read()

    def kill(self) -> None:
        """Kill it, and leave it dead."""
        with self.lock:
            self._is_wanted = False
            self.process.kill()

    def stop(self) -> int:
        """Ask it to stop, and leave it stopped; return its exit code."""
        with self.lock:
            self._is_wanted = False
            return self.process.stop(within_s=180.0)

    def look(self) -> None:
        """Start it again if it has ended by itself."""
        with self.lock:
            popen = self.process.popen
            if not self._is_wanted or popen is None or popen.poll() is None:
                return
            name, code = self.process.name, popen.returncode
            excused = bool(self._excuses) or time.monotonic() < self._excused_until_s
            if self._lacks_something and code == 1 and not self._has_started():
                excused = True
            self.history.note("exit", process=name, code=code, excused=excused)
            if not excused:
                self.unexpected.append(f"{name} ended by itself with exit code {code}")
            time.sleep(_RESTART_AFTER_S)
            self._start()


@dataclass
class World:
    """All there is to break."""

    directory: Path
    history: History
    fleet: Fleet
    engine: Engine
    engine_log: EngineLog
    boundaries: Boundaries
    proxies: list[Proxy]
    control: Supervised
    agents: list[Supervised]
    image: str
    wires: list[str]

    @property
    def runs(self) -> Path:
        """Where containers write."""
        return self.directory / "runs"

    @property
    def control_data(self) -> Path:
        """Control's data directory, a disk of its own."""
        return self.directory / "control"

    def agent_data(self, number: int) -> Path:
        """Return an agent's data directory, a disk of its own."""
        return self.directory / f"agent{number}-data"

    def agent(self, number: int) -> Agent:
        """Return an agent's process."""
        process = self.agents[number].process
        assert isinstance(process, Agent)
        return process

    def status(self, number: int) -> dict[str, Any]:
        """Return what an agent tells of itself; empty if it does not answer."""
        try:
            told: dict[str, Any] = self.agent(number).json("status")
        except (CliError, OSError, ValueError):
            return {}
        return told

    def is_settled(self, number: int) -> bool:
        """Return whether an agent is connected and has told all that it has to tell."""
        told = self.status(number)
        return bool(told.get("controlConnected")) and not told.get("unsentChanges")

    def wait_settled(self, number: int, within_s: float) -> bool:
        """Wait until an agent is settled; return whether it is."""
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline:
            if self.is_settled(number):
                return True
            time.sleep(0.2)
        return False

    @property
    def processes(self) -> list[Supervised]:
        """Control and agents."""
        return [self.control, *self.agents]


@contextlib.contextmanager
def disk(place: Path, mib: int) -> Iterator[None]:
    """Mount a small file system at a place."""
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    words = ["mount", "-t", "tmpfs", "-o", f"mode=700,size={mib}m", "tmpfs", str(place)]
    subprocess.run(words, check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(place)], check=False)


@contextlib.contextmanager
def supervised(processes: list[Supervised]) -> Iterator[None]:
    """Look after processes; at the end, kill those that still run."""
    is_over = threading.Event()

    def look_after() -> None:
        while not is_over.wait(_LOOK_EVERY_S):
            for each in processes:
                each.look()

    thread = threading.Thread(target=look_after, name="supervisor", daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join(30)
        for each in processes:
            each.kill()


@contextlib.contextmanager
def world(directory: Path, history: History, seed: int, wires: list[str]) -> Iterator[World]:
    """Build it all, with nothing started but the engine; in the end, nothing runs.

    Args:
        directory: with a short path, since sockets are in it.
        history: is told what ends by itself.
        seed: of what proxies choose.
        wires: the protocol of each agent.
    """
    with contextlib.ExitStack() as stack:
        engine = Engine(directory / "engine.log")
        stack.callback(engine.end)
        engine.start()
        for name, mib in _disks(len(wires)).items():
            stack.enter_context(disk(directory / name, mib))
        (directory / "runs").mkdir()
        boundaries = Boundaries()
        fleet = Fleet(directory)
        proxies = stack.enter_context(Proxies(boundaries.passes))
        between = [proxies.add(fleet.control.port, f"{seed} {n}") for n in range(len(wires))]
        for number, wire in enumerate(wires):
            _add_agent(fleet, wire, f"http://127.0.0.1:{between[number].port}")
        made = World(
            directory=directory,
            history=history,
            fleet=fleet,
            engine=engine,
            engine_log=EngineLog(boundaries.passes),
            boundaries=boundaries,
            proxies=between,
            control=Supervised(fleet.control, history),
            agents=[Supervised(agent, history) for agent in fleet.agents],
            image=engine.busybox(),
            wires=wires,
        )
        boundaries.watch_files(
            "agent's store written",
            lambda: [made.agent_data(n) / "agent.db-wal" for n in range(len(wires))],
        )
        boundaries.watch_files(
            "control's store written", lambda: [made.control_data / "control.db-wal"]
        )
        stack.enter_context(boundaries.links_followed("link made or removed"))
        stack.enter_context(made.engine_log.followed())
        stack.enter_context(supervised(made.processes))
        yield made


def start(made: World) -> None:
    """Start control and agents, and wait until they know each other."""
    made.control.start()
    assert isinstance(made.control.process, Control)
    made.control.process.ready()
    for agent in made.agents:
        agent.start()
    made.fleet.wait_connected(within_s=180.0)


def _disks(agents: int) -> dict[str, int]:
    each = {f"agent{number}-data": DISK_MIB["agent"] for number in range(agents)}
    return {"control": DISK_MIB["control"], **each}


def _add_agent(fleet: Fleet, wire: str, url: str) -> None:
    """Add an agent with what two agents on one host must not share: each takes ports that it finds free."""
    fleet.wire = wire
    way = {LONG_POLL: "ECS_CONTROL_ENDPOINT", ACS: "ECS_BACKEND_HOST"}[wire]
    first = _FIRST_PORT + _PORTS * len(fleet.agents)
    fleet.add_agent(**{way: url, "ECS_DYNAMIC_HOST_PORT_RANGE": f"{first}-{first + _PORTS - 1}"})
