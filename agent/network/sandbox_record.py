"""One sandbox as a row of the store, which decides who has which address.

A row exists from the moment a sandbox is complete until it is completely removed. The one commit
that claims the sandbox sets ``task_arn``. Plain data.

Tests: ``tests/unit/network/sandboxes/test_recovery.py``, ``tests/integration/network/test_life.py``.
"""

from __future__ import annotations

import msgspec
from msgspec import Struct

from agent.model.eni import TaskEni
from agent.model.task import TaskNetwork
from agent.network.address_pool import Ipv6Lease
from agent.network.kernel.namespaces import Process

KIND = "sandbox"
"""Kind of the rows; the key is the address."""
FORM_LABEL = "ecs-host-agent.sandbox-form"
"""On every pause container: how it was made."""
FORM = "2"
"""What tasks that are yet to come need: 2 can share its IPC namespace. Older ones have no such label."""
CURSOR_META = "network.cursor"
"""Meta value: the last address handed out."""


class SandboxRecord(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A complete sandbox, and the task that holds it. Times are Unix seconds."""

    ipv4: str
    prefix_len: int
    gateway: str
    mac: str
    mtu: int
    hostname: str
    host_interface: str
    container_id: str
    pid: int
    started_ticks: int
    netns: int
    created_at: float
    boot_id: str = ""
    """The boot in which the process runs; empty in rows of earlier versions."""
    driver: str = "bridge"
    """The driver that made its links."""
    ipv6: Ipv6Lease | None = None
    """None if the task has no IPv6 from the pool."""
    ipv6_only: bool = False
    """Whether the IPv4 address leads to the agent alone, and is not shown."""
    task_arn: str = ""
    attachment_id: str = ""
    claimed_at: float = 0.0
    security_groups: tuple[str, ...] = ()
    """Ids of the groups whose rules the task has; without any, nothing is filtered."""
    eni: TaskEni | None = None
    """The task's interface; the address above is then only that of its link to the agent."""
    eni_placed: bool = False
    """Whether the interface is in the sandbox. While it is not, the task has no network yet."""

    @property
    def is_complete(self) -> bool:
        """Whether containers can be started in it."""
        return self.eni is None or self.eni_placed

    @property
    def addresses(self) -> tuple[str, ...]:
        """The addresses from which the task sends to others than the agent; of an ENI, none."""
        ipv4 = () if self.ipv6_only else (self.ipv4,)
        return (*ipv4, self.ipv6.address) if self.ipv6 is not None else ipv4

    def is_of_boot(self, boot_id: str) -> bool:
        """Return whether the process can still run: another boot has other processes, whatever their ids."""
        return self.boot_id in ("", boot_id)

    @property
    def process(self) -> Process:
        """The pause process that holds the namespace."""
        return Process(self.pid, self.started_ticks, self.netns)

    def claimed(
        self,
        task_arn: str,
        attachment_id: str,
        now: float,
        security_groups: tuple[str, ...] = (),
    ) -> SandboxRecord:
        """Return the row after a task has claimed the sandbox."""
        return msgspec.structs.replace(
            self,
            task_arn=task_arn,
            attachment_id=attachment_id,
            claimed_at=now,
            security_groups=security_groups,
        )

    def network(self) -> TaskNetwork:
        """Return the task's network."""
        if self.eni is not None:
            return self._network_of(self.eni)
        ipv6 = self.ipv6 or Ipv6Lease("", 0, "")
        return TaskNetwork(
            attachment_id=self.attachment_id,
            mac=self.mac,
            ipv4="" if self.ipv6_only else self.ipv4,
            prefix_len=0 if self.ipv6_only else self.prefix_len,
            gateway="" if self.ipv6_only else self.gateway,
            ipv6=ipv6.address,
            ipv6_prefix_len=ipv6.prefix_len,
            ipv6_gateway=ipv6.gateway,
            agent_side_ipv4=self.ipv4 if self.ipv6_only else "",
            hostname=self.hostname,
            host_interface=self.host_interface,
            sandbox_id=self.container_id,
            sandbox_pid=self.pid,
        )

    def _network_of(self, eni: TaskEni) -> TaskNetwork:
        return TaskNetwork(
            attachment_id=self.attachment_id,
            mac=eni.mac,
            ipv4=eni.ipv4[0] if eni.ipv4 else "",
            prefix_len=eni.ipv4_prefix_len,
            gateway=eni.ipv4_gateway,
            ipv6=eni.ipv6[0] if eni.ipv6 else "",
            ipv6_gateway=eni.ipv6_gateway,
            hostname=eni.hostname,
            host_interface=self.host_interface,
            sandbox_id=self.container_id,
            sandbox_pid=self.pid,
            eni=eni,
            agent_side_ipv4=self.ipv4,
        )


encode = msgspec.json.Encoder().encode
decode = msgspec.json.Decoder(SandboxRecord).decode
"""Raises ``msgspec.ValidationError`` or ``msgspec.DecodeError`` for a row that cannot be read."""
