"""Creates and removes one sandbox: a pause container whose namespace has its link and address.

Uses the engine and the kernel; knows nothing about tasks, pools or rows. If creation fails halfway,
the sandbox is removed before the error is raised.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from typing import TYPE_CHECKING, Any, Final, TypeVar

import structlog

from agent.errors import NameConflict, NetworkFailure, NoSuchContainer, NoSuchImage
from agent.network import addresses, sandbox_record
from agent.network.background import uninterrupted
from agent.network.bridge.links import SandboxLink
from agent.network.kernel import namespaces
from agent.network.names import resolvers
from agent.network.sandbox_record import FORM, FORM_LABEL, SandboxRecord
from agent.network.settings import DNS_SETTING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from concurrent.futures import Executor

    from agent.model.eni import TaskEni
    from agent.network.address_pool import Ipv6Lease
    from agent.network.host.shared import HostNetwork
    from agent.network.settings import NetworkSettings
    from agent.runtime.protocol import ContainerEngine

T = TypeVar("T")

SANDBOX_LABEL = "ecs-host-agent.sandbox"
"""Label of every pause container; the value is the owner from ``NetworkSettings``."""
ADDRESS_LABEL = "ecs-host-agent.sandbox-address"
ENI_LABEL = "ecs-host-agent.sandbox-eni"
"""The interface that the sandbox was made for, as JSON, in case its row is lost."""


IPV6_SYSCTLS: Final = {
    # The engine turns IPv6 off in a namespace without a network of its own.
    "net.ipv6.conf.all.disable_ipv6": "0",
    # The address is leased, so nobody else has it, and nobody else gives addresses or routes.
    "net.ipv6.conf.default.accept_dad": "0",
    "net.ipv6.conf.default.accept_ra": "0",
    "net.ipv6.conf.default.autoconf": "0",
}
"""Settings of a namespace with IPv6, made by the engine before anything is in it."""


class NameTaken(NetworkFailure):
    """A foreign container has the name for this address: the address cannot be used."""


_STOP_S = 2
"""The pause program exits on SIGTERM at once."""
_TIDY_LIMIT_S = 5.0
"""How long a failure or the agent's end waits for an engine that may hang."""
_log = structlog.get_logger(__name__)


def container_body(
    image: str,
    ipv4: str,
    dns: resolvers.Resolvers,
    labels: dict[str, str],
    eni: TaskEni | None = None,
    *,
    ipv6: Ipv6Lease | None = None,
    ipv6_only: bool = False,
) -> dict[str, Any]:
    """Return the create body of a pause container. Pure.

    Containers that join get host name, hosts file and resolv.conf from it, because the engine
    shares them together with the namespace. With an ENI, host name and name servers are those of
    the order.
    """
    hostname = addresses.hostname_of(ipv4) if eni is None else eni.hostname
    named = ipv6.address if ipv6 is not None and ipv6_only else ipv4
    own = [named] if eni is None else eni.ipv4 or eni.ipv6
    if eni is not None and (eni.dns_servers or eni.dns_search):
        dns = resolvers.Resolvers(
            servers=eni.dns_servers or dns.servers,
            search=eni.dns_search or dns.search,
            options=dns.options,
        )
    return {
        "Image": image,
        "Hostname": hostname,
        "Labels": labels,
        "HostConfig": {
            "NetworkMode": "none",
            # For tasks whose containers share an IPC namespace; a process namespace needs no word.
            "IpcMode": "shareable",
            "Dns": list(dns.servers),
            "DnsSearch": list(dns.search),
            "DnsOptions": list(dns.options),
            "ExtraHosts": [f"{hostname}:{address}" for address in own if hostname],
            "ReadonlyRootfs": True,
            "CapDrop": ["ALL"],
            "SecurityOpt": ["no-new-privileges"],
            "LogConfig": {"Type": "none"},
            **({"Sysctls": IPV6_SYSCTLS} if ipv6 is not None and eni is None else {}),
        },
    }


