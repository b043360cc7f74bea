"""A site of two machines on one wire: this host, and a router with a network behind it."""

from __future__ import annotations

import contextlib
import subprocess
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

HOST, ROUTER, OUTSIDE = "192.0.2.2", "192.0.2.1", "198.51.100.1"


class Site(NamedTuple):
    """The wire, as this host sees it, and the router's namespace."""

    link: str
    router_pid: int

    def at_router(self, *command: str) -> str:
        """Run a command at the router, and return what it prints."""
        return run("nsenter", "-t", str(self.router_pid), "-n", *command)


def run(*command: str) -> str:
    """Run a command; return its output."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, (command, done.stdout, done.stderr)
    return done.stdout


@contextlib.contextmanager
def site() -> Iterator[Site]:
    """Yield a wire ``ecstlan0`` with the host's default route, and remove it at the end."""
    with subprocess.Popen(["unshare", "-n", "sh", "-c", "echo; exec sleep 900"], stdout=-1) as held:
        assert held.stdout is not None
        held.stdout.read(1)
        made = Site("ecstlan0", held.pid)
        try:
            run(
                *["ip", "link", "add", "ecstlan0", "type", "veth", "peer", "name", "lan", "netns"],
                str(held.pid),
            )
            run(*f"ip addr add {HOST}/24 dev ecstlan0".split())
            run(*["ip", "link", "set", "ecstlan0", "addrgenmode", "none", "up"])
            # The agent's own address, which it adds before it makes a sandbox.
            run(*["ip", "addr", "replace", "169.254.170.2/32", "dev", "lo", "scope", "host"])
            run(*f"ip route add default via {ROUTER} dev ecstlan0".split())
            for words in (
                "link set lo up", f"addr add {OUTSIDE}/32 dev lo", f"addr add {ROUTER}/24 dev lan",
                "link set lan up",
            ):  # fmt: skip
                made.at_router("ip", *words.split())
            yield made
        finally:
            subprocess.run(["ip", "link", "del", "ecstlan0"], check=False, capture_output=True)
            held.kill()
