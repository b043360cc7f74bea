"""What is still on the host once every task was stopped and control and agents have ended."""

from __future__ import annotations

import contextlib
import json
import re
import sqlite3
import subprocess
from collections import defaultdict
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.chaos.world import World

KINDS = (
    "containers",
    "links",
    "namespaces",
    "addresses",
    "routes",
    "rules and sets",
    "control groups",
    "volumes",
    "listeners",
    "leases",
    "files",
)
_NAMES = {"firewall": "rules and sets", "cgroups": "control groups"}
_OF_ENGINE = re.compile(r"veth[0-9a-f]{7}")
_TEMPORARY = (".tmp", ".new", ".part", ".temp")


def sort(lines: Iterable[str]) -> dict[str, list[str]]:
    """Return what ``HostSnapshot.diff`` told, by kind."""
    found: dict[str, list[str]] = defaultdict(list)
    for line in lines:
        kind, _, thing = line.partition(": ")
        found[_NAMES.get(kind, kind)].append(thing)
    return dict(found)


def with_owners(listeners: Iterable[str]) -> list[str]:
    """Return listeners as ``HostSnapshot`` tells them, each with the processes that hold its port."""
    holders: dict[str, set[str]] = defaultdict(set)
    for each in psutil.net_connections("tcp"):
        if each.status == psutil.CONN_LISTEN and each.pid is not None and each.laddr:
            with contextlib.suppress(psutil.Error):
                holders[str(each.laddr.port)].add(f"{psutil.Process(each.pid).name()} {each.pid}")
    return [
        f"{listener} of {', '.join(sorted(holders[listener.split()[-1]])) or 'nobody'}"
        for listener in listeners
    ]


def forgotten_proxies() -> list[int]:
    """Return the process ids of the engine's proxies of published ports on this host.

    A port has one for each family of addresses. An engine that is killed while it starts or ends a container
    forgets them, and they run on for ever. This is a fault of the engine, and no agent can know of it: a
    published port is the engine's own.
    """
    here = Path("/proc/self/ns/net").readlink()
    found = []
    for process in psutil.process_iter(["name"]):
        with contextlib.suppress(OSError):
            if process.info["name"] == "docker-proxy" and here == _network_of(process.pid):
                found.append(process.pid)
    return found


def remove_forgotten_links() -> int:
    """Remove the links of the engine that it had not yet given to a container; return how many there were.

    It makes both ends of a link on the host, and then moves one into the container. If it is killed in between,
    it forgets both. Agents name theirs otherwise, and move the other end at once.
    """
    shown = subprocess.run(
        ["ip", "-j", "link", "show", "type", "veth"], capture_output=True, text=True, check=True
    )
    here = {
        link["ifname"]
        for link in json.loads(shown.stdout or "[]")
        if _OF_ENGINE.fullmatch(link["ifname"]) and _OF_ENGINE.fullmatch(link.get("link") or "")
    }
    for name in here:
        subprocess.run(["ip", "link", "del", name], check=False, capture_output=True)
    return len(here)


def _network_of(pid: int) -> Path:
    return Path(f"/proc/{pid}/ns/net").readlink()


def of_state(world: World) -> dict[str, list[str]]:
    """Return leases and files that agents have kept."""
    found: dict[str, list[str]] = {"leases": [], "files": []}
    for number in range(len(world.agents)):
        place = world.agent_data(number)
        found["leases"] += [f"agent{number}: {each}" for each in leases(place / "agent.db")]
        found["files"] += [
            str(file)
            for file in sorted(place.rglob("*"))
            if file.is_file() and file.name.endswith(_TEMPORARY)
        ]
    return found


def leases(store: Path) -> list[str]:
    """Return the records that an agent without tasks should not have, or why they cannot be read."""
    query = (
        "SELECT kind, key FROM records WHERE kind = 'task' UNION ALL "
        "SELECT kind, key FROM records WHERE kind = 'sandbox' UNION ALL "
        "SELECT 'outbox', change_id FROM outbox"
    )
    try:
        with closing(sqlite3.connect(f"{store.as_uri()}?mode=ro", uri=True)) as database:
            return [f"{kind} {key}" for kind, key in database.execute(query)]
    except sqlite3.Error as error:
        return [f"{store.name} cannot be read: {error}"]
