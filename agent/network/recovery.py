"""What is left of an earlier process: rows, containers and links matched in all directions. Pure.

A claimed sandbox that is alive is kept as it is. Rows may be lost, garbled or older than what there is:
what the engine and the kernel show of a sandbox (``survey``), and who has it (``Holder``), goes before
its row. Whatever cannot be matched belongs to nobody, as far as is known: it is removed once control
has said what it wants, and its address is nobody else's until then.
"""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import TYPE_CHECKING, NamedTuple

from msgspec.structs import replace

from agent.network.addresses import address_of_link

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from ipaddress import IPv4Network

    from agent.network.sandbox_record import SandboxRecord
    from agent.runtime.protocol import ContainerSummary


class Holder(NamedTuple):
    """Who has a sandbox, whatever its row says."""

    task_arn: str
    attachment_id: str = ""


class Seen(NamedTuple):
    """What there is, whatever the rows say."""

    containers: Collection[ContainerSummary]
    """All containers with our label, stopped ones too."""
    alive: Collection[str]
    """Addresses of the rows whose pause process still runs, the very same one."""
    ports: Collection[str]
    """Links that are on our bridge."""
    links: Collection[str]
    """All links of the host."""
    surveyed: Collection[SandboxRecord] = ()
    """Sandboxes that run and have no row that fits, as they really are."""


class RecoveryPlan(NamedTuple):
    """What to do with everything that was found."""

    kept: list[SandboxRecord]
    """Claimed and alive: nothing is done to them."""
    ready: list[SandboxRecord]
    """Unclaimed and whole: back into the pool."""
    lost: list[SandboxRecord]
    """Claimed and dead: their tasks must hear of it; removed when the task releases them."""
    dropped: list[SandboxRecord]
    """Not whole, or one too many of a task: nobody's."""
    stray_containers: list[str]
    """Ids of containers of which nothing is known but that they are ours."""
    stray_links: list[str]
    """Names of links whose address no row has."""
    changed: list[SandboxRecord]
    """Rows that are to be written: made anew, or corrected."""
    void: list[str]
    """Keys of rows that speak of something which is not so."""


def match(
    rows: Iterable[SandboxRecord], seen: Seen, holders: Mapping[str, Holder], pool: IPv4Network
) -> RecoveryPlan:
    """Match what the store, the engine and the kernel know.

    Args:
        rows: all rows of the store.
        seen: what engine and kernel have.
        holders: who has which sandbox, by its engine id.
        pool: network that addresses are taken from; unclaimed sandboxes outside of it are dropped,
            claimed ones stay.
    """
    containers = seen.containers
    running = {summary.id for summary in containers if summary.state in {"running", "paused"}}
    before = {row.ipv4: row for row in rows}
    now = _corrected(before, seen.surveyed, holders)
    living = {*seen.alive, *(lease.ipv4 for lease in seen.surveyed)}
    found = RecoveryPlan([], [], [], [], [], [], [], [])
    seen_tasks: set[str] = set()
    known_ids: set[str] = set()
    known_links: set[str] = set()

    def order(row: SandboxRecord) -> tuple[bool, float, str]:
        return row.container_id not in holders, row.claimed_at, row.ipv4

    for row in sorted(now.values(), key=order):
        known_ids.add(row.container_id)
        known_links.add(row.host_interface)
        is_alive = row.container_id in running and row.ipv4 in living
        if row.task_arn and row.task_arn not in seen_tasks:
            seen_tasks.add(row.task_arn)
            (found.kept if is_alive else found.lost).append(row)
        elif is_alive and not row.task_arn and _is_whole(row, seen.ports, pool):
            found.ready.append(row)
        else:
            found.dropped.append(row)
    found.changed.extend(row for ipv4, row in now.items() if row != before.get(ipv4))
    found.void.extend(before.keys() - now.keys())
    found.stray_containers.extend(s.id for s in containers if s.id not in known_ids)
    found.stray_links.extend(
        name for name in sorted(seen.links) if name not in known_links and _is_ours(name, pool)
    )
    return found


def _corrected(
    rows: Mapping[str, SandboxRecord],
    surveyed: Collection[SandboxRecord],
    holders: Mapping[str, Holder],
) -> dict[str, SandboxRecord]:
    """Return the rows as they should be, by address."""
    really = {seen.container_id: seen.ipv4 for seen in surveyed}
    # A row that names a sandbox which has another address is wrong in everything.
    corrected = {
        ipv4: row for ipv4, row in rows.items() if really.get(row.container_id, ipv4) == ipv4
    }
    for seen in surveyed:
        row = rows.get(seen.ipv4)
        if row is not None and row.container_id == seen.container_id:
            # Only engine and kernel were wrong about: who claimed it stays.
            corrected[seen.ipv4] = replace(
                seen,
                task_arn=row.task_arn,
                attachment_id=row.attachment_id,
                claimed_at=row.claimed_at,
                created_at=row.created_at,
            )
        else:
            corrected[seen.ipv4] = seen
    for ipv4, row in corrected.items():
        holder = holders.get(row.container_id)
        if holder is None or holder.task_arn == row.task_arn:
            continue
        corrected[ipv4] = row.claimed(holder.task_arn, holder.attachment_id, row.created_at)
    return corrected


def needs_survey(row: SandboxRecord | None, ipv4: str, alive: Collection[str]) -> bool:
    """Tell whether a sandbox that runs must be looked at: its row is gone or speaks of another one."""
    return row is None or row.ipv4 != ipv4 or ipv4 not in alive


def _is_whole(row: SandboxRecord, ports: Collection[str], pool: IPv4Network) -> bool:
    return row.host_interface in ports and _within(row.ipv4, pool)


def _is_ours(link: str, pool: IPv4Network) -> bool:
    address = address_of_link(link)
    return address is not None and _within(address, pool)


def _within(ipv4: str, pool: IPv4Network) -> bool:
    return IPv4Address(ipv4) in pool
