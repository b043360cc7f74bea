"""How an etcd is: its size and alarms, told to the operator with the mend; makes space where that helps.

etcd refuses all that puts a key once its file is larger than its quota, and keeps refusing until it is told not
to. It then still deletes, compacts and defragments. Its file never shrinks by itself, and most of what fills it is
history; so what leads forgets the history, has each member write its file anew, one after the other, and ends the
alarm. If that makes no space, other keys do, and the operator is told.

Tests: ``tests/integration/controlplane/test_etcd_faults.py``.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import structlog
from msgspec import Struct

from agent.controlplane.store.contract import StoreFailure
from agent.controlplane.store.etcd_client import MEND_S, READ_S, Header
from agent.controlplane.store.etcd_settings import DEFAULT_QUOTA_BYTES

if TYPE_CHECKING:
    from agent.controlplane.store.etcd import EtcdStore

LOOK_EVERY_S: Final = 10.0
MEND_EVERY_S: Final = 60.0
FULL_SHARE: Final = 0.8
"""Of the quota, above which the operator is told."""
_MIB: Final = 1 << 20

_log = structlog.get_logger(__name__)


class _Alarm(Struct):
    alarm: str = "NONE"
    memberID: int = 0  # noqa: N815 - etcd's name


class _Alarms(Struct):
    header: Header = Header()
    alarms: list[_Alarm] = []


class _Status(Struct):
    header: Header = Header()
    dbSize: int = 0  # noqa: N815 - etcd's name
    dbSizeInUse: int = 0  # noqa: N815 - etcd's name


class _Done(Struct):
    header: Header = Header()


class Health:
    """What is known of one etcd."""

    def __init__(self, store: EtcdStore) -> None:
        self._store = store
        self.quota_bytes = DEFAULT_QUOTA_BYTES
        self.may_mend = False
        """Whether this process makes space in a full etcd: only what leads, or wants to."""
        self.size_bytes = 0
        """Of the largest member's file; 0 while it is not known."""
        self.used_bytes = 0
        self.problem = ""
        """Why etcd cannot be used as it should, for a person; empty if there is no problem."""
        self.warning = ""
        """What should be done soon."""
        self._next_look = self._next_mend = 0.0
        self._denied = ""

    async def look(self) -> None:
        """Ask for size and alarms, unless that was done a moment ago; mends a full etcd if this process may.

        Raises:
            StoreFailure: etcd does not answer.
        """
        now = asyncio.get_running_loop().time()
        if now < self._next_look:
            return
        self._next_look = now + LOOK_EVERY_S
        alarms = {one.alarm for one in await self._alarms()}
        await self._sizes()
        if "NOSPACE" in alarms and self.may_mend and now >= self._next_mend:
            self._next_mend = now + MEND_EVERY_S
            await self._mend()
            alarms = {one.alarm for one in await self._alarms()}
            await self._sizes()
        self.problem, self.warning = self._problem(alarms), self._warning()

    def look_soon(self) -> None:
        """Have the next look not wait."""
        self._next_look = 0.0

    def _problem(self, alarms: set[str]) -> str:
        if "CORRUPT" in alarms:
            return "etcd: a member's data differs from that of the others; replace that member"
        if "NOSPACE" in alarms:
            return (
                f"etcd is full ({self._size()}): raise its --quota-backend-bytes, or delete other keys; then "
                f"`etcdctl defrag --cluster` and `etcdctl alarm disarm`{self._denied}"
            )
        return ""

    def _warning(self) -> str:
        if self.size_bytes > self.quota_bytes * FULL_SHARE:
            return (
                f"etcd is nearly full ({self._size()}; its quota is {self.quota_bytes // _MIB} MiB): "
                "`etcdctl defrag --cluster` frees what is not used; otherwise raise its "
                "--quota-backend-bytes, and tell control by ECS_CONTROL_ETCD_QUOTA"
            )
        return ""

    def _size(self) -> str:
        return f"{self.size_bytes // _MIB} MiB, of which {self.used_bytes // _MIB} MiB are used"

    async def _alarms(self) -> list[_Alarm]:
        body = {"action": "GET"}
        found = await self._store.client.read("/v3/maintenance/alarm", body, _Alarms)
        return [one for one in found.alarms if one.alarm != "NONE"]

    async def _sizes(self) -> None:
        sizes, used = [0], [0]
        for endpoint in self._store.client.endpoints:
            try:
                found = await self._store.client.at(
                    endpoint, "/v3/maintenance/status", {}, _Status, READ_S
                )
            except StoreFailure:
                continue  # that an endpoint is down is told where it matters
            sizes.append(found.dbSize)
            used.append(found.dbSizeInUse)
        self.size_bytes, self.used_bytes = max(sizes), max(used)

    async def _mend(self) -> None:
        """Make space: forget history, defragment each member, end the alarm. Each step may fail."""
        store, client = self._store, self._store.client
        _log.error("etcd is full; making space", size_bytes=self.size_bytes)
        try:
            await store.compact(store.revision)
            for endpoint in client.endpoints:
                await client.at(endpoint, "/v3/maintenance/defragment", {}, _Done, MEND_S)
            for alarm in await self._alarms():
                if alarm.alarm == "NOSPACE":
                    body: dict[str, Any] = {
                        "action": "DEACTIVATE",
                        "memberID": alarm.memberID,
                        "alarm": "NOSPACE",
                    }
                    await client.change("/v3/maintenance/alarm", body, _Alarms)
        except StoreFailure as error:
            _log.error("no space could be made in etcd", error=str(error))
            self._denied = f" (control could not: {error})"
        else:
            self._denied = ""
