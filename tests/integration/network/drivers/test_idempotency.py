"""Every step of every driver can be repeated after any of its netlink calls has failed."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import re
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import pytest
from pyroute2.iproute.linux import AsyncIPRoute
from pyroute2.netlink.exceptions import NetlinkError

from agent.errors import NetworkFailure
from agent.network.address_pool import AddressPool
from agent.network.addresses import link_name_of
from agent.network.bridge.links import HostLinks, SandboxLink
from agent.network.drivers.opening import DriverParts, open_driver
from agent.network.kernel import route_talk
from agent.network.kernel.netlink import NetlinkLane
from agent.network.settings import NetworkSettings
from tests.integration.network.drivers.site import Site, run, site

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterator

    from agent.network.drivers.contract import TaskDriver

T = TypeVar("T")

pytestmark = pytest.mark.integration

POOLS = {"bridge": "192.0.3.0/27", "routed": "192.0.3.0/27", "macvlan": "192.0.2.32/27"}
IPV6_POOLS = {
    "bridge": "fd5e:77::/64",
    "routed": "2001:db8:3::/112",
    "macvlan": "2001:db8:1::20:0/112",
}
IPV6_HOST = "2001:db8:1::2/64"
BLOCKED = ("169.254.169.254/32", "fd00:ec2::254/128")
_TRIES = 10
CALLS = ("link", "addr", "route", "neigh", "fdb")
NOT_STATE = (
    "tentative",
    "operstate",
    "stats64",
    "ifindex",
    "link_index",
    "link_netnsid",
    "ageing",
    "valid_life_time",
    "preferred_life_time",
)


@pytest.fixture(name="site")
def _site() -> Iterator[Site]:
    with site() as made:
        yield made


class Lab(NamedTuple):
    """A driver, and the loop on which its steps run one by one: what looks at the kernel blocks."""

    driver: TaskDriver
    runner: asyncio.Runner
    task: SandboxLink

    def do(self, step: Coroutine[Any, Any, T]) -> T:
        """Run a step to its end."""
        return self.runner.run(step)


@pytest.fixture(params=[*POOLS, *(f"{name}-dual" for name in POOLS), "bridge-ipv6"])
def lab(request: pytest.FixtureRequest, site: Site) -> Iterator[Lab]:
    name, _, versions = request.param.partition("-")
    if versions:
        run(*f"ip addr add {IPV6_HOST} dev {site.link} nodad".split())
        run(*f"ip addr add fe80::2/64 dev {site.link} nodad".split())
        run(*f"ip -6 route add default via fe80::1 dev {site.link}".split())
    settings = NetworkSettings(
        owner="t", pool_cidr="" if versions == "ipv6" else POOLS[name], driver=name,
        parent=site.link, bridge="ecst-idem", table="ecs_test_idem", mtu=1400,
        blocked_addresses=BLOCKED if versions else BLOCKED[:1],
        ipv6_cidr=IPV6_POOLS[name] if versions else "",
    )  # fmt: skip
    pool = AddressPool(settings.pool_cidr, ipv6_cidr=settings.ipv6_cidr, quarantine_s=1)
    with ThreadPoolExecutor(2) as files, asyncio.Runner() as runner:
        lane = runner.run(NetlinkLane.open())
        try:
            links = HostLinks(lane, settings.bridge, pool.ipv6_of)
            made = runner.run(open_driver(DriverParts(settings, lane, links, pool, files)))
            lab = Lab(made, runner, _task_of(made, settings, pool))
            yield lab
            runner.run(made.detach(lab.task.host_interface))
            runner.run(made.remove())
            made.rules.remove()
        finally:
            runner.run(lane.close())


def _task_of(driver: TaskDriver, settings: NetworkSettings, pool: AddressPool) -> SandboxLink:
    subnet, ipv4 = driver.subnet, str(pool.network[5])
    return SandboxLink(
        host_interface=link_name_of(ipv4), mac=driver.mac_of(ipv4), ipv4=ipv4,
        prefix_len=subnet.prefix_len, gateway=subnet.gateway, mtu=driver.mtu,
        blocked=settings.blocked_addresses, ipv6=driver.ipv6_of(ipv4),
        ipv6_only=not settings.pool_cidr,
    )  # fmt: skip


@contextlib.contextmanager
def namespace() -> Iterator[int]:
    """Yield the descriptor of a new network namespace."""
    with subprocess.Popen(["unshare", "-n", "sh", "-c", "echo; exec sleep 600"], stdout=-1) as held:
        assert held.stdout is not None
        held.stdout.read(1)
        netns = os.open(f"/proc/{held.pid}/ns/net", os.O_RDONLY)
        try:
            yield netns
        finally:
            os.close(netns)
            held.kill()


class Faults:
    """Makes one of the calls to the kernel fail."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.left = -1
        for name in CALLS:
            patch.setattr(AsyncIPRoute, name, self._failing(getattr(AsyncIPRoute, name)))
        patch.setattr(route_talk, "exchange", self._failing_in(route_talk.exchange))

    def _failing_in(
        self, exchange: Callable[..., list[NetlinkError | None]]
    ) -> Callable[..., list[NetlinkError | None]]:
        def wrapped(talk: Any, requests: list[Any]) -> list[NetlinkError | None]:
            failing = self.left - 1 if 0 < self.left <= len(requests) else None
            self.left -= len(requests)
            kept = [each for place, each in enumerate(requests) if place != failing]
            answers = exchange(talk, kept)
            if failing is not None:
                answers.insert(failing, NetlinkError(errno.ENOMEM, "injected"))
            return answers

        return wrapped

    def _failing(self, call: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def wrapped(route: Any, command: str, *args: Any, **kwargs: Any) -> Any:
            if command not in ("dump", "get"):
                self.left -= 1
                if self.left == 0:
                    raise NetlinkError(errno.ENOMEM, "injected")
            return await call(route, command, *args, **kwargs)

        return wrapped

    def at(self, number: int, lab: Lab, step: Coroutine[Any, Any, object]) -> bool:
        """Run a step whose call with this number fails; return whether it had so many."""
        self.left = number
        try:
            with contextlib.suppress(NetworkFailure):
                lab.do(step)
            return self.left <= 0
        finally:
            self.left = -1


def state(netns: int) -> str:
    """Return all links, addresses, routes, neighbours and rules, here and in a namespace."""
    enter = ["nsenter", f"--net=/proc/{os.getpid()}/fd/{netns}"]
    found = []
    for prefix in ([], enter):
        for words in (
            "ip -j -d link", "ip -j addr", "ip -j route show table all", "ip -j neigh",
            "bridge -j fdb", "nft -j list ruleset",
        ):  # fmt: skip
            done = subprocess.run([*prefix, *words.split()], capture_output=True, check=True)
            found.append(sorted(_lines(json.loads(done.stdout or b"[]"))))
    return json.dumps(found, indent=1)


def becomes(netns: int, wanted: str) -> str:
    """Return the state, after a moment in which the kernel notices carriers if it has to be."""
    for _ in range(_TRIES):
        found = state(netns)
        if found == wanted:
            break
        time.sleep(0.1)
    return found


def _lines(listed: Any) -> list[str]:
    objects = listed["nftables"] if isinstance(listed, dict) else listed
    # A bridge without ports may have its multicast route before it has a carrier, or only with it.
    kept = (
        e
        for e in objects
        if (e.get("dst"), e.get("flags")) != ("ff00::/8", ["linkdown"]) and not _is_learnt(e)
    )
    lines = (json.dumps(_bare(each), sort_keys=True) for each in kept)
    # The kernel makes up the MACs that are not ours to choose.
    return [re.sub(r"(?!0a:58)[0-9a-f]{2}(:[0-9a-f]{2}){5}", "MAC", line) for line in lines]


def _is_learnt(entry: dict[str, Any]) -> bool:
    """Return whether the kernel has a neighbour from packets; what is set is permanent."""
    state = entry.get("state")
    return isinstance(state, list) and "lladdr" in entry and "PERMANENT" not in state


def _bare(value: Any) -> Any:
    if isinstance(value, dict):
        hidden = {*NOT_STATE, "handle", "metainfo", "packets", "bytes", "gc_timer", "hello_timer"}
        return {k: _bare(v) for k, v in value.items() if k not in hidden}
    return [_bare(each) for each in value] if isinstance(value, list) else value


def test_a_step_that_failed_anywhere_can_be_repeated(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults = Faults(monkeypatch)
    driver, task = lab.driver, lab.task
    with namespace() as netns:
        bare = state(netns)
        lab.do(driver.ensure([]))
        ready = state(netns)
        lab.do(driver.attach(netns, task))
        attached = state(netns)
        assert ready != attached
        lab.do(driver.attach(netns, task))
        assert state(netns) == attached
        lab.do(driver.detach(task.host_interface))
    number = 0
    failed = True
    while failed:
        number += 1
        with namespace() as netns:
            failed = faults.at(number, lab, driver.attach(netns, task))
            lab.do(driver.attach(netns, task))
            assert becomes(netns, attached) == attached, f"call {number} of attach"
            # The child of a parent ends with its namespace, the links to the host at once.
            faults.at(number, lab, driver.detach(task.host_interface))
            lab.do(driver.detach(task.host_interface))
            assert task.host_interface not in state(netns), f"call {number} of detach"
    assert number > 7
    with namespace() as netns:
        for number in range(1, 5):
            lab.do(driver.remove())
            faults.at(number, lab, driver.ensure([]))
            lab.do(driver.ensure([]))
            assert becomes(netns, ready) == ready, f"call {number} of ensure"
            with namespace() as of_a_task:
                lab.do(driver.attach(of_a_task, task))
                assert becomes(of_a_task, attached) == attached, f"call {number} of ensure"
                lab.do(driver.detach(task.host_interface))
            faults.at(number, lab, driver.remove())
            lab.do(driver.remove())
            assert becomes(netns, bare) == bare, f"call {number} of remove"
