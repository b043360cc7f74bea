"""Latency and packet loss on an interface: ``netem`` in the first band of ``prio``, by netlink.

Packets go to the third band unless ``rules`` gave them the priority of the first. A discipline of
somebody else at the root of an interface is left alone, and makes a start fail.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any, Final

from pyroute2.netlink.exceptions import NetlinkError

from agent.errors import NetworkFailure
from agent.network.kernel.netlink import failure, socket_inside

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.network.faults.fault import Impairment

_ROOT: Final = 0xFFFF_FFFF
_PRIO: Final = 0x1_0000
"""Handle 1 of our ``prio``."""
_FIRST_BAND: Final = 0x1_0001
_NETEM: Final = 0x10_0000
"""Handle 10 of our ``netem``."""
_ALL_TO_THIRD: Final = [2] * 16
_LIMIT_PACKETS: Final = 10_000
"""More than are on their way at once, or ``netem`` would lose packets of a fault that only delays."""


class NoNetem(NetworkFailure):
    """The kernel lacks ``prio`` or ``netem``."""


async def start(netns: int, interfaces: Sequence[int], fault: Impairment) -> None:
    """Impair the first band of these interfaces. Idempotent: what is ours is replaced.

    Args:
        netns: descriptor of the namespace; stays open.
        interfaces: the kernel's indices of them.
        fault: what happens to packets.

    Raises:
        NoNetem: the kernel cannot do it.
        NetworkFailure: the kernel refused, or an interface has a discipline of somebody else.
    """
    async with socket_inside(netns) as ipr:
        for index in interfaces:
            try:
                if not await _has_ours(ipr, index):
                    await ipr.tc(
                        "add", "prio", index=index, handle=_PRIO, parent=_ROOT, bands=3,
                        priomap=_ALL_TO_THIRD,
                    )  # fmt: skip
                await ipr.tc(
                    "replace", "netem", index=index, handle=_NETEM, parent=_FIRST_BAND,
                    delay=fault.delay_ms * 1000, jitter=fault.jitter_ms * 1000,
                    loss=fault.loss_percent, limit=_LIMIT_PACKETS,
                )  # fmt: skip
            except NetlinkError as error:
                if error.code == errno.ENOENT:
                    raise NoNetem(
                        "the kernel has no network emulation: install the modules sch_netem and "
                        "sch_prio (Debian: linux-image, Red Hat: kernel-modules-extra)"
                    ) from error
                if error.code in (errno.EEXIST, errno.EINVAL):
                    raise NetworkFailure(
                        f"interface {index} has a queueing discipline of somebody else"
                    ) from error
                raise failure("impairing an interface", error) from error


async def stop(netns: int, interfaces: Sequence[int]) -> None:
    """Remove our disciplines from interfaces. Idempotent.

    Raises:
        NetworkFailure: the kernel refused.
    """
    async with socket_inside(netns) as ipr:
        for index in interfaces:
            try:
                if await _has_ours(ipr, index):
                    await ipr.tc("del", index=index, handle=_PRIO, parent=_ROOT)
            except NetlinkError as error:
                if error.code not in (errno.ENOENT, errno.ENODEV):
                    raise failure("ending the impairment of an interface", error) from error


async def impaired(netns: int, interfaces: Sequence[int]) -> bool:
    """Return whether all of these interfaces have our ``netem``.

    Raises:
        NetworkFailure: the kernel refused.
    """
    async with socket_inside(netns) as ipr:
        try:
            found = [await _disciplines(ipr, index) for index in interfaces]
        except NetlinkError as error:
            raise failure("reading queueing disciplines", error) from error
    return bool(found) and all(("netem", _FIRST_BAND) in each for each in found)


async def _has_ours(ipr: Any, index: int) -> bool:
    # A prio with this handle at the root counts as ours; the kernel gives handles from 8000 by itself.
    return ("prio", _ROOT) in await _disciplines(ipr, index, _PRIO)


async def _disciplines(ipr: Any, index: int, handle: int | None = None) -> set[tuple[str, int]]:
    messages = [m async for m in await ipr.get_qdiscs(index=index)]
    return {
        (m.get("kind") or "", m["parent"])
        for m in messages
        if m["index"] == index and handle in (None, m["handle"])
    }
