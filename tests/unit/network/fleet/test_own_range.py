"""The ranges of this host, as they are kept, and when others take their place."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

import pytest

from agent.errors import NetworkFailure
from agent.model.fleet import ROUTES, FleetUpdate
from agent.network.fleet import own_range
from agent.network.fleet.own_range import OwnRange
from agent.network.settings import FleetSettings
from agent.state import Batch, StateStore
from agent.wiring.fleet import settle_range

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from agent.supervision.lifecycle import ServeSession

IPV4, IPV6 = ("10.208.1.0/24", "10.208.0.0/16"), ("fd00:208:0:1::/64", "fd00:208::/48")


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[StateStore]:
    opened = await StateStore.open(tmp_path / "agent.db")
    yield opened
    await opened.close()


@pytest.mark.parametrize(
    "given", [OwnRange(*IPV4), OwnRange(*IPV4, *IPV6), OwnRange("", "", *IPV6)]
)
async def test_what_is_kept_is_read_again(store: StateStore, given: OwnRange) -> None:
    assert await own_range.read(store) == OwnRange()
    await own_range.keep(store, given)
    assert await own_range.read(store) == given
    await own_range.forget(store)
    assert await own_range.read(store) == OwnRange()


async def test_what_an_earlier_agent_kept_is_read_and_what_cannot_be_is_not(
    store: StateStore,
) -> None:
    for kept, read in (
        (" ".join(IPV4), OwnRange(*IPV4)),
        ("10.208.1.0/24", OwnRange()),
        ("10.209.1.0/24 10.208.0.0/16", OwnRange()),
        ("- - - -", OwnRange()),
        (f"{' '.join(IPV4)} fd00:9::/64 fd00:208::/48", OwnRange()),
    ):
        batch = Batch()
        batch.put_meta(own_range.KEY, kept)
        await store.commit(batch)
        assert await own_range.read(store) == read


@pytest.mark.parametrize(
    "given",
    [
        OwnRange(), OwnRange("10.208.1.0/24", "10.209.0.0/16"), OwnRange("", "", "fd00::/64", "fd01::/48"),
        OwnRange(*IPV4, "fe80::/64", "fe80::/10"), OwnRange(*IPV4, "fd00:208:0:1::/121", "fd00:208::/48"),
    ],
)  # fmt: skip
def test_what_no_task_can_have_is_refused(given: OwnRange) -> None:
    with pytest.raises(NetworkFailure, match="control gave this host"):
        own_range.checked(given)


def test_a_host_takes_the_ranges_that_its_tasks_can_have() -> None:
    update = FleetUpdate(
        range=IPV4[0], fleet_range=IPV4[1], ipv6_range=IPV6[0], ipv6_fleet_range=IPV6[1]
    )
    assert own_range.of(update) == OwnRange(*IPV4, *IPV6)
    assert own_range.of(update, ipv6_only=True) == OwnRange("", "", *IPV6)
    without = FleetUpdate(range=IPV4[0], fleet_range=IPV4[1], ipv6_fleet_range=IPV6[1])
    assert own_range.of(without) == OwnRange(*IPV4)


class Session:
    """Counts how often a session is begun again."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()

    def begin_again(self) -> None:
        self.begun.set()


async def test_ranges_do_not_change_while_tasks_have_ipv6(store: StateStore) -> None:
    session, update = Session(), FleetUpdate(range=IPV4[0], fleet_range=IPV4[1], full=True)

    def settling(used: FleetSettings, *, has_ipv6_tasks: bool) -> asyncio.Task[None]:
        return asyncio.create_task(
            settle_range(
                update,
                used=used,
                has_ipv6_tasks=lambda: has_ipv6_tasks,
                store=store,
                serve_session=cast("ServeSession", session),
            )
        )

    await settling(FleetSettings(driver=ROUTES), has_ipv6_tasks=True)
    same = FleetSettings(driver=ROUTES, range=IPV4[0], fleet_range=IPV4[1])
    await settling(same, has_ipv6_tasks=False)
    assert not session.begun.is_set()
    assert await own_range.read(store) == OwnRange()

    other = FleetSettings(driver=ROUTES, ipv6_range=IPV6[0], ipv6_fleet_range=IPV6[1])
    task = settling(other, has_ipv6_tasks=False)
    await session.begun.wait()
    assert await own_range.read(store) == OwnRange(*IPV4)
    task.cancel()
