"""Matches what an earlier process left: rows, containers and links. Pure.

A claimed sandbox that is alive is kept unchanged. Rows may be lost, invalid or outdated. So what
engine and kernel show of a sandbox (``survey``), and which task has it (``Holder``), takes
precedence over its row. What cannot be matched seems to belong to no task: it is removed once
control has listed what it wants, and its address is not reused until then.
"""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import TYPE_CHECKING, NamedTuple

from msgspec.structs import replace

from agent.network.addresses import address_of_link
from agent.network.sandbox_record import FORM, FORM_LABEL

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping
    from ipaddress import IPv4Network

    from agent.network.sandbox_record import SandboxRecord
    from agent.runtime.protocol import ContainerSummary


class Holder(NamedTuple):
    """The task that has a sandbox, whatever its row says."""

    task_arn: str
    attachment_id: str = ""


class Seen(NamedTuple):
    """What exists, whatever the rows say."""

    containers: Collection[ContainerSummary]
    """All containers with our label, including stopped ones."""
    alive: Collection[str]
    """Addresses of the rows whose pause process is still the same."""
    ports: Collection[str]
    """Links on our bridge."""
    links: Collection[str]
    """All links of the host."""
    surveyed: Collection[SandboxRecord] = ()
    """Actual state of the sandboxes that run without a matching row."""


class RecoveryPlan(NamedTuple):
    """What to do with everything that was found."""

    kept: list[SandboxRecord]
    """Claimed and alive: kept unchanged."""
    ready: list[SandboxRecord]
    """Unclaimed and complete: returned to the pool."""
    lost: list[SandboxRecord]
    """Claimed and dead: their tasks are told; removed when the task releases them."""
    dropped: list[SandboxRecord]
    """Incomplete, or the second one of a task: without a task."""
    stray_containers: list[str]
    """Ids of containers that are ours but otherwise unknown."""
    stray_links: list[str]
    """Names of links whose address is in no row."""
    changed: list[SandboxRecord]
    """Rows to write: recreated or corrected."""
    void: list[str]
    """Keys of rows that do not match anything."""


def match(
    rows: Iterable[SandboxRecord], seen: Seen, holders: Mapping[str, Holder], pool: IPv4Network
) -> RecoveryPlan:
    """Match what the store, the engine and the kernel know.

    Args:
        rows: all rows of the store.
        seen: what engine and kernel have.
        holders: which task has which sandbox, by its engine id.
        pool: network from which addresses are taken; unclaimed sandboxes outside of it are dropped,
            claimed ones stay.
    """
    containers = seen.containers
    running = {summary.id for summary in containers if summary.state in {"running", "paused"}}
    of_today = {s.id for s in containers if s.labels.get(FORM_LABEL) == FORM}
    before = {row.ipv4: row for row in rows}
    now = _corrected(before, seen.surveyed, holders)
    living = {*seen.alive, *(record.ipv4 for record in seen.surveyed)}
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
        elif (
            is_alive
            and not row.task_arn
            and row.container_id in of_today
            and _is_whole(row, seen.ports, pool)
        ):
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


def of_unknown_groups(rows: Iterable[SandboxRecord], plan: RecoveryPlan) -> list[str]:
    """Return the addresses of living tasks of which no row says their security groups."""
    tasks = {row.ipv4: row.task_arn for row in rows}
    unknown = [kept for kept in plan.kept if tasks.get(kept.ipv4) != kept.task_arn]
    return [address for kept in unknown for address in kept.addresses]


def drop_unfit(plan: RecoveryPlan, is_fit: Callable[[SandboxRecord], bool]) -> None:
    """Move the unclaimed sandboxes that new tasks cannot have to those that are dropped."""
    unfit = [record for record in plan.ready if not is_fit(record)]
    plan.ready[:] = [record for record in plan.ready if is_fit(record)]
    plan.dropped.extend(unfit)


def _corrected(
    rows: Mapping[str, SandboxRecord],
    surveyed: Collection[SandboxRecord],
    holders: Mapping[str, Holder],
) -> dict[str, SandboxRecord]:
    """Return the corrected rows, by address."""
    really = {seen.container_id: seen.ipv4 for seen in surveyed}
    # A row whose sandbox has another address is completely wrong.
    corrected = {
        ipv4: row for ipv4, row in rows.items() if really.get(row.container_id, ipv4) == ipv4
    }
    for seen in surveyed:
        row = rows.get(seen.ipv4)
        if row is not None and row.container_id == seen.container_id:
            # Only the data from engine and kernel were wrong: the claim stays.
            corrected[seen.ipv4] = replace(
                seen,
                task_arn=row.task_arn,
                attachment_id=row.attachment_id,
                claimed_at=row.claimed_at,
                created_at=row.created_at,
                security_groups=row.security_groups,
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
    """Return whether a running sandbox must be examined: its row is missing or does not match."""
    return row is None or row.ipv4 != ipv4 or ipv4 not in alive


def _is_whole(row: SandboxRecord, ports: Collection[str], pool: IPv4Network) -> bool:
    return row.host_interface in ports and _within(row.ipv4, pool)


def _is_ours(link: str, pool: IPv4Network) -> bool:
    address = address_of_link(link)
    return address is not None and _within(address, pool)


def _within(ipv4: str, pool: IPv4Network) -> bool:
    return IPv4Address(ipv4) in pool
