"""Records of sandboxes as tests need them."""

from __future__ import annotations

from agent.network import addresses
from agent.network.sandbox_record import SandboxRecord


def record(n: int, task: str = "", pool: str = "10.9.0") -> SandboxRecord:
    ipv4 = f"{pool}.{n}"
    return SandboxRecord(
        ipv4=ipv4, prefix_len=24, gateway=f"{pool}.1", mac=addresses.mac_of(ipv4), mtu=1500,
        hostname=addresses.hostname_of(ipv4), host_interface=addresses.link_name_of(ipv4),
        container_id=f"c{n}", pid=1000 + n, started_ticks=n, netns=n, created_at=1.0,
        task_arn=task, attachment_id=f"eni-{n}" if task else "",
    )  # fmt: skip