class SandboxMaker:
    """Creates and removes sandboxes. Safe for concurrent use by tasks of one event loop."""

    def __init__(
        self,
        *,
        engine: ContainerEngine,
        host: HostNetwork,
        settings: NetworkSettings,
        image: str,
        load_image: Callable[[], Awaitable[object]],
        files: Executor,
        boot_id: str,
    ) -> None:
        self._engine = engine
        self._host = host
        self._settings = settings
        self._image = image
        self._load_image = load_image
        self._loading: asyncio.Task[object] | None = None
        self._files = files
        self._slots = asyncio.Semaphore(settings.parallel)
        self._warned_of_dns = False
        self._boot_id = boot_id

    async def make(self, ipv4: str, eni: TaskEni | None = None) -> SandboxRecord:
        """Return a new, complete sandbox with this address.

        For a task with an ENI, the sandbox has only the link to the agent; the ENI is still to be
        placed.

        Raises:
            RuntimeFailure: the engine refused, timed out or is down.
            NameTaken: another agent, or an operator, has a container with the name for this
                address.
            NetworkFailure: the kernel refused.
        """
        async with self._slots:
            begun = time.monotonic()
            dns = await self._block(self._resolvers)
            container_id = await self._create(ipv4, dns, eni)
            try:
                await self._engine.start_container(container_id)
                started = time.monotonic()
                record = await self._plumb(ipv4, container_id, eni)
            except BaseException:
                # Even if cancelled. If the removal is interrupted, the next start completes it, or
                # the next user of the address.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_TIDY_LIMIT_S):
                        await self.remove(container_id, addresses.link_name_of(ipv4))
                raise
            _log.debug(
                "sandbox created", ipv4=ipv4, container=container_id[:12],
                engine_ms=round((started - begun) * 1000, 1),
                plumb_ms=round((time.monotonic() - started) * 1000, 1),
            )  # fmt: skip
            return record

    async def remove(self, container_id: str, host_interface: str) -> None:
        """Remove link and container; returns when both are gone. Idempotent.

        The link is removed first, so that from then on nothing answers for the address.
        """
        await self._host.detach(host_interface)
        if not container_id:
            return
        await self._engine.stop_container(container_id, timeout_s=_STOP_S)
        await self._engine.remove_container(container_id, force=True)

    async def remove_unfinished(self, ipv4: str) -> None:
        """Remove what a failed ``make`` may have left, as when the engine died in the middle of it. Idempotent.

        Only while nobody makes a sandbox with this address.
        """
        await self._host.detach(addresses.link_name_of(ipv4))
        with contextlib.suppress(NameTaken):
            await self._remove_leftover(addresses.container_name_of(ipv4))

    async def reattach(self, record: SandboxRecord) -> None:
        """Recreate the link of a living sandbox after somebody removed it, or part of it.

        Ends even if cancelled: what is left of the old link is removed before there is a new one.
        """
        await uninterrupted(self._attach(record.process, self._link_of(record)))

    async def _attach(self, process: namespaces.Process, attachment: SandboxLink) -> None:
        netns = await self._block(namespaces.open_netns, process)
        try:
            await self._host.attach(netns, attachment)
        finally:
            os.close(netns)

    async def _create(self, ipv4: str, dns: resolvers.Resolvers, eni: TaskEni | None) -> str:
        name = addresses.container_name_of(ipv4)
        labels = {SANDBOX_LABEL: self._settings.owner, ADDRESS_LABEL: ipv4, FORM_LABEL: FORM}
        if eni is not None:
            labels[ENI_LABEL] = sandbox_record.encode(eni).decode()
        ipv6, ipv6_only = self._host.ipv6_of(ipv4), self._settings.is_ipv6_only
        body = container_body(self._image, ipv4, dns, labels, eni, ipv6=ipv6, ipv6_only=ipv6_only)
        try:
            return await self._create_as(name, body)
        except NoSuchImage:
            await self._bring_image()
        return await self._create_as(name, body)

    async def _bring_image(self) -> None:
        """Load the pause image after it was removed; concurrent callers share one load."""
        if self._loading is None or self._loading.done():
            _log.warning("the pause image was removed; loading it again", image=self._image)
            self._loading = asyncio.ensure_future(self._load_image())
            # All callers may be gone by then, and nobody handles its failure.
            self._loading.add_done_callback(lambda task: task.cancelled() or task.exception())
        await asyncio.shield(self._loading)

    async def _create_as(self, name: str, body: dict[str, Any]) -> str:
        try:
            return await self._engine.create_container(name, body)
        except NameConflict:
            # The address is ours alone, so a container of ours with its name is a leftover.
            await self._remove_leftover(name)
            return await self._engine.create_container(name, body)

    async def _remove_leftover(self, name: str) -> None:
        try:
            state = await self._engine.inspect_container(name)
        except NoSuchContainer:
            return
        if state.labels.get(SANDBOX_LABEL) != self._settings.owner:
            raise NameTaken(
                f"a container named {name} exists that is not this agent's; remove or rename it"
            )
        await self._engine.remove_container(state.id, force=True)

    async def _plumb(self, ipv4: str, container_id: str, eni: TaskEni | None) -> SandboxRecord:
        state = await self._engine.inspect_container(container_id)
        process = await self._block(namespaces.identify, state.pid) if state.running else None
        if process is None:
            raise NetworkFailure(
                f"the pause container of {ipv4} ended at once "
                f"(exit code {state.exit_code}): {state.error or 'no error given'}"
            )
        attachment = self._new_link(ipv4, agent_only=eni is not None)
        await self._attach(process, attachment)
        return SandboxRecord(
            ipv4=ipv4,
            prefix_len=attachment.prefix_len,
            gateway=attachment.gateway,
            mac=attachment.mac,
            mtu=attachment.mtu,
            hostname=addresses.hostname_of(ipv4),
            host_interface=attachment.host_interface,
            container_id=container_id,
            pid=process.pid,
            started_ticks=process.started_ticks,
            netns=process.netns,
            created_at=time.time(),
            boot_id=self._boot_id,
            driver=self._host.driver,
            ipv6=attachment.ipv6,
            ipv6_only=attachment.ipv6_only,
            eni=eni,
        )

    def _new_link(self, ipv4: str, *, agent_only: bool) -> SandboxLink:
        ipv6 = None if agent_only else self._host.ipv6_of(ipv4)
        return SandboxLink(
            host_interface=addresses.link_name_of(ipv4),
            mac=self._host.mac_of(ipv4),
            ipv4=ipv4,
            prefix_len=self._host.subnet.prefix_len,
            gateway=self._host.subnet.gateway,
            mtu=self._host.mtu,
            blocked=self._blocked(ipv6),
            agent_only=agent_only,
            ipv6=ipv6,
            ipv6_only=ipv6 is not None and self._settings.is_ipv6_only,
        )

    def _link_of(self, record: SandboxRecord) -> SandboxLink:
        return SandboxLink(
            host_interface=record.host_interface,
            mac=record.mac,
            ipv4=record.ipv4,
            prefix_len=record.prefix_len,
            gateway=record.gateway,
            mtu=record.mtu,
            blocked=self._blocked(record.ipv6),
            agent_only=record.eni is not None,
            ipv6=record.ipv6,
            ipv6_only=record.ipv6_only,
        )

    def _blocked(self, ipv6: Ipv6Lease | None) -> tuple[str, ...]:
        blocked = self._settings.blocked_addresses
        return tuple(prefix for prefix in blocked if ipv6 is not None or ":" not in prefix)

    def _resolvers(self) -> resolvers.Resolvers:
        """Read the host's name servers each time, because they may change (DHCP). Blocks."""
        host = resolvers.of_host()
        dns = resolvers.Resolvers(
            servers=self._settings.dns_servers or host.servers,
            search=host.search,
            options=host.options,
        )
        if not dns.servers and not self._warned_of_dns:
            self._warned_of_dns = True
            _log.warning(
                "no name server that tasks can reach; the engine uses public ones",
                mend=f"set {DNS_SETTING}",
            )
        return dns

    async def _block(self, work: Callable[..., T], *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._files, work, *arguments)
