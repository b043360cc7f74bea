"""Makes the parts of task networks and connects them, taking over what an earlier process left."""

from __future__ import annotations

import asyncio
import contextlib
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import structlog

from agent.errors import StateFailure
from agent.network.address_pool import AddressPool, parse_pools
from agent.network.bridge.links import HostLinks
from agent.network.drivers.opening import WITH_PARENT, DriverParts, open_driver, refuse_change
from agent.network.groups import bridge_filter
from agent.network.groups.group_state import GroupState
from agent.network.host.agent_address import AgentAddress, Doors
from agent.network.host.firewall import Firewall
from agent.network.host.fleet_rules import NO_FLEET, FleetNetworks
from agent.network.host.kernel_messages import EVERYTHING
from agent.network.host.repair_loop import Suspicions
from agent.network.host.shared import HostNetwork
from agent.network.host.watch import HostWatch
from agent.network.inspection.inspection import NetworkInspection
from agent.network.kernel import namespaces
from agent.network.kernel.netlink import NetlinkLane
from agent.network.sandboxes import recovery
from agent.network.sandboxes import survey as surveys
from agent.network.sandboxes.leftovers import Leftovers
from agent.network.sandboxes.lifecycle import SandboxLifecycle
from agent.network.sandboxes.sandbox import SandboxMaker
from agent.network.sandboxes.sandbox_table import SandboxTable
from agent.network.sandboxes.survey import Survey
from agent.network.sandboxes.task_enis import TaskEnis
from agent.network.upkeep import Upkeep

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from agent.network.drivers.contract import TaskDriver
    from agent.network.fleet.fleet import FleetNetwork
    from agent.network.sandbox_record import SandboxRecord
    from agent.network.sandboxes.recovery import Holder
    from agent.network.settings import FleetSettings, NetworkSettings
    from agent.runtime.protocol import ContainerEngine
    from agent.state.store import StateStore

CLOSE_LIMIT_S = 5.0
_log = structlog.get_logger(__name__)


class NetworkParts(NamedTuple):
    """What ``pool.TaskNetworks`` is made of; ``closing`` closes all of it."""

    table: SandboxTable
    addresses: AddressPool
    host: HostNetwork
    groups: GroupState
    filters_tasks: bool
    """Whether this host can enforce security groups, and is told what they allow."""
    is_told_of_groups: bool
    lifecycle: SandboxLifecycle
    upkeep: Upkeep
    leftovers: Leftovers
    inspection: NetworkInspection
    suspicions: Suspicions
    enis: TaskEnis
    fleet: FleetNetwork | None
    """None if this host takes no part in the network between hosts."""
    files: Executor
    closing: contextlib.AsyncExitStack


async def assemble(
    settings: NetworkSettings,
    *,
    store: StateStore,
    engine: ContainerEngine,
    image: str,
    load_image: Callable[[], Awaitable[object]],
    holders: Mapping[str, Holder],
    is_told_of_groups: bool,
) -> NetworkParts:
    """Return the parts, in use already; takes and raises what ``TaskNetworks.open`` does."""
    parse_pools(settings.pool_cidr, settings.ipv6_cidr)
    async with contextlib.AsyncExitStack() as closing:
        files = ThreadPoolExecutor(max_workers=4, thread_name_prefix="network")
        closing.callback(files.shutdown, wait=False, cancel_futures=True)
        lane = await NetlinkLane.open()
        closing.push_async_callback(lane.close)
        table = SandboxTable(store)
        rows, cursor = await table.load()
        groups = await GroupState.open(store)
        addresses = AddressPool(
            settings.pool_cidr,
            ipv6_cidr=settings.ipv6_cidr,
            reserved_cidr=settings.reserved_cidr,
            quarantine_s=settings.quarantine_s,
            cursor=cursor,
            named=settings.pool_from,
            ipv6_named=settings.ipv6_pool_from,
        )
        links = HostLinks(lane, settings.bridge, addresses.ipv6_of)
        fleet = await _fleet_network(settings, lane, links)
        driver = await _driver(rows, DriverParts(settings, lane, links, addresses, files))
        rules = _firewall(settings, driver)
        closing.callback(rules.ports.close)
        closing.callback(rules.groups.close)
        loop = asyncio.get_running_loop()
        cannot_filter = await loop.run_in_executor(files, _why_unfiltered, driver.name)
        if cannot_filter and is_told_of_groups:
            _log.warning("security groups are not enforced here", reason=cannot_filter)
        host = HostNetwork(
            driver=driver, links=links, agent_address=AgentAddress(lane), rules=rules, files=files
        )
        maker = SandboxMaker(
            engine=engine,
            host=host,
            settings=settings,
            image=image,
            load_image=load_image,
            files=files,
            boot_id=await loop.run_in_executor(files, namespaces.boot_id),
        )
        enis = TaskEnis(lane, settings, files)
        closing.callback(enis.close)
        survey = Survey(
            engine=engine,
            lane=lane,
            links=links,
            driver=driver,
            pool=addresses,
            settings=settings,
            enis=enis,
            files=files,
        )
        suspicions = Suspicions()
        lifecycle = SandboxLifecycle(
            settings,
            table=table,
            maker=maker,
            addresses=addresses,
            suspicions=suspicions,
            enis=enis,
        )
        closing.push_async_callback(lifecycle.close, CLOSE_LIMIT_S)
        upkeep = Upkeep(
            settings,
            host=host,
            table=table,
            lifecycle=lifecycle,
            maker=maker,
            survey=survey,
            suspicions=suspicions,
            enis=enis,
            fleet=fleet,
            files=files,
        )
        seen = await survey.everything(rows)
        plan = recovery.match(rows, seen, holders, addresses.network)
        recovery.drop_unfit(plan, partial(_is_fit, driver, addresses))
        leftovers = Leftovers(
            addresses,
            plan,
            seen.containers,
            remove_container=partial(engine.remove_container, force=True),
            remove_link=host.detach,
        )
        filters_tasks = is_told_of_groups and not cannot_filter
        await loop.run_in_executor(
            files,
            rules.groups.restore,
            groups.groups,
            {address: kept.security_groups for kept in plan.kept for address in kept.addresses},
            recovery.of_unknown_groups(rows, plan) if filters_tasks else (),
        )
        await _take_over(plan, table, addresses, host, lifecycle)
        await enis.take_over(plan.kept)
        if await upkeep.put_right():
            # A link that cannot be created must not delay the other tasks.
            suspicions.add(EVERYTHING)
        watch = HostWatch(upkeep.ours, suspicions.add, ipv6=bool(addresses.ipv6_network))
        closing.callback(watch.close)
        _log.info(
            "task networks ready", kept=len(plan.kept), warm=len(plan.ready),
            lost=len(plan.lost), recognized=len(plan.changed), unclear=len(leftovers),
        )  # fmt: skip
        inspection = NetworkInspection(
            settings,
            host=host,
            table=table,
            addresses=addresses,
            survey=survey,
            upkeep=upkeep,
            engine=engine,
            fleet=fleet,
            files=files,
        )
        return NetworkParts(
            table=table,
            addresses=addresses,
            host=host,
            groups=groups,
            filters_tasks=filters_tasks,
            is_told_of_groups=is_told_of_groups,
            lifecycle=lifecycle,
            upkeep=upkeep,
            leftovers=leftovers,
            inspection=inspection,
            suspicions=suspicions,
            enis=enis,
            fleet=fleet,
            files=files,
            closing=closing.pop_all(),
        )


