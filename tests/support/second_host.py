"""More hosts on this machine: with their own links, firewall, /run and engine, on one wire with the first.

::

    this host ── lan0 ── switch (a namespace with a bridge) ── lan0 ── second host
    192.0.2.1            192.0.2.9                     └────── lan0 ── third host
                                                               192.0.2.3
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tests.support.fleet import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FIRST, SECOND, THIRD, SWITCH = "192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.9"
LINK = "lan0"
_OWN_HOST = Path(__file__).parents[2] / "scripts/own-host"


class Place(NamedTuple):
    """A namespace by one of its processes."""

    pid: int
    has_mounts: bool = False

    @property
    def wrapper(self) -> list[str]:
        """A command that runs another one there."""
        return ["nsenter", "-t", str(self.pid), "-n", *(["-m"] if self.has_mounts else []), "--"]

    def sh(self, line: str, *, stdin: bytes = b"", check: bool = True) -> str:
        """Run a command there; return its output."""
        done = subprocess.run(
            [*self.wrapper, *line.split()],
            input=stdin,
            capture_output=True,
            timeout=60,
            check=False,
        )
        assert not check or done.returncode == 0, (line, done.stdout, done.stderr)
        return done.stdout.decode()


class Hosts(NamedTuple):
    """The machines on the wire, besides this one."""

    switch: Place
    others: tuple[Place, ...]

    @property
    def second(self) -> Place:
        """The first of the others."""
        return self.others[0]


@contextlib.contextmanager
def second_host(directory: Path) -> Iterator[Hosts]:
    """Build wire and second host; remove both at the end, with all that runs there."""
    with other_hosts(directory, SECOND) as hosts:
        yield hosts


@contextlib.contextmanager
def other_hosts(directory: Path, *addresses: str) -> Iterator[Hosts]:
    """Build a wire and a host for each address; remove all at the end, with all that runs there."""
    with contextlib.ExitStack() as stack:
        switch = Place(stack.enter_context(_switch()))
        stack.callback(_run, f"ip link del {LINK}")
        _connect(switch, None, FIRST)
        starting = [_start(stack, directory / f"host-{address}.pid") for address in addresses]
        places = [Place(is_up(), has_mounts=True) for is_up in starting]
        for place, address in zip(places, addresses, strict=True):
            _connect(switch, place, address)
        yield Hosts(switch, tuple(places))


def _start(stack: contextlib.ExitStack, told: Path) -> Callable[[], int]:
    """Begin to start a host; return what waits for it and returns the id of one of its processes."""
    host = subprocess.Popen(
        [_OWN_HOST, "sh", "-c", 'echo $$ >"$0.new"; mv "$0.new" "$0"; exec sleep 3600', told],
        stdout=subprocess.DEVNULL,
    )
    stack.callback(host.wait, 120)
    stack.callback(lambda: told.exists() and subprocess.run(["kill", told.read_text().strip()], check=False))  # fmt: skip

    def is_up() -> bool:
        assert host.poll() is None, "it ended"
        return told.exists()

    def wait() -> int:
        eventually(is_up, what="the engine of another host", within_s=120)
        return int(told.read_text())

    return wait


@contextlib.contextmanager
def _switch() -> Iterator[int]:
    with subprocess.Popen(
        ["unshare", "-n", "sh", "-c", "echo; exec sleep 3600"], stdout=-1
    ) as held:
        assert held.stdout is not None
        held.stdout.read(1)
        place = Place(held.pid)
        for line in (
            "ip link set lo up", "ip link add lan type bridge", f"ip addr add {SWITCH}/24 dev lan",
            "ip link set lan up",
        ):  # fmt: skip
            place.sh(line)
        try:
            yield held.pid
        finally:
            held.send_signal(signal.SIGKILL)


def _connect(switch: Place, host: Place | None, address: str) -> None:
    """Put a host on the wire; None for this one."""
    port = f"p{address.rpartition('.')[2]}"
    at = f"netns {host.pid}" if host is not None else ""
    subprocess.run(
        f"ip link add {LINK} {at} type veth peer name {port} netns {switch.pid}".split(), check=True
    )
    switch.sh(f"ip link set {port} master lan up")
    for line in (f"ip addr add {address}/24 dev {LINK}", f"ip link set {LINK} up"):
        if host is None:
            _run(line)
        else:
            host.sh(line)


def _run(line: str) -> None:
    subprocess.run(line.split(), check=False, capture_output=True, timeout=30)
