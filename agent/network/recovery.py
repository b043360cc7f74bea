"""What is left of an earlier process: rows, containers and links matched in all directions. Pure.

A claimed sandbox that is alive is kept as it is. Whatever cannot be matched is to be removed: it
was half made or half removed when the earlier process ended, and no task can be using it.
"""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import TYPE_CHECKING, NamedTuple

from agent.network.addresses import address_of_link

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from ipaddress import IPv4Network

    from agent.network.lease import Lease
    from agent.runtime.protocol import ContainerSummary


class Holder(NamedTuple):
    """Who has a sandbox, whatever its row says."""

    task_arn: str
    attachment_id: str = ""


class Findings(NamedTuple):
    """What to do with everything that was found."""

    kept: list[Lease]
    """Claimed and alive: nothing is done to them."""
    ready: list[Lease]
    """Unclaimed and whole: back into the pool."""
    lost: list[Lease]
    """Claimed and dead: their tasks must hear of it; removed when the task releases them."""
    dropped: list[Lease]
    """Unclaimed and not whole: removed with everything of theirs."""
    stray_containers: list[str]
    """Ids of containers without a row."""
    stray_links: list[str]
    """Names of links whose address no row has."""


def match(
    rows: Iterable[Lease],
    containers: Collection[ContainerSummary],
    *,
    alive: Collection[str],
    ports: Collection[str],
    links: Collection[str],
    pool: IPv4Network,
) -> Findings:
    """Match what the store, the engine and the kernel know.

    Args:
        rows: all rows of the store.
        containers: all containers with our label, stopped ones too.
        alive: addresses of the rows whose pause process still runs, the very same one.
        ports: links that are on our bridge.
        links: all links of the host.
        pool: network that addresses are taken from; unclaimed sandboxes outside of it are dropped,
            claimed ones stay.
    """
    running = {summary.id for summary in containers if summary.state in {"running", "paused"}}
    found = Findings([], [], [], [], [], [])
    seen_tasks: set[str] = set()
    known_ids: set[str] = set()
    known_links: set[str] = set()
    for row in sorted(rows, key=lambda row: (row.claimed_at, row.ipv4)):
        known_ids.add(row.container_id)
        known_links.add(row.host_interface)
        is_alive = row.container_id in running and row.ipv4 in alive
        if row.task_arn and row.task_arn not in seen_tasks:
            seen_tasks.add(row.task_arn)
            (found.kept if is_alive else found.lost).append(row)
        elif is_alive and not row.task_arn and _is_whole(row, ports, pool):
            found.ready.append(row)
        else:
            found.dropped.append(row)
    found.stray_containers.extend(s.id for s in containers if s.id not in known_ids)
    found.stray_links.extend(
        name for name in sorted(links) if name not in known_links and _is_ours(name, pool)
    )
    return found


def _is_whole(row: Lease, ports: Collection[str], pool: IPv4Network) -> bool:
    return row.host_interface in ports and _within(row.ipv4, pool)


def _is_ours(link: str, pool: IPv4Network) -> bool:
    address = address_of_link(link)
    return address is not None and _within(address, pool)


def _within(ipv4: str, pool: IPv4Network) -> bool:
    return IPv4Address(ipv4) in pool