async def _driver(rows: Sequence[SandboxRecord], parts: DriverParts) -> TaskDriver:
    """Return the driver of the settings, unless tasks run that have another or other addresses."""
    loop = asyncio.get_running_loop()
    alive = await loop.run_in_executor(parts.files, surveys.living, rows)
    claimed = [row for row in rows if row.task_arn and row.ipv4 in alive]
    refuse_change(parts.settings.driver, claimed, parts.pool)
    return await open_driver(parts)


def _firewall(settings: NetworkSettings, driver: TaskDriver) -> Firewall:
    doors = Doors(
        settings.server_port,
        settings.engine_bridge,
        settings.bridge if driver.name == "bridge" else "",
        settings.introspection_port,
        settings.closed_ports,
    )
    return Firewall(
        settings.table,
        settings.blocked_addresses,
        doors=doors,
        ports=driver.rules,
        resolvers=settings.dns_servers,
        fleet=_fleet_networks(settings.fleet),
    )


def _fleet_networks(fleet: FleetSettings | None) -> FleetNetworks:
    if fleet is None:
        return NO_FLEET
    ipv6 = fleet.ipv6_fleet_range if fleet.ipv6_range else ""
    ipv4 = fleet.fleet_range if fleet.range else ""
    return FleetNetworks(ipv4, ipv6, fleet.gateway, fleet.ipv6_gateway)


async def _fleet_network(
    settings: NetworkSettings, lane: NetlinkLane, links: HostLinks
) -> FleetNetwork | None:
    """Return the part of this host in the network between hosts; its code is loaded only then."""
    if settings.fleet is None:
        return None
    from agent.network.fleet.fleet import open_fleet, refuse_mtu  # noqa: PLC0415 - only what is used

    mtu = await links.default_mtu() - settings.tunnel_bytes
    if settings.tunnel_bytes:
        refuse_mtu(settings.mtu, mtu)
    return await open_fleet(settings.fleet, lane, mtu)


def _is_fit(driver: TaskDriver, addresses: AddressPool, row: SandboxRecord) -> bool:
    """Return whether an unclaimed sandbox is as a new one would be."""
    return (
        row.driver == driver.name
        and row.mtu == driver.mtu
        and row.ipv6 == driver.ipv6_of(row.ipv4)
        and row.ipv6_only == addresses.is_ipv6_only
        and not addresses.is_reserved(row.ipv4)
    )


def _why_unfiltered(driver: str) -> str:
    """Return why packets of tasks cannot be filtered on this host; empty if they can. Blocks."""
    if driver in WITH_PARENT:
        return f"with the driver {driver}, packets of tasks do not pass the rules of their host"
    return bridge_filter.why_not() if driver == "bridge" else ""


async def _take_over(
    plan: recovery.RecoveryPlan,
    table: SandboxTable,
    addresses: AddressPool,
    host: HostNetwork,
    lifecycle: SandboxLifecycle,
) -> None:
    table.take_over(plan)
    try:
        await table.correct(plan.changed, plan.void)
    except StateFailure as error:
        _log.warning("rows of sandboxes not corrected", error=str(error))
    for ipv4 in table.records:
        addresses.hold(ipv4)
    await host.ensure(table.in_use())
    lifecycle.take_over(plan)
