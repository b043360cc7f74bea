"""The leak check: compares the objects on a host before and after; new ones were left behind."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import time
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import docker
from docker.errors import DockerException

if TYPE_CHECKING:
    from collections.abc import Iterable

_LISTEN = "0A"
_CGROUPS = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class HostSnapshot:
    """Everything that a task may leave behind on a host, each object as a line of text."""

    containers: frozenset[str] = field(default_factory=frozenset)
    volumes: frozenset[str] = field(default_factory=frozenset)
    namespaces: frozenset[str] = field(default_factory=frozenset)
    links: frozenset[str] = field(default_factory=frozenset)
    addresses: frozenset[str] = field(default_factory=frozenset)
    routes: frozenset[str] = field(default_factory=frozenset)
    firewall: frozenset[str] = field(default_factory=frozenset)
    cgroups: frozenset[str] = field(default_factory=frozenset)
    files: frozenset[str] = field(default_factory=frozenset)
    listeners: frozenset[str] = field(default_factory=frozenset)

    @classmethod
    def take(cls, *, data_dirs: Iterable[Path] = (), agents: Path | None = None) -> HostSnapshot:
        """Take a snapshot of the host.

        Args:
            data_dirs: folders whose files count; a missing one is empty.
            agents: folder with the data directories of the agents whose control groups count. Tests
                that run side by side have theirs in the same tree.
        """
        containers, volumes = _engine()
        links, addresses = _links()
        return cls(
            containers=containers,
            volumes=volumes,
            namespaces=_namespaces(),
            links=links,
            addresses=addresses,
            routes=_routes(),
            firewall=_firewall(),
            cgroups=agent_groups(agents) if agents is not None else frozenset(),
            files=frozenset(str(p) for d in data_dirs for p in d.rglob("*") if not p.is_dir()),
            listeners=_listeners(),
        )

    def diff(self, later: HostSnapshot) -> list[str]:
        """Return what only ``later`` has, as ``kind: object``."""
        return [
            f"{kind.name}: {thing}"
            for kind in fields(self)
            for thing in sorted(getattr(later, kind.name) - getattr(self, kind.name))
        ]

    def wait_until_clean(
        self,
        *,
        limit_s: float = 10.0,
        data_dirs: Iterable[Path] = (),
        agents: Path | None = None,
    ) -> list[str]:
        """Return what is left behind, as soon as nothing is or when the limit has passed."""
        end = time.monotonic() + limit_s
        folders = tuple(data_dirs)
        while True:
            left = self.diff(HostSnapshot.take(data_dirs=folders, agents=agents))
            if not left or time.monotonic() > end:
                return left
            time.sleep(0.2)


def clean(left: Iterable[str]) -> None:
    """Remove what a test has left behind, as far as that is possible, so that only this test fails.

    Only for a host that is the tests' own.

    Args:
        left: what ``HostSnapshot.diff`` returned.
    """
    for line in left:
        kind, _, thing = line.partition(": ")
        name, *words = thing.split()
        match kind:
            case "containers":
                _lines("docker", "rm", "-f", "-v", name)
            case "links":
                _lines("ip", "link", "del", name)
            case "addresses":
                _lines("ip", "address", "del", *words, "dev", name)
            case "firewall" if name == "table":
                _lines("nft", "delete", "table", *words)
            case "firewall":
                _lines("iptables", "-w", "5", *shlex.split(thing.replace("-A ", "-D ", 1)))
            case _:
                pass


def agent_groups(agents: Path) -> frozenset[str]:
    """Return the control groups of agents, in all hierarchies."""
    owners = {
        owner
        for file in agents.rglob("*.identity")
        for owner in re.findall(r'"owner":"(\w{12})', file.read_text(errors="replace"))
    }
    return frozenset(
        str(path)
        for owner in owners
        for place in ("ecs", "*/ecs")
        for path in _CGROUPS.glob(f"{place}/{owner}")
    )


def _engine() -> tuple[frozenset[str], frozenset[str]]:
    try:
        client = docker.APIClient(version="auto")
    except DockerException:
        return frozenset(), frozenset()
    try:
        rows = client.containers(all=True)
        volumes = client.volumes().get("Volumes") or []
    finally:
        client.close()
    names = frozenset(f"{row['Names'][0].lstrip('/')} {row['Id'][:12]}" for row in rows)
    return names, frozenset(volume["Name"] for volume in volumes)


def _namespaces() -> frozenset[str]:
    """Named network namespaces. The engine deletes their files late, but unmounts them at once.

    It keeps ``default``, the host's own, after its first container in host mode.
    """
    mounts = (line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines())
    named = {mount[4] for mount in mounts if " nsfs " in f" {mount[-3]} "}
    return frozenset(name for name in named if not name.endswith("/docker/netns/default"))


def _links() -> tuple[frozenset[str], frozenset[str]]:
    found: list[dict[str, Any]] = json.loads("".join(_lines("ip", "-j", "address")) or "[]")
    addresses = frozenset(
        f"{link['ifname']} {address['local']}/{address['prefixlen']}"
        for link in found
        for address in link.get("addr_info", ())
        # The kernel adds link-local addresses to any link that is set up, including the engine's
        # bridge.
        if address.get("scope") != "link"
    )
    return frozenset(link["ifname"] for link in found), addresses


def _firewall() -> frozenset[str]:
    tables = _lines("nft", "list", "tables")
    user = _lines("iptables", "-w", "5", "-S", "DOCKER-USER")
    return frozenset((*tables, *user))


def _listeners() -> frozenset[str]:
    found = set()
    for name in ("tcp", "tcp6"):
        for line in Path("/proc/net", name).read_text().splitlines()[1:]:
            columns = line.split()
            if columns[3] == _LISTEN:
                address, port = columns[1].split(":")
                found.add(f"{name} {address} port {int(port, 16)}")
    return frozenset(found)


def _routes() -> frozenset[str]:
    """Return all routes except those that the kernel adds to links of the engine by itself.

    Its own bridge gets them with its first container, and every link when somebody turns forwarding on. A route
    is the same one when nothing is left on its link.
    """
    shown = _lines("ip", "route", "show", "table", "all")
    routes = [line.replace(" linkdown", "") for line in shown]
    return frozenset(
        r
        for r in routes
        if not ("dev docker0" in r and ("fe80::" in r or "ff00::" in r))
        and not ("dev veth" in r and r.startswith("anycast"))
    )


def _lines(*command: str) -> list[str]:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
    return [line.strip() for line in done.stdout.splitlines() if line.strip()]
