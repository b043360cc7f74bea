"""How this control is: hosts, wake-ups, store, slow agents. See ``agent.model.control_status``.

Commits one small key and watches it, to see how long both take just now. Reads the store.

Tests: ``tests/unit/cli/test_control_status.py``.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from typing import TYPE_CHECKING, Final, NamedTuple

import structlog

from agent import __version__
from agent.controlplane import access, records
from agent.controlplane.records import InstanceRecord
from agent.controlplane.store.contract import Put, StoreFailure
from agent.model.control_status import (
    ControlStatus,
    HostsStatus,
    LeaderStatus,
    SlowAgent,
    StoreStatus,
    WakeUpStatus,
)

if TYPE_CHECKING:
    from agent.controlplane.agents.wakeups import WakeUps
    from agent.controlplane.monitoring.fleet_view import Counts
    from agent.controlplane.parts import Parts
    from agent.controlplane.store.contract import Store
    from agent.model.histogram import Histogram

SLOW_S: Final = 5.0
"""An agent makes its next poll at once, or a quarter of a second later."""
SLOW_MOST: Final = 20
"""How many slow agents are named."""
TRIAL_KEY: Final = "/meta/statusTrial"
_TRIAL_S: Final = 5.0

_log = structlog.get_logger(__name__)


class Process(NamedTuple):
    """This process, as a leader is told."""

    host: str
    pid: int
    since: float

    @classmethod
    def here(cls) -> Process:
        """Return it, as having begun now."""
        return cls(socket.gethostname(), os.getpid(), time.time())


async def read(
    parts: Parts, wakeups: WakeUps, process: Process, counts: Counts | None
) -> ControlStatus:
    """Return the status; it is told, too, if the store does not answer.

    Args:
        parts: the store and what is counted.
        wakeups: the polls that are held.
        process: this one.
        counts: of hosts and tasks; None if they cannot be read.
    """
    store = parts.store
    commit_s, watch_s, failure = await _trial(store)
    slow = await _slow(parts, wakeups)
    hosts = counts.hosts if counts is not None else {}
    tasks = counts.tasks if counts is not None else {}
    return ControlStatus(
        version=__version__,
        leader=LeaderStatus(host=process.host, pid=process.pid, since=process.since),
        store=StoreStatus(
            where=parts.store_place.where,
            size_bytes=await asyncio.to_thread(parts.store_place.size_bytes),
            revision=store.revision,
            problem=store.problem or failure,
            commit_s=commit_s,
            watch_s=watch_s,
        ),
        hosts=HostsStatus(
            total=sum(hosts.values()),
            connected=sum(count for host, count in hosts.items() if host.is_connected),
            draining=sum(count for host, count in hosts.items() if host.status == "DRAINING"),
            polls=wakeups.held,
        ),
        tasks_running=sum(count for task, count in tasks.items() if task.status == "RUNNING"),
        wake_ups=WakeUpStatus(
            count=wakeups.times.count,
            p50_s=quantile(wakeups.times, 0.5),
            p99_s=quantile(wakeups.times, 0.99),
        ),
        slow=slow[:SLOW_MOST],
        slow_count=len(slow),
        troubles=parts.troubles(),
    )


def quantile(histogram: Histogram, share: float) -> float:
    """Return the upper bound of the bucket in which a quantile is; 0 for an empty histogram."""
    for bound_s, count in histogram.cumulative():
        if count >= histogram.count * share:
            # The last bucket has no bound of its own.
            return min(bound_s, histogram.bounds_s[-1]) if histogram.count else 0.0
    return 0.0


async def _trial(store: Store) -> tuple[float | None, float | None, str]:
    """Return how long a commit takes and how long until a watch tells of it, and why not if it fails."""
    loop = asyncio.get_running_loop()
    commit_s = watch_s = None
    try:
        async with (
            asyncio.timeout(_TRIAL_S),
            store.watch(TRIAL_KEY, after_revision=store.revision) as watch,
        ):
            told = asyncio.ensure_future(anext(watch))
            try:
                await asyncio.sleep(0)
                began = loop.time()
                await store.txn([], [Put(TRIAL_KEY, b"")])
                committed = loop.time()
                commit_s = committed - began
                await told
                watch_s = max(0.0, loop.time() - committed)
            finally:
                told.cancel()
                await asyncio.wait({told})
    except (StoreFailure, TimeoutError) as error:
        _log.warning("the trial of the store failed", error=repr(error))
        return commit_s, None, str(error) or f"no answer within {_TRIAL_S:g} s"
    return commit_s, watch_s, ""


async def _slow(parts: Parts, wakeups: WakeUps) -> list[SlowAgent]:
    """Return the connected agents that have not come back, most silent first."""
    found: list[SlowAgent] = []
    silent = wakeups.silent(SLOW_S)
    try:
        clusters = await _clusters(parts) if silent else []
        for instance_id, silent_s in silent:
            record = await _connected(parts, wakeups, instance_id, clusters)
            if record is not None:
                found.append(
                    SlowAgent(
                        instance_arn=record.arn,
                        hostname=record.resources.hostname,
                        silent_s=silent_s,
                    )
                )
            if len(found) > 10 * SLOW_MOST:
                break  # so many that their number does not matter
    except StoreFailure as error:
        _log.warning("slow agents cannot be read", error=str(error))
    return found


async def _connected(
    parts: Parts, wakeups: WakeUps, instance_id: str, clusters: list[str]
) -> InstanceRecord | None:
    """Return an instance whose agent counts as connected; None for others."""
    if await parts.store.get(records.alive_key(instance_id)) is None:
        wakeups.forget(instance_id)
        return None
    keys = [records.instance_key(name, instance_id) for name in clusters]
    found = await access.find_many(parts.store, InstanceRecord, keys)
    return next((one.record for one in found.values()), None)


async def _clusters(parts: Parts) -> list[str]:
    return [
        records.last_element(kv.key)
        async for page in access.pages(parts.store, records.CLUSTERS)
        for kv in page
    ]
